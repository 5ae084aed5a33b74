"""The simulated work: graphs of several requesters, whose tasks are made as they are looked at."""

from __future__ import annotations

from itertools import count, islice

import numpy as np

from ravsock.core.simulation.batches import Task
from ravsock.core.simulation.options import Work

LAYER = 4
"""Tasks of a layer for each slot of the fleet, over all graphs."""


class Graph:
    """Tasks of one size. `width` of them are ready at a time at most, as many as there are where it is None."""

    def __init__(
        self, name: str, owner: int, tasks: int, width: int | None, work: float, guess: float, options: Work,
        numbers: count[int],
    ) -> None:  # fmt: skip
        self.name = name
        self.left = tasks
        """Those that are not done."""
        self.ready: dict[int, Task] = {}
        self._owner = owner
        self._unmade = tasks
        self._width = width
        self._layer = min(tasks, width or tasks)
        self._open = self._layer
        """Tasks of this layer that are not done."""
        length = options.iterations if options.kind == "loops" else None
        self._work = work / (length or 1)
        self._flops = self._work * guess * 1e9
        self._length = length
        self._options = options
        self._numbers = numbers

    @property
    def work(self) -> float:
        """GFLOPS-seconds of all that was planned."""
        return self._work * (self._length or 1) * self._unmade

    def first(self, most: int) -> list[Task]:
        """The first of those that are ready."""
        while len(self.ready) < most and self._layer and self._unmade:
            self._layer -= 1
            self._unmade -= 1
            task = self._make()
            self.ready[task.task_id] = task
        return list(islice(self.ready.values(), most))

    @property
    def waiting(self) -> int:
        """How many are ready."""
        return len(self.ready) + min(self._layer, self._unmade)

    def done(self, task: Task) -> None:
        self.left -= 1
        self._open -= 1
        if not self._open and self._width:
            self._layer = self._open = min(self._unmade, self._width)

    def _make(self) -> Task:
        number = next(self._numbers)
        options = self._options
        data = f"{self.name}/{self._unmade // options.shared}"
        return Task(
            task_id=number,
            graph_id=self.name,
            owner=self._owner,
            model=self.name,
            flops=self._flops,
            work=self._work,
            bytes_out=options.bytes_out,
            inputs=((self.name, options.model_bytes), (data, options.bytes_in)),
            length=self._length,
        )


def graphs(
    options: Work, power: float, median: float, slots: int, random: np.random.Generator
) -> list[Graph]:
    """As much as a fleet of this power (GFLOPS) does in the hours asked for, in equal parts.

    `median`: GFLOPS of its median slot.
    """
    number = options.requesters * options.graphs
    each = power * options.hours * 3600 / number
    numbers: count[int] = count()
    made = []
    for place in range(number):
        work = options.task_seconds * median * float(random.lognormal(0.0, options.sizes))
        guess = float(random.lognormal(0.0, options.guesses))
        width = max(1, LAYER * slots // number) if options.kind == "layers" else None
        tasks, owner = max(1, round(each / work)), place % options.requesters
        made.append(Graph(f"g{place:03}", owner, tasks, width, work, guess, options, numbers))
    return made
