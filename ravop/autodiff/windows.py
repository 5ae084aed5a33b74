"""Where the windows of a convolution or pooling lie: strides, dilations and padding of a node, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

from ravop.autodiff.rules import NodeView


@dataclass(frozen=True)
class Windows:
    """One number for each spatial axis in each field; `size` and `count` are the input's and output's lengths."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    size: tuple[int, ...]
    count: tuple[int, ...]

    @property
    def pads(self) -> tuple[int, ...]:
        """As the ONNX attribute has them."""
        return self.before + self.after

    @property
    def leftover(self) -> tuple[int, ...]:
        """Elements at the end (padding included) that no window reaches; negative where windows reach over it."""
        return tuple(
            s + b + a - ((c - 1) * stride + dilation * (k - 1) + 1)
            for s, b, a, c, stride, dilation, k in zip(
                self.size,
                self.before,
                self.after,
                self.count,
                self.strides,
                self.dilations,
                self.kernel,
                strict=True,
            )
        )

    @property
    def disjoint(self) -> bool:
        """Whether no element lies in two windows."""
        return all(
            s >= d * (k - 1) + 1 for s, d, k in zip(self.strides, self.dilations, self.kernel, strict=True)
        )

    @property
    def tiling(self) -> bool:
        """Whether every element lies in one window, and windows are solid blocks."""
        return self.kernel == self.strides and not any(
            (*self.pads, *self.leftover, *(d - 1 for d in self.dilations))
        )


def windows_of(
    n: NodeView, kernel: tuple[int, ...], size: tuple[int, ...], count: tuple[int, ...]
) -> Windows:
    """The windows of a node that slides them over `size` elements and gives `count` (for ConvTranspose the other way round)."""
    ones = (1,) * len(kernel)
    strides, dilations = n.attribute("strides", ones), n.attribute("dilations", ones)
    auto = n.attribute("auto_pad", "NOTSET")
    pads = n.attribute("pads", (0,) * 2 * len(kernel))
    before, after = pads[: len(kernel)], pads[len(kernel) :]
    if n.node.op_type == "ConvTranspose" and (
        auto.startswith("SAME") or n.attribute("output_shape") is not None
    ):
        before, after = _transposed_pads(n, kernel, size, count)
    elif auto == "VALID":
        before = after = (0,) * len(kernel)
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((c - 1) * stride + dilation * (k - 1) + 1 - s, 0)
            for s, c, stride, dilation, k in zip(size, count, strides, dilations, kernel, strict=True)
        ]
        less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        before, after = (less, more) if auto == "SAME_UPPER" else (more, less)
    return Windows(kernel, strides, dilations, before, after, size, count)


def _transposed_pads(
    n: NodeView, kernel: tuple[int, ...], size: tuple[int, ...], count: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a ConvTranspose whose output's shape is told: ONNX puts the odd element before, but for SAME_UPPER after."""
    ones = (1,) * len(kernel)
    extra = n.attribute("output_padding", (0,) * len(kernel))
    parts = zip(
        size, count, n.attribute("strides", ones), n.attribute("dilations", ones), kernel, extra, strict=True
    )
    total = [
        max((c - 1) * stride + e + dilation * (k - 1) + 1 - s, 0) for s, c, stride, dilation, k, e in parts
    ]
    less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (less, more) if n.attribute("auto_pad", "NOTSET") == "SAME_UPPER" else (more, less)
