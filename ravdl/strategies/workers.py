"""What each worker of `LocalSGD` trains on: samples of its own, in rounds of steps.

Of each `workers * batch_size` samples as they lie, the first worker gets the first `batch_size`, and so on: so a step of all
workers uses neighbouring samples, in order, and data that is sorted by class is dealt out evenly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import ravop as R
from ravdl.neural_networks.data import ORDER, Batch, Samples
from ravdl.strategies.shards import bounds
from ravop.errors import ArgumentError
from ravop.graph import Op
from ravop.graph.dtypes import as_array


@dataclass(frozen=True)
class Schedule:
    """The steps of an epoch: `rounds` of `every` steps, then a shorter one of `tail` full batches and the last,
    smaller batch, if there is one.
    """

    batch: int
    rounds: int
    every: int
    tail: int
    rests: tuple[int, ...]
    """Samples in each worker's smaller last batch; 0 where a worker has none."""

    @property
    def steps(self) -> int:
        """Full batches of one worker in an epoch."""
        return self.rounds * self.every + self.tail


def schedule(samples: int, batch: int, workers: int, sync_every: int) -> Schedule:
    """Raises `ArgumentError` when there is not a full batch for each worker."""
    steps, rest = divmod(samples, batch * workers)
    if steps == 0:
        raise ArgumentError(
            "there are workers without data",
            expected=f"at least {batch * workers} samples: a batch of {batch} for each of {workers} workers",
            received=f"{samples} samples",
            hint="use fewer workers, or a smaller batch_size",
        )
    ends = bounds(rest, workers) if rest else ()
    rests = tuple(b - a for a, b in ends) + (0,) * (workers - len(ends))
    rounds, tail = divmod(steps, sync_every)
    return Schedule(batch, rounds, sync_every, tail, rests)


class Course(NamedTuple):
    """One worker's batches in an epoch."""

    rounds: Any
    """What a scan over rounds walks along, whose elements a scan over steps walks along; None without full rounds."""
    tail: Any
    """What a scan over the steps of the last round walks along; None without full batches in it."""
    last: Any
    """What a scan over the smaller last batch alone walks along, so that a worker's steps are loops and nothing else."""
    batch: Callable[[Any], Batch]
    """From an element of these to a batch."""


class Worker:
    """The data of worker `index` of `workers`; in order, or in another order in each epoch."""

    def __init__(
        self, samples: Samples, plan: Schedule, index: int, workers: int, shuffle: bool, seed: int
    ) -> None:
        self._plan, self._shuffle, self._seed = plan, shuffle, seed
        own = _taken(samples, plan, index, workers)
        self._rest = plan.rests[index]
        self._count = own.count
        if shuffle:
            self._all = own.slice(0, own.count)
        else:
            in_rounds, full = self._ends
            self._rounds = (
                own.slice(0, in_rounds, (plan.rounds, plan.every, plan.batch)) if plan.rounds else None
            )
            self._tail = own.slice(in_rounds, full, (plan.tail, plan.batch)) if plan.tail else None
            self._last = own.slice(full, own.count, (1, self._rest)) if self._rest else None

    @property
    def _ends(self) -> tuple[int, int]:
        """Where the full rounds end, and the full batches."""
        return self._plan.rounds * self._plan.every * self._plan.batch, self._plan.steps * self._plan.batch

    def epoch(self, step: Op) -> Course:
        """`step`: a number that no other worker has in any epoch (int64 scalar)."""
        if not self._shuffle:
            return Course(self._rounds, self._tail, self._last, lambda batch: batch)
        plan, (in_rounds, full) = self._plan, self._ends
        order = R.permutation(self._count, key=R.random_key(self._seed, ORDER, step))
        return Course(
            R.reshape(order[:in_rounds], (plan.rounds, plan.every, plan.batch)) if plan.rounds else None,
            R.reshape(order[in_rounds:full], (plan.tail, plan.batch)) if plan.tail else None,
            R.reshape(order[full:], (1, self._rest)) if self._rest else None,
            self._gathered,
        )

    def _gathered(self, rows: Op) -> Batch:
        return self._all.map(lambda values: R.gather(values, rows, axis=0))


def _taken(samples: Samples, plan: Schedule, index: int, workers: int) -> Samples:
    """The samples of one worker: its part of each step of all, then its part of the last one."""
    full = plan.steps * plan.batch * workers
    rows = np.arange(full).reshape(plan.steps, workers, plan.batch)[:, index].reshape(-1)
    start = full + sum(plan.rests[:index])
    rows = np.concatenate([rows, np.arange(start, start + plan.rests[index])])
    if len(rows) == samples.count:
        return samples
    return samples.map(
        lambda values: R.gather(values, rows, axis=0) if isinstance(values, Op) else values[as_array(rows)]
    )
