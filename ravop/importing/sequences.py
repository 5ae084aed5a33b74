"""Sequences and optionals, resolved at import: a sequence is a Python list, an optional its value or None."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ravop.errors import InvalidModelError, UnsupportedOnnxError
from ravop.importing.control import MAX_PARTS, stacked
from ravop.importing.values import Node, Value, handles, shape_of

if TYPE_CHECKING:
    from ravop.importing.walk import Walk


def _list(node: Node, position: int = 0) -> list[Any]:
    value = node.input(position)
    if not isinstance(value, list):
        raise InvalidModelError("an operator on sequences got none", expected="a sequence",
                                received="nothing" if value is None else "a tensor")  # fmt: skip
    return value


def _position(walk: Walk, node: Node, position: int, count: int, more: int = 0) -> int:
    """An index into a sequence of `count` elements, counted from the front."""
    (number,) = walk.integers(node.input(position), "a position in a sequence")
    if not -count <= number < count + more:
        raise InvalidModelError(
            "a position outside of the sequence", expected=f"{-count} to {count + more - 1}", received=number
        )
    return number + count if number < 0 else number


@handles("SequenceEmpty")
def empty(walk: Walk, node: Node) -> Sequence[Value]:
    return [[]]


@handles("SequenceConstruct")
def construct(walk: Walk, node: Node) -> Sequence[Value]:
    return [list(node.inputs)]


@handles("SequenceInsert")
def insert(walk: Walk, node: Node) -> Sequence[Value]:
    items = list(_list(node))
    place = len(items) if node.input(2) is None else _position(walk, node, 2, len(items), more=1)
    items.insert(place, node.input(1))
    return [items]


@handles("SequenceErase")
def erase(walk: Walk, node: Node) -> Sequence[Value]:
    items = list(_list(node))
    del items[len(items) - 1 if node.input(1) is None else _position(walk, node, 1, len(items))]
    return [items]


@handles("SequenceAt")
def at(walk: Walk, node: Node) -> Sequence[Value]:
    items = _list(node)
    return [items[_position(walk, node, 1, len(items))]]


@handles("SequenceLength")
def length(walk: Walk, node: Node) -> Sequence[Value]:
    return [np.array(len(_list(node)), dtype=np.int64)]


@handles("SplitToSequence")
def split(walk: Walk, node: Node) -> Sequence[Value]:
    x, axis = node.input(0), node.attributes.get("axis", 0)
    size = shape_of(x)[axis]
    if not isinstance(size, int):
        raise UnsupportedOnnxError(
            "SplitToSequence needs a known size", received=f"an unknown size of axis {axis}"
        )
    if size > MAX_PARTS:
        raise UnsupportedOnnxError(
            "a sequence is too long to be written out", expected=f"at most {MAX_PARTS:,} parts of an axis", received=size
        )  # fmt: skip
    if node.input(1) is None:
        sizes, flat = [1] * size, not node.attributes.get("keepdims", 1)
    else:
        given, flat = walk.integers(node.input(1), "the sizes of SplitToSequence"), False
        scalar = shape_of(node.input(1)) == ()
        if min(given, default=0) < 1:
            raise InvalidModelError(
                "SplitToSequence makes parts of no size", expected="1 or more", received=given[:20]
            )
        sizes = (
            [min(given[0], size - start) for start in range(0, size, max(given[0], 1))] if scalar else given
        )
    ends = np.cumsum(sizes)
    parts = [
        walk.node("Slice", x, np.array([end - width]), np.array([end]), np.array([axis]))
        for end, width in zip(ends, sizes, strict=True)
    ]
    return [[walk.node("Squeeze", part, np.array([axis])) for part in parts] if flat else parts]


@handles("ConcatFromSequence")
def concat(walk: Walk, node: Node) -> Sequence[Value]:
    items, axis = _list(node), node.attributes["axis"]
    if node.attributes.get("new_axis", 0):
        return [stacked(walk, items, axis)]
    return [walk.node("Concat", *items, axis=axis)]


@handles("SequenceMap")
def sequence_map(walk: Walk, node: Node) -> Sequence[Value]:
    """The body once for each element; further inputs are sequences walked along, or tensors given to each."""
    body = node.attributes["body"]
    names = [info.name for info in body.input]
    found = []
    for number in range(len(_list(node))):
        given = [value[number] if isinstance(value, list) else value for value in node.inputs]
        found.append(walk.body(body, node.frame, dict(zip(names, given, strict=True))))
    return [list(values) for values in zip(*found, strict=True)] if found else [[] for _ in node.outputs]


@handles("Optional")
def optional(walk: Walk, node: Node) -> Sequence[Value]:
    return [node.input(0)]


@handles("OptionalGetElement")
def element(walk: Walk, node: Node) -> Sequence[Value]:
    if node.input(0) is None:
        raise InvalidModelError("the value of an optional that has none is read")
    return [node.input(0)]


@handles("OptionalHasElement")
def has_element(walk: Walk, node: Node) -> Sequence[Value]:
    return [np.array(node.input(0) is not None)]
