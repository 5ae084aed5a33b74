"""`op[...]` with NumPy's meaning.

Whole numbers, slices, `...` and `None` become one Slice, one Squeeze and one Unsqueeze. Arrays and ops as indices become
Gather (one of them) or GatherND (several); a boolean array stands for the positions where it is true, and a boolean
*op* gives an axis whose length is only known when it is computed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ravop.errors import ArgumentError, DTypeError
from ravop.graph.dtypes import BOOL, INT, is_integer
from ravop.graph.infer import Shape
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import axis_of, wholes
from ravop.ops.catalogue import as_op, cast, integers, node, operator
from ravop.ops.shaping import concat, expand_dims, squeeze, transpose

__all__ = ["gather", "index", "slice"]

_LAST = int(np.iinfo(np.int64).max)
_FIRST = int(np.iinfo(np.int64).min)
builtin_slice = type(np.s_[:])


@dataclass(frozen=True, eq=False)
class _Part:
    """What one axis of the operand is indexed with; `item` None is a new axis."""

    axis: int
    item: Any


@operator
def index(x: Operand, key: Any) -> Op:
    """`x[key]`, as NumPy: whole numbers, slices, `...`, None, integer arrays, boolean arrays, and ops of these.

    Raises `ArgumentError` for too many indices or one out of range, `DTypeError` for an index of another kind.

    Example:
        >>> R.index([[1, 2], [3, 4]], np.s_[:, 0])
        [1, 3]
    """
    op = as_op(x)
    parts = _parts(op, key if isinstance(key, tuple) else (key,))
    if any(isinstance(part.item, np.ndarray | Op) for part in parts):
        return _advanced(op, parts)
    return _basic(op, [part for part in parts if part.item is not Ellipsis])


def _parts(op: Op, key: tuple[Any, ...]) -> list[_Part]:
    items = [item for entry in key for item in _expanded(entry)]
    used = sum(item is not None and item is not Ellipsis for item in items)
    if used > op.ndim:
        raise ArgumentError(
            "too many indices", expected=f"at most {op.ndim}", received=f"{used} for shape {list(op.shape)}"
        )
    dots = [position for position, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("only one ... can be in an index", received=f"{len(dots)}")
    rest: list[Any] = [builtin_slice(None)] * (op.ndim - used)
    if dots and not rest:
        rest = [Ellipsis]  # it stands for no axis, and still parts the arrays before it from those behind it
    place = dots[0] if dots else len(items)
    items = items[:place] + rest + items[place + 1 :]
    parts: list[_Part] = []
    axis = 0
    for item in items:
        parts.append(_Part(axis, item))
        axis += item is not None and item is not Ellipsis
    _check_masks(op, key, parts)
    return [_Part(part.axis, _checked(op, part)) for part in parts]


def _check_masks(op: Op, key: tuple[Any, ...], parts: list[_Part]) -> None:
    """Each boolean entry has the lengths of the axes that it stands for."""
    place = 0
    for entry in key:
        if entry is Ellipsis:
            place += len(parts) - sum(len(_expanded(other)) for other in key) + 1
            continue
        mask = _mask_shape(entry)
        first = parts[place].axis if place < len(parts) else op.ndim
        axes = op.shape[first : first + len(mask)]
        if any(
            isinstance(have, int) and isinstance(want, int) and have != want
            for have, want in zip(mask, axes, strict=True)
        ):
            raise ArgumentError(
                "the mask has another shape than what it chooses from",
                expected=list(axes),
                received=list(mask),
            )
        place += len(mask) or 1


def _mask_shape(entry: Any) -> Shape:
    """The shape of a boolean entry, () for any other."""
    if isinstance(entry, Op):
        return entry.shape if entry.dtype == BOOL else ()
    if isinstance(entry, list | np.ndarray):
        array = np.asarray(entry)
        return array.shape if array.dtype == BOOL else ()
    return ()


def _expanded(entry: Any) -> list[Any]:
    """One entry of the key as items that take one axis each; booleans become the positions where they are true."""
    if entry is None or entry is Ellipsis or isinstance(entry, builtin_slice):
        return [entry]
    if isinstance(entry, bool | np.bool_):
        raise DTypeError(
            "True and False are no index here", expected="whole numbers, slices or arrays", received=entry
        )
    if isinstance(entry, Op):
        return _positions(entry) if entry.dtype == BOOL else [entry]
    if isinstance(entry, int | np.integer):
        return [int(entry)]
    array = np.asarray(entry)
    if array.size == 0 and not isinstance(entry, np.ndarray):
        array = array.astype(np.int64)
    if not array.ndim and array.dtype.kind in "iu":
        return [int(array)]
    if array.dtype == BOOL:
        return list(np.nonzero(array))
    if not is_integer(array.dtype):
        raise DTypeError("this is no index", expected="whole numbers, slices, ..., None, integer or boolean arrays",
                         received=repr(entry)[:80])  # fmt: skip
    return [array.astype(np.int64)]


def _positions(mask: Op) -> list[Op]:
    found = node("NonZero", [mask])
    return [
        node("Gather", [found, found.graph.constant(np.array(axis, dtype=np.int64))], axis=0)
        for axis in range(mask.ndim)
    ]


def _checked(op: Op, part: _Part) -> Any:
    """The item with its numbers in range and, where the axis is known, counted from the front."""
    item, length = part.item, op.shape[part.axis] if part.axis < op.ndim else None
    if isinstance(item, Op):
        if not is_integer(item.dtype):
            raise DTypeError("this op is no index", expected="integers or booleans", received=item.dtype)
        return cast(item, INT)
    if isinstance(item, int | np.ndarray) and isinstance(length, int):
        low, high = (item, item) if isinstance(item, int) else (item.min(initial=0), item.max(initial=-1))
        if low < -length or high >= length:
            raise ArgumentError("an index is out of range",
                expected=f"{-length} to {length - 1} for axis {part.axis} of {list(op.shape)}",
                                received=low if low < -length else high)  # fmt: skip
        return item % length if isinstance(item, int) else np.where(item < 0, item + length, item)
    return item


def _basic(op: Op, parts: list[_Part]) -> Op:
    cuts = [(part.axis, *_bounds(op, part)) for part in parts if isinstance(part.item, int | builtin_slice)]
    cuts = [cut for cut in cuts if cut[1:] != (0, op.shape[cut[0]], 1) and cut[1:] != (0, _LAST, 1)]
    if cuts:
        axes, starts, stops, steps = zip(*cuts, strict=True)
        op = node("Slice", [op, *(integers(op, v) for v in (starts, stops, axes, steps))])
    dropped = [part.axis for part in parts if isinstance(part.item, int)]
    if dropped:
        op = squeeze(op, dropped)
    kept = [part for part in parts if not isinstance(part.item, int)]
    new = [position for position, part in enumerate(kept) if part.item is None]
    return expand_dims(op, new) if new else op


def _bounds(op: Op, part: _Part) -> tuple[int, int, int]:
    """(start, stop, step) for ONNX, whose stop before the first element is the smallest integer."""
    length = op.shape[part.axis]
    if isinstance(part.item, int):
        return part.item, part.item + 1 if part.item != -1 else _LAST, 1
    try:
        start, stop, step = part.item.indices(length if isinstance(length, int) else _LAST)
    except TypeError:
        raise DTypeError("a slice needs whole numbers", expected="Python integers", received=part.item,
                         hint="use ravop.slice(x, begin, size) for a begin that is computed") from None  # fmt: skip
    except ValueError as error:
        raise ArgumentError("this slice is not possible", received=str(error)) from None
    if not isinstance(length, int):
        start, stop, step = _unknown_bounds(part.item, step)
    elif not range(start, stop, step):
        return 0, 0, 1  # a begin before the first element would be counted from the end
    return start, _FIRST if step < 0 and stop < 0 and isinstance(length, int) else stop, step


def _unknown_bounds(item: Any, step: int) -> tuple[int, int, int]:
    start = (0 if step > 0 else _LAST) if item.start is None else int(item.start)
    stop = (_LAST if step > 0 else _FIRST) if item.stop is None else int(item.stop)
    return start, stop, step


def _advanced(op: Op, parts: list[_Part]) -> Op:
    """Slices first; then the arrays (and whole numbers, which are arrays beside them) by Gather or GatherND."""
    arrays = [part for part in parts if isinstance(part.item, int | np.ndarray | Op)]
    places = [position for position, part in enumerate(parts) if part in arrays]
    together = places == list(range(places[0], places[-1] + 1))
    parts = [part for part in parts if part.item is not Ellipsis]
    op = _basic(op, [part for part in parts if not isinstance(part.item, int | np.ndarray | Op | None)])
    if len(arrays) == 1:
        op = node("Gather", [op, op.graph.tensor(arrays[0].item)], axis=arrays[0].axis)
        width = _ndim(arrays[0].item)
        first = arrays[0].axis
    else:
        op, width = _gather_nd(op, [part.axis for part in arrays], [part.item for part in arrays])
        first = 0
    return _arrange(op, parts, arrays, first, width, parts.index(arrays[0]) if together else 0)


def _ndim(item: Any) -> int:
    return 0 if isinstance(item, int) else int(item.ndim)


def _gather_nd(op: Op, axes: list[int], items: list[Any]) -> tuple[Op, int]:
    """The elements at all `items` together, with the items' common axes in front."""
    order = axes + [axis for axis in range(op.ndim) if axis not in axes]
    op = transpose(op, order)
    if all(not isinstance(item, Op) for item in items):
        try:
            table = np.stack(np.broadcast_arrays(*items), axis=-1)
        except ValueError as error:
            raise ArgumentError("the index arrays do not fit each other", received=str(error)) from None
        return node("GatherND", [op, op.graph.tensor(table.astype(np.int64))]), table.ndim - 1
    ops = [
        op.graph.tensor(np.asarray(item, dtype=np.int64)) if not isinstance(item, Op) else item
        for item in items
    ]
    width = max(item.ndim for item in ops)
    if any(item.shape != ops[0].shape for item in ops):
        zeros = [
            node("Sub", [item, item]) for item in ops
        ]  # adding them broadcasts axes of unknown length, too
        together = functools.reduce(lambda a, b: node("Add", [a, b]), zeros)
        ops = [node("Add", [item, together]) for item in ops]
    rows = concat([expand_dims(item, -1) for item in ops], axis=-1)
    if len(items) == op.ndim and not width:  # a scalar, whose shape ONNX does not infer
        return op.graph.apply("GatherND", [op, rows], outputs=[(op.dtype, ())])[0], 0
    return node("GatherND", [op, rows]), width


def _arrange(op: Op, parts: list[_Part], arrays: list[_Part], first: int, width: int, place: int) -> Op:
    """Move the `width` axes of the arrays from `first` to their place among the others, and add the new axes."""
    others = [part for part in parts if part not in arrays]
    before = [part for part in parts[:place] if part not in arrays]
    target = sum(part.item is not None for part in before)
    axes = list(range(op.ndim))
    moved, rest = axes[first : first + width], axes[:first] + axes[first + width :]
    order = rest[:target] + moved + rest[target:]
    if order != axes:
        op = transpose(op, order)
    layout = [*before, *([arrays[0]] * width), *others[len(before) :]]
    new = [position for position, part in enumerate(layout) if part.item is None]
    return expand_dims(op, new) if new else op


@operator
def gather(x: Operand, indices: Operand, axis: int = 0) -> Op:
    """The elements of x at `indices` along `axis`, as `numpy.take`.

    Example:
        >>> R.gather([10, 20, 30], [2, 0])
        [30, 10]
    """
    op = as_op(x)
    where = op.graph.tensor(indices)
    if not is_integer(where.dtype):
        raise DTypeError("indices must be whole numbers", expected="an integer dtype", received=where.dtype)
    where = where if where.dtype.name in ("int32", "int64") else cast(where, INT)
    return node("Gather", [op, where], axis=axis_of(op, axis))


@operator
def slice(x: Operand, begin: Operand, size: Any) -> Op:
    """`size` elements of x from `begin`, a number (or computed op) for each leading axis: a window that may move.

    Example:
        >>> R.slice([[1, 2, 3], [4, 5, 6]], [0, 1], [2, 2])
        [[2, 3], [5, 6]]
    """
    op = as_op(x)
    sizes = wholes(size, "size")
    start = cast(node("Reshape", [op.graph.tensor(begin), integers(op, [-1])]), INT)
    if start.shape != (len(sizes),) or len(sizes) > op.ndim:
        raise ArgumentError("begin and size do not fit", expected=f"one number each for up to {op.ndim} axes",
                            received=f"{list(start.shape)} and {list(sizes)}")  # fmt: skip
    stop = node("Add", [start, integers(op, sizes)])
    cut = op.graph.apply(
        "Slice", [op, start, stop, integers(op, range(len(sizes)))],
        outputs=[(op.dtype, (*sizes, *op.shape[len(sizes) :]))],
    )  # fmt: skip
    return cut[0]
