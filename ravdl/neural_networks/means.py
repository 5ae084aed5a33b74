"""Sums and means over the shards of a batch, or over workers."""

from __future__ import annotations

from collections.abc import Sequence

from ravop.graph import Op


def shares(counts: Sequence[int]) -> list[float]:
    """What share of the sum each has."""
    return [count / sum(counts) for count in counts]


def added(ops: Sequence[Op]) -> Op:
    """The sum, pair by pair: who has some neighbours need only tell the others their sum."""
    found = list(ops)
    while len(found) > 1:
        pairs = [a + b for a, b in zip(found[::2], found[1::2], strict=False)]
        found = pairs + found[2 * len(pairs) :]
    return found[0]


def weighted(ops: Sequence[Op], weights: Sequence[float]) -> Op:
    """The mean with these weights, which add up to 1."""
    return added([op if weight == 1 else op * weight for op, weight in zip(ops, weights, strict=True)])
