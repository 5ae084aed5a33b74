"""The sum of gradients that reach one op. Where they are those of its pieces, each padded with zeros, it is their
concatenation: what chunks of a projection, or gates of a weight, come back as.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ravop.autodiff.rules import total
from ravop.graph.op import Op
from ravop.ops.catalogue import node


class _Piece(NamedTuple):
    start: int
    end: int
    axis: int
    op: Op


def summed(gradients: Sequence[Op]) -> Op:
    """The sum of `gradients`, which have one shape. Pads that are not needed any more are left in the graph, unused."""
    if len(gradients) == 1:
        return gradients[0]
    found = [_piece(op) for op in gradients]
    pieces = sorted((piece for piece in found if piece is not None), key=lambda piece: piece[:3])
    others = [op for op, piece in zip(gradients, found, strict=True) if piece is None]
    if len(pieces) < 2 or not _tile(pieces, gradients[0].static_shape):
        return total(gradients)
    whole = node("Concat", [piece.op for piece in pieces], axis=pieces[0].axis)
    return total([whole, *others])


def _piece(gradient: Op) -> _Piece | None:
    """What was padded with zeros along one axis to give this gradient; None for anything else."""
    made = gradient.value.producer()
    if made is None or made.op_type != "Pad" or made.domain or len(made.inputs) != 2 or made.attributes:
        return None
    graph = gradient.graph
    source, pads = made.inputs
    counts = None if source is None or pads is None else graph.op_of(pads).constant
    if source is None or counts is None or (counts < 0).any():
        return None
    before, after = np.split(counts, 2)
    axes = np.flatnonzero(before + after)
    if len(axes) != 1 or graph.op_of(source).scope is not graph.scope:
        return None
    axis = int(axes[0])
    size = gradient.shape[axis]
    if not isinstance(size, int):
        return None
    return _Piece(int(before[axis]), size - int(after[axis]), axis, graph.op_of(source))


def _tile(pieces: Sequence[_Piece], shape: tuple[int, ...]) -> bool:
    """Whether the pieces, in order, cover one axis without a gap, each part once."""
    axis = pieces[0].axis
    ends = [0, *(piece.end for piece in pieces)]
    starts = [*(piece.start for piece in pieces), shape[axis]]
    return ends == starts and all(piece.axis == axis for piece in pieces) and math.prod(shape) > 0
