"""A graph's plan made ready for advancing: who reads what, how many values a unit waits for, where a value
lives.

Made once per graph from its `GraphPlan` and never changed. The paths of instances (see `plan`) are taken
apart only here.
Pure; used by `run`, `tasks` and the store.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from ravop.errors import ArgumentError
from ravop.protocol.messages import OutputSpec
from ravsock.core.fleet import DEFAULT_GFLOPS
from ravsock.core.plan import GraphPlan, Loop, Plan, Subgraph, Unit, ValueType, inputs_of, outputs_of

Key = tuple[int, ...]
"""A scope of the plan, whatever the iteration: the units of the opened loops around it. `()` is the main
plan."""

TASK_SECONDS = 0.02
"""What a task costs beside its computation: it is handed out, sent, and its result taken in."""
_STEP = re.compile(r"/(\d+)\[(\d+)\]")


class Place(NamedTuple):
    """Where a value is kept: an instance of a scope, and a name in it."""

    path: str
    name: str


class Iteration(NamedTuple):
    """The iteration of an opened loop that an instance of its body is."""

    path: str
    unit: int
    number: int


@lru_cache(maxsize=4096)
def key_of(path: str) -> Key:
    return tuple(int(unit) for unit, _ in _STEP.findall(path))


def child(path: str, unit: int, index: int) -> str:
    """The path of iteration `index` of the opened loop that is `unit` of the instance `path`."""
    return f"{path}/{unit}[{index}]"


def iteration_of(path: str) -> Iteration:
    """What `child` was called with. `path` is not the main instance."""
    outer, _, last = path.rpartition("/")
    unit, index = last[:-1].split("[")
    return Iteration(outer, int(unit), int(index))


def is_opened(unit: Unit) -> bool:
    return isinstance(unit, Loop) and unit.body is not None


@dataclass(frozen=True)
class Scope:
    """One scope of the plan."""

    key: Key
    plan: Plan
    waits: tuple[int, ...]
    """Per unit: how many distinct values of this scope it reads that other units of this scope give; a value that
    several ranges of a loop give counts once for each."""
    readers: tuple[tuple[tuple[int, int], ...], ...]
    """Per unit: the units that read its outputs, and how many distinct ones each reads."""
    producers: dict[str, tuple[int, ...]]
    """Per value that units of this scope give: which unit, or which ranges of a loop."""


class Program:
    """A checked plan. Raises `ArgumentError` where it could not be run to its end."""

    def __init__(self, plan: GraphPlan) -> None:
        self.plan = plan
        self.inputs = frozenset(plan.inputs)
        self.scopes: dict[Key, Scope] = {}
        self.specs: dict[tuple[Key, int], tuple[OutputSpec, ...]] = {}
        """What `tasks.output_specs` has found of subgraphs, which always give the same."""
        self._homes: dict[str, Key] = dict.fromkeys(plan.inputs, ())
        self.counts_units = not any(isinstance(unit, Loop) for unit in plan.main.units)
        """A graph without loops: its steps are its units."""
        self._add(plan.main, ())
        self._check(plan.main, (), ())

    def scope(self, path: str) -> Scope:
        return self.scopes[key_of(path)]

    def unit(self, path: str, unit: int) -> Unit:
        return self.scopes[key_of(path)].plan.units[unit]

    def loop(self, path: str, unit: int) -> Loop:
        loop = self.unit(path, unit)
        if not isinstance(loop, Loop):
            raise ArgumentError(f"unit {unit} of scope {path or 'main'!r} is not a loop", received=loop.label)
        return loop

    def place(self, path: str, value: str) -> Place:
        """Where `value` is kept, seen from the instance `path`: there, or in an instance around it."""
        depth = len(self._homes[value])
        return Place("/".join(path.split("/")[: depth + 1]), value)

    def value_type(self, value: str) -> ValueType:
        return self.scopes[self._homes[value]].plan.values[value]

    def models(self) -> Iterator[str]:
        """The hash of every subgraph."""
        for scope in self.scopes.values():
            for unit in scope.plan.units:
                model = unit if isinstance(unit, Subgraph) else unit.chunk
                if model is not None:
                    yield model.model
                for gang in unit.gangs if isinstance(unit, Loop) else ():
                    yield from gang.nodes

    @cached_property
    def work(self) -> float:
        """Estimated seconds of the whole graph on one reference machine, counted as `work_of` counts a part."""
        return _plan_work(self.plan.main)

    def _add(self, plan: Plan, key: Key) -> None:
        producers: dict[str, tuple[int, ...]] = {}
        for index, unit in enumerate(plan.units):
            for value in outputs_of(unit):
                self._claim(value, key)
                if value in producers and not _is_range(unit):
                    raise ArgumentError(
                        "two units of a plan give one value", received=f"{value} in {unit.label}"
                    )
                producers[value] = (*producers.get(value, ()), index)
        read = [[made for v in inputs_of(unit) for made in producers.get(v, ())] for unit in plan.units]
        for index, sources in enumerate(read):
            if any(source >= index for source in sources):
                raise ArgumentError(
                    "a plan's units must come after those they read", received=plan.units[index].label
                )
        readers: list[list[tuple[int, int]]] = [[] for _ in plan.units]
        for index, sources in enumerate(read):
            for source, count in Counter(sources).items():
                readers[source].append((index, count))
        waits = tuple(len(sources) for sources in read)
        self.scopes[key] = Scope(key, plan, waits, tuple(map(tuple, readers)), producers)
        for index, unit in enumerate(plan.units):
            if isinstance(unit, Loop) and unit.body is not None:
                for name in [c.body_in for c in unit.carries] + [s.body_in for s in unit.sliced]:
                    self._claim(name, (*key, index))
                self._add(unit.body, (*key, index))

    def _claim(self, value: str, key: Key) -> None:
        if self._homes.setdefault(value, key) != key:
            raise ArgumentError("a plan names one value in two scopes", received=value)

    def _check(self, plan: Plan, key: Key, around: tuple[tuple[Key, frozenset[str]], ...]) -> None:
        """`around` holds the scopes outside and what the loop opened in each has waited for."""
        for index, unit in enumerate(plan.units):
            for value in inputs_of(unit):
                self._check_visible(value, key, around, unit.label)
            if not isinstance(unit, Loop):
                continue
            if (unit.chunk is None) == (unit.body is None):
                raise ArgumentError("a loop of a plan needs either a chunk or a body", received=unit.label)
            if unit.body is not None:
                if not unit.body.units or unit.length < 1:
                    raise ArgumentError(
                        "an opened loop needs units and at least one iteration", received=unit.label
                    )
                inner = (*around, (key, frozenset(inputs_of(unit))))
                for value in [c.body_out for c in unit.carries] + [s.body_out for s in unit.stacked]:
                    self._check_visible(value, (*key, index), inner, unit.label)
                self._check(unit.body, (*key, index), inner)

    def _check_visible(
        self, value: str, key: Key, around: tuple[tuple[Key, frozenset[str]], ...], label: str
    ) -> None:
        home = self._homes.get(value)
        if home is None or home != key[: len(home)]:
            raise ArgumentError(
                "a plan reads a value that nothing gives there", received=f"{value} in {label}"
            )
        for outer, waited in around:
            if len(outer) >= len(home) and value not in waited:
                raise ArgumentError(
                    "an opened loop must list the outer values its body reads", received=f"{value} in {label}"
                )


def _is_range(unit: Unit) -> bool:
    """Whether this may be the further iterations of a loop that began in another unit."""
    return isinstance(unit, Loop) and not unit.carries and unit.first > 0


def work_of(unit: Unit, iterations: int = 1, *, ends: bool = True) -> float:
    """Estimated seconds of a task on a machine of `DEFAULT_GFLOPS`.

    A loop has as many tasks as it has chunks, which nobody knows before: only the one that `ends` it counts
    as a task.
    """
    cost = unit.cost
    once = cost.flops / (DEFAULT_GFLOPS * 1e9) + cost.seconds_overhead
    return once * iterations + (TASK_SECONDS if ends else 0.0)


def _plan_work(plan: Plan) -> float:
    return sum(
        unit.length * _plan_work(unit.body)
        if isinstance(unit, Loop) and unit.body is not None
        else work_of(unit, unit.length if isinstance(unit, Loop) else 1)
        for unit in plan.units
    )


def steps_inside(plan: Plan) -> int:
    """Steps that the loops of one instance of this scope count for by themselves."""
    return sum(unit.length * max(unit.steps, 0) for unit in plan.units if isinstance(unit, Loop))
