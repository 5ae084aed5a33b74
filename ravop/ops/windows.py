"""Convolutions and pooling over images: NCHW, (batch, channels, height, width). The building blocks of layers.

`strides`, `dilations` and `kernel` are one number or (height, width). `pads` is one number, (height, width), ONNX's
(top, left, bottom, right), or "same": as much as gives ⌈size / stride⌉, the odd one at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ravop.errors import ArgumentError, ShapeError
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import length_of, lengths_of, wholes
from ravop.ops.catalogue import common, floats, node, operator

__all__ = ["average_pool2d", "conv2d", "conv_transpose2d", "max_pool2d"]

Pair = int | Sequence[int]
Pads = int | Sequence[int] | Literal["same"]


@operator
def conv2d(
    x: Operand,
    w: Operand,
    b: Operand | None = None,
    strides: Pair = 1,
    pads: Pads = 0,
    dilations: Pair = 1,
    group: int = 1,
) -> Op:
    """The cross-correlation of x (N, C, H, W) with the filters w (M, C/group, kH, kW), plus b (M,): (N, M, H', W').

    Example:
        >>> R.conv2d(R.arange(9.0).reshape(1, 1, 3, 3), R.ones((1, 1, 2, 2)))
        [[[[8.0, 12.0], [20.0, 24.0]]]]
    """
    inputs = _images(x, w, b)
    channels = length_of(inputs[1], 1) * group
    if inputs[0].shape[1] != channels or length_of(inputs[1], 0) % group:
        raise ShapeError("the filters do not fit the image", expected=f"{channels} channels, filters a multiple of {group}",
                         received=f"x {list(inputs[0].shape)}, w {list(inputs[1].shape)}, group {group}")  # fmt: skip
    attributes = _window(inputs[0], lengths_of(inputs[1], (2, 3)), strides, pads, dilations)
    return node("Conv", inputs, **attributes, group=group)


@operator
def conv_transpose2d(
    x: Operand, w: Operand, b: Operand | None = None, strides: Pair = 1, pads: Pair = 0, dilations: Pair = 1, group: int = 1,
    output_padding: Pair = 0,
) -> Op:  # fmt: skip
    """The gradient of a convolution, as an operator: x (N, C, H, W), w (C, M/group, kH, kW), b (M,): (N, M, H', W').

    Example:
        >>> R.conv_transpose2d([[[[1.0, 2.0]]]], R.ones((1, 1, 2, 2)))
        [[[[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]]]]
    """
    inputs = _images(x, w, b)
    if inputs[0].shape[1] != inputs[1].shape[0]:
        raise ShapeError(
            "the filters do not fit the image",
            expected=f"{inputs[1].shape[0]} channels",
            received=list(inputs[0].shape),
        )
    attributes = _window(inputs[0], lengths_of(inputs[1], (2, 3)), strides, pads, dilations)
    extra = _pair(output_padding, "output_padding", 0)
    return node("ConvTranspose", inputs, **attributes, group=group, output_padding=extra)


@operator
def max_pool2d(
    x: Operand, kernel: Pair, strides: Pair | None = None, pads: Pads = 0, dilations: Pair = 1
) -> Op:
    """The largest element of each window; padding counts as −inf. `strides` None: windows side by side.

    Example:
        >>> R.max_pool2d(R.arange(16.0).reshape(1, 1, 4, 4), 2)
        [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    (op,) = _images(x)
    size = _pair(kernel, "kernel", 1)
    return node(
        "MaxPool",
        [op],
        kernel_shape=size,
        **_window(op, size, size if strides is None else strides, pads, dilations),
    )


@operator
def average_pool2d(
    x: Operand, kernel: Pair, strides: Pair | None = None, pads: Pads = 0, count_include_pad: bool = False
) -> Op:
    """The mean of each window; padding counts, as zeros, only with `count_include_pad`.

    Example:
        >>> R.average_pool2d(R.arange(16.0).reshape(1, 1, 4, 4), 2)
        [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    (op,) = _images(x)
    size = _pair(kernel, "kernel", 1)
    attributes = _window(op, size, size if strides is None else strides, pads, 1)
    return node(
        "AveragePool", [op], kernel_shape=size, **attributes, count_include_pad=int(count_include_pad)
    )


def _images(x: Operand, *others: Operand | None) -> list[Op]:
    ops = [floats(op) for op in common(*(op for op in (x, *others) if op is not None))]
    for op, axes, what in zip(ops, (4, 4, 1), ("x", "w", "b"), strict=False):
        if op.ndim != axes:
            raise ShapeError(
                f"{what} has another number of axes",
                expected=axes,
                received=f"{op.ndim}, shape {list(op.shape)}",
            )
    return ops


def _pair(value: Pair, what: str, least: int) -> list[int]:
    numbers = wholes(value, what)
    numbers = numbers * 2 if len(numbers) == 1 else numbers
    if len(numbers) != 2 or min(numbers) < least:
        raise ArgumentError(
            f"{what} does not fit", expected=f"a number or a pair, of {least} or more", received=value
        )
    return list(numbers)


def _window(op: Op, kernel: Sequence[int], strides: Pair, pads: Pads, dilations: Pair) -> dict[str, Any]:
    """The attributes that tell where the windows lie; checks that there is at least one."""
    steps, gaps = _pair(strides, "strides", 1), _pair(dilations, "dilations", 1)
    extent = [(k - 1) * gap + 1 for k, gap in zip(kernel, gaps, strict=True)]
    if pads == "same":
        sizes = lengths_of(op, (2, 3))
        sides = [same_pads(*axis) for axis in zip(sizes, steps, extent, strict=True)]
        edges = [before for before, _ in sides] + [after for _, after in sides]
    else:
        edges = list(wholes(pads, "pads"))
        edges = edges * 4 if len(edges) == 1 else edges * 2 if len(edges) == 2 else edges
        if len(edges) != 4 or min(edges) < 0:
            raise ArgumentError(
                "pads does not fit", expected='"same", or 1, 2 or 4 numbers of 0 or more', received=pads
            )
    return {"strides": steps, "pads": edges, "dilations": gaps}


def same_pads(length: int, stride: int, extent: int) -> tuple[int, int]:
    """(before, after) an axis so that windows of `extent` elements have ⌈length / stride⌉ positions; the odd element is after."""
    missing = max((-(-length // stride) - 1) * stride + extent - length, 0)
    return missing // 2, missing - missing // 2
