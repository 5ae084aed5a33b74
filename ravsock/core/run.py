"""How a graph advances: one event in, instructions out, and nothing else happens.

`advance(program, event)` says what follows from an event; the store carries the instructions out in the
transaction
that records the event, and feeds back what came of them (`Released` for an opened loop whose last input
came, `Ended`
for a scope whose last unit is done) until nothing follows. Instructions count by differences (`Decrement`,
`CountDown`), so several writers may advance one graph. Values are named by their places; what they hold is
the store's business.

Within one list, a `Bind` may read what a `Bind` before it has bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ravop.errors import ArgumentError
from ravsock.core import states
from ravsock.core.plan import Loop, Port, Subgraph
from ravsock.core.program import Place, Program, child, is_opened, iteration_of, key_of, steps_inside, work_of


# ── events ────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Started:
    """The graph is executed for the first time; its inputs are bound."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A task's result was accepted. `start` and `stop` are a chunk's range, 0 and 1 for a subgraph."""

    path: str
    unit: int
    start: int = 0
    stop: int = 1


@dataclass(frozen=True, slots=True)
class Released:
    """All inputs of an opened loop are bound."""

    path: str
    unit: int


@dataclass(frozen=True, slots=True)
class Ended:
    """All units of this instance are done."""

    path: str


Event = Started | Finished | Released | Ended


# ── instructions ──────────────────────────────────────────────────────────────────────────────────
class Output(NamedTuple):
    """An output of the task that finished."""

    port: str


Source = Place | Output


@dataclass(frozen=True, slots=True)
class NewScope:
    """An instance begins; `units` of its units are not done."""

    path: str
    units: int


@dataclass(frozen=True, slots=True)
class NewTask:
    path: str
    unit: int
    state: str
    waiting_for: int


@dataclass(frozen=True, slots=True)
class Bind:
    """`target` has the value of `source` from now on, or one element of it; what it had before is
    forgotten."""

    target: Place
    source: Source
    element: int | None = None


@dataclass(frozen=True, slots=True)
class Append:
    """A part of the stacked value `target`: `count` elements from `start`. `single`: `source` is one
    element, without
    the stacked axis."""

    target: Place
    source: Source
    start: int
    count: int
    single: bool


@dataclass(frozen=True, slots=True)
class Decrement:
    """So many more inputs of a waiting unit are bound. The one that leaves none makes it ready; `opened`:
    gives `Released`."""

    path: str
    unit: int
    by: int
    opened: bool


@dataclass(frozen=True, slots=True)
class Open:
    """An opened loop is now in this iteration."""

    path: str
    unit: int
    index: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same task again, for the iterations from `start`."""

    path: str
    unit: int
    start: int


@dataclass(frozen=True, slots=True)
class Done:
    path: str
    unit: int


@dataclass(frozen=True, slots=True)
class CountDown:
    """One unit less to do in this instance; the last one gives `Ended`."""

    path: str


@dataclass(frozen=True, slots=True)
class DropScope:
    """Forget the tasks and values of an instance."""

    path: str


@dataclass(frozen=True, slots=True)
class Forget:
    place: Place


@dataclass(frozen=True, slots=True)
class Count:
    """For the progress display; `work` in seconds of a reference machine."""

    work: float = 0.0
    steps: int = 0
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class FinishGraph:
    """The graph is done; of the main instance's values only `keep` are wanted from now on."""

    keep: frozenset[str]


Instruction = (
    NewScope
    | NewTask
    | Bind
    | Append
    | Decrement
    | Open
    | Repeat
    | Done
    | CountDown
    | DropScope
    | Forget
    | Count
    | FinishGraph
)


# ── what follows from what ────────────────────────────────────────────────────────────────────────
def advance(program: Program, event: Event) -> list[Instruction]:
    """What follows from `event`. Raises `ArgumentError` for a range of iterations that the loop has not."""
    match event:
        case Started():
            begun = _instance(program, "")
            return begun if program.plan.main.units else [*begun, *_ended_main(program)]
        case Finished(path, unit, start, stop):
            if isinstance(program.unit(path, unit), Loop):
                return _chunk_finished(program, path, unit, start, stop)
            return _subgraph_finished(program, path, unit)
        case Released(path, unit):
            return _iteration(program, path, unit, 0, path)
        case Ended(""):
            return _ended_main(program)
        case Ended(path):
            return _ended_iteration(program, path)


def _instance(program: Program, path: str) -> list[Instruction]:
    scope = program.scope(path)
    made: list[Instruction] = [NewScope(path, len(scope.plan.units))]
    for index, (unit, waiting_for) in enumerate(zip(scope.plan.units, scope.waits, strict=True)):
        state = states.WAITING if waiting_for else states.OPEN if is_opened(unit) else states.READY
        made.append(NewTask(path, index, state, waiting_for))
        if state == states.OPEN:
            made += _iteration(program, path, index, 0, path)
    return made


def _iteration(program: Program, path: str, unit: int, index: int, previous: str) -> list[Instruction]:
    """Iteration `index` begins, with the carries that the instance `previous` gives (the loop's own, for
    the first)."""
    loop, here = program.loop(path, unit), child(path, unit, index)
    made: list[Instruction] = [Open(path, unit, index)]
    for carry in loop.carries:
        source = program.place(previous, carry.body_out if index else carry.init)
        made.append(Bind(Place(here, carry.body_in), source))
    made += [Bind(Place(here, s.body_in), program.place(path, s.source), index) for s in loop.sliced]
    return made + _instance(program, here)


def _subgraph_finished(program: Program, path: str, index: int) -> list[Instruction]:
    unit = program.unit(path, index)
    made: list[Instruction] = [
        Bind(Place(path, port.value), Output(port.name)) for port in _output_ports(unit)
    ]
    return [*made, Count(work_of(unit), int(program.counts_units), 1), *_done(program, path, index)]


def _chunk_finished(program: Program, path: str, index: int, start: int, stop: int) -> list[Instruction]:
    loop = program.loop(path, index)
    if not 0 <= start <= stop <= loop.length or (start == stop and loop.length):
        raise ArgumentError(
            "not a range of the loop's iterations", expected=f"within {loop.length}", received=(start, stop)
        )
    last = stop == loop.length
    carries = {carry.final: carry for carry in loop.carries}
    made: list[Instruction] = []
    for port in _output_ports(loop):
        carry = carries.get(port.value)
        if carry is None:
            begin = loop.first + start
            made.append(Append(Place(path, port.value), Output(port.name), begin, stop - start, single=False))
        else:
            made.append(Bind(Place(path, carry.final if last else carry.body_in), Output(port.name)))
    made.append(Count(work_of(loop, stop - start, ends=last), loop.steps * (stop - start), 1))
    if not last:
        return [*made, Repeat(path, index, stop)]
    made += [Forget(Place(path, carry.body_in)) for carry in loop.carries if start]
    return [*made, *_done(program, path, index)]


def _ended_iteration(program: Program, here: str) -> list[Instruction]:
    path, unit, index = iteration_of(here)
    loop = program.loop(path, unit)
    body = program.scopes[key_of(here)].plan
    made: list[Instruction] = [Count(0.0, max(0, loop.steps - steps_inside(body)), 0)]
    for stacked in loop.stacked:
        made.append(
            Append(Place(path, stacked.stacked), program.place(here, stacked.body_out), index, 1, single=True)
        )
    if index + 1 < loop.length:
        return [*made, *_iteration(program, path, unit, index + 1, here), DropScope(here)]
    made += [Bind(Place(path, carry.final), program.place(here, carry.body_out)) for carry in loop.carries]
    return [*made, DropScope(here), *_done(program, path, unit)]


def _done(program: Program, path: str, unit: int) -> list[Instruction]:
    """The unit is done: those who read it wait for less, and its scope has one less to do."""
    scope = program.scope(path)
    readers = [
        Decrement(path, reader, by, is_opened(scope.plan.units[reader])) for reader, by in scope.readers[unit]
    ]
    return [Done(path, unit), *readers, CountDown(path)]


def _ended_main(program: Program) -> list[Instruction]:
    return [FinishGraph(frozenset(program.plan.main.outputs))]


def _output_ports(unit: object) -> tuple[Port, ...]:
    subgraph = unit.chunk if isinstance(unit, Loop) else unit
    return subgraph.outputs if isinstance(subgraph, Subgraph) else ()
