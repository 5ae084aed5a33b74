"""Training data, as `checks` let it pass, and how it is cut into batches that a loop can walk along.

Nothing here computes: arrays become bound inputs of the graph, shipped once however many epochs read them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import ravop as R
from ravop.graph import Op
from ravop.protocol.tensors import Array

ORDER = 0
"""Number of the draw that shuffles; those of layers are hashes of their names."""


Values = Array | Op


class Batch(NamedTuple):
    """Inputs (samples, *shape) and targets (samples, …) as ops, one for each of the model's; many batches with one more
    axis.
    """

    x: tuple[Op, ...]
    y: tuple[Op, ...]
    weight: tuple[Op, ...] = ()
    """Of each sample in the loss, (samples,); empty where all count alike."""

    @property
    def size(self) -> int:
        return self.x[0].static_shape[0]

    def map(self, function: Callable[[Op], Op]) -> Batch:
        return Batch(*(tuple(map(function, ops)) for ops in self))


@dataclass(frozen=True)
class Samples:
    """Checked data of a model: inputs and targets of equal length, arrays or ops of a graph."""

    x: tuple[Values, ...]
    y: tuple[Values, ...]
    weight: tuple[Values, ...] = ()

    @property
    def count(self) -> int:
        return int(self.x[0].shape[0])  # type: ignore[arg-type]

    def slice(self, start: int, stop: int, shape: tuple[int, ...] = ()) -> Batch:
        """Samples `start` to `stop - 1` as ops; the axis of samples in another `shape`, if given."""
        return self.batch(lambda values: _part(values, start, stop, shape or (stop - start,)))

    def within(self, count: int, size: int, start: int, stop: int) -> Batch:
        """Of the first `count` samples in rows of `size`, the columns from `start` to `stop - 1` of each row."""
        return self.batch(lambda values: _columns(values, count, size, start, stop))

    def map(self, function: Callable[[Values], Values]) -> Samples:
        return Samples(*(tuple(map(function, values)) for values in (self.x, self.y, self.weight)))

    def batch(self, function: Callable[[Values], Op]) -> Batch:
        """A batch of what `function` makes of each of these."""
        return Batch(*(tuple(map(function, values)) for values in (self.x, self.y, self.weight)))


def _columns(values: Values, count: int, size: int, start: int, stop: int) -> Op:
    shape = (count // size, size, *values.shape[1:])
    if isinstance(values, Op):
        part = values if count == values.shape[0] else values[:count]
        return R.reshape(part, shape)[:, start:stop]
    return R.t(values[:count].reshape(shape)[:, start:stop], values.dtype)


def _part(values: Values, start: int, stop: int, shape: tuple[int, ...]) -> Op:
    if isinstance(values, Op):
        part = values if (start, stop) == (0, values.shape[0]) else values[start:stop]
        return R.reshape(part, (*shape, *values.shape[1:]))  # type: ignore[arg-type]
    return R.t(values[start:stop].reshape(*shape, *values.shape[1:]), values.dtype)


B = TypeVar("B")


class Epoch(NamedTuple, Generic[B]):
    """The batches of one epoch: what a scan walks along, how an element of it becomes a batch, the last one."""

    xs: Any
    batch: Callable[[Any], B]
    last: B | None


class Batches(Protocol[B]):
    """Data cut into batches: `steps` of full size in an epoch, `sizes` of a full and of the last batch."""

    steps: int
    sizes: tuple[int, int]

    def epoch(self, step: Op) -> Epoch[B]:
        """The batches of the epoch that starts at this training step (int64 scalar)."""


class InOrder:
    """The same batches in each epoch, one after another as the data lies."""

    def __init__(self, samples: Samples, batch_size: int) -> None:
        self.steps, rest = divmod(samples.count, batch_size)
        self.sizes = (batch_size, rest)
        full = self.steps * batch_size
        self.full = samples.slice(0, full, (self.steps, batch_size))
        self.last = samples.slice(full, samples.count) if rest else None

    def epoch(self, step: Op) -> Epoch[Batch]:
        return Epoch(self.full, lambda batch: batch, self.last)


class Shuffled:
    """Other batches in each epoch: a random order of the samples, drawn from seed and training step."""

    def __init__(self, samples: Samples, batch_size: int, seed: int) -> None:
        self.steps, rest = divmod(samples.count, batch_size)
        self.sizes = (batch_size, rest)
        self._all = samples.slice(0, samples.count)
        self._seed = seed

    def epoch(self, step: Op) -> Epoch[Batch]:
        size, rest = self.sizes
        order = R.permutation(self.steps * size + rest, key=R.random_key(self._seed, ORDER, step))
        full = R.reshape(order[: self.steps * size], (self.steps, size))
        return Epoch(full, self._gather, self._gather(order[self.steps * size :]) if rest else None)

    def _gather(self, rows: Op) -> Batch:
        return self._all.map(lambda values: R.gather(values, rows, axis=0))


def cut(samples: Samples, batch_size: int, shuffle: bool, seed: int) -> Batches[Batch]:
    """The data in batches of `batch_size`, which `checked_size` has checked."""
    return Shuffled(samples, batch_size, seed) if shuffle else InOrder(samples, batch_size)
