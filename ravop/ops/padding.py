"""Elements around a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from ravop.errors import ArgumentError
from ravop.graph.dtypes import INT, is_integer
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import length_of
from ravop.ops.catalogue import as_op, cast, integers, node, operator, scalar
from ravop.protocol.tensors import Array

__all__ = ["pad"]

Mode = Literal["constant", "edge", "reflect", "symmetric", "wrap"]


@operator
def pad(
    x: Operand, pad_width: int | Sequence[Any], mode: Mode = "constant", constant_values: float = 0
) -> Op:
    """x with elements added before and after along each axis: one number, (before, after), or a pair for each axis.

    `mode` tells which: "constant", "edge" (the outermost), "reflect" (mirrored at the outermost), "symmetric" (mirrored, the
    outermost twice) or "wrap" (those of the other end), as `numpy.pad`.

    Example:
        >>> R.pad([1, 2, 3], 2, mode="reflect")
        [3, 2, 1, 2, 3, 2, 1]
    """
    op = as_op(x)
    if mode not in get_args(Mode):
        raise ArgumentError("unknown padding mode", expected=", ".join(get_args(Mode)), received=repr(mode))
    if not op.ndim:
        return op
    try:
        widths = np.broadcast_to(np.array(pad_width), (op.ndim, 2))
    except ValueError:
        raise ArgumentError(
            "these widths do not fit", expected=f"a number, a pair, or {op.ndim} pairs", received=pad_width
        ) from None
    if not is_integer(widths.dtype) or (widths < 0).any():
        raise ArgumentError("widths must be whole and not negative", received=pad_width)
    if op.dtype.name in ("int16", "uint16"):  # engines have no kernel
        return cast(pad(cast(op, INT), pad_width, mode, constant_values), op.dtype)
    if mode == "symmetric" or (mode in ("reflect", "wrap") and not _is_narrow(op, widths)):
        return _mirrored(op, widths, mode)
    extra = [scalar(op, constant_values)] if mode == "constant" else []
    return node("Pad", [op, integers(op, widths.T.reshape(-1).tolist()), *extra], mode=mode)


def _is_narrow(op: Op, widths: Array) -> bool:
    """Whether nothing is mirrored or repeated twice: what ONNX's modes take."""
    return all(
        not isinstance(size, int) or width.max() < size for size, width in zip(op.shape, widths, strict=True)
    )


def _mirrored(op: Op, widths: Array, mode: Any) -> Op:
    for axis, width in enumerate(widths):
        if width.any():
            order = np.pad(np.arange(length_of(op, axis)), width, mode=mode)
            op = node("Gather", [op, op.graph.tensor(order)], axis=axis)
    return op
