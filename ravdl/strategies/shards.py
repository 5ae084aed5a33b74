"""Batches cut into shards, so that each shard's samples are data of its own, which may stay where it is computed with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import ravop as R
from ravdl.neural_networks.data import ORDER, Batch, Batches, Epoch, Samples
from ravop.errors import ArgumentError
from ravop.graph import Op

Shards = tuple[Batch, ...]


def bounds(size: int, shards: int) -> tuple[tuple[int, int], ...]:
    """Where each of `shards` begins and ends in `size` examples; the larger ones come first, by one example, and none is
    empty: with fewer examples there are fewer shards.
    """
    shards = min(shards, size)
    each, more = divmod(size, shards)
    starts = [index * each + min(index, more) for index in range(shards + 1)]
    return tuple(pairwise(starts))


class ShardsInOrder:
    """As `InOrder`, each batch cut into shards."""

    def __init__(self, samples: Samples, batch_size: int, shards: int) -> None:
        self.steps, rest = divmod(samples.count, batch_size)
        self.sizes = (batch_size, rest)
        full = self.steps * batch_size
        self.full = tuple(samples.within(full, batch_size, *ends) for ends in bounds(batch_size, shards))
        self.last = (
            tuple(samples.slice(full + a, full + b) for a, b in bounds(rest, shards)) if rest else None
        )

    def epoch(self, step: Op) -> Epoch[Shards]:
        return Epoch(self.full, lambda shards: shards, self.last)


class ShardsShuffled:
    """As `Shuffled`, the same order of all samples, each batch cut into shards."""

    def __init__(self, samples: Samples, batch_size: int, shards: int, seed: int) -> None:
        self.steps, rest = divmod(samples.count, batch_size)
        self.sizes = (batch_size, rest)
        self._all = samples.slice(0, samples.count)
        self._shards = shards
        self._seed = seed

    def epoch(self, step: Op) -> Epoch[Shards]:
        size, rest = self.sizes
        order = R.permutation(self.steps * size + rest, key=R.random_key(self._seed, ORDER, step))
        full = R.reshape(order[: self.steps * size], (self.steps, size))
        last = order[self.steps * size :] if rest else None
        return Epoch(
            tuple(full[:, a:b] for a, b in bounds(size, self._shards)),
            self._gathered,
            None if last is None else self._gathered([last[a:b] for a, b in bounds(rest, self._shards)]),
        )

    def _gathered(self, shards: Sequence[Op]) -> Shards:
        return tuple(_gathered(self._all, rows) for rows in shards)


def _gathered(whole: Batch, rows: Op) -> Batch:
    return whole.map(lambda values: R.gather(values, rows, axis=0))


def cut_in_shards(samples: Samples, size: int, shards: int, shuffle: bool, seed: int) -> Batches[Shards]:
    """Batches of `size` in shards. Raises `ArgumentError` for more shards than examples in a batch."""
    if shards > size:
        raise ArgumentError(
            "there are more shards than examples in a batch",
            expected=f"at most {size} shards, or a larger batch_size",
            received=f"shards={shards}, batch_size={size}",
        )
    return ShardsShuffled(samples, size, shards, seed) if shuffle else ShardsInOrder(samples, size, shards)
