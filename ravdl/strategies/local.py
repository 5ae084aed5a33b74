"""`LocalSGD`: rounds in which each worker trains on its own, and the outer step after each.

The body of a round has a loop for each worker, which reads the shared weights and what that worker keeps: the memory of its
optimizer, and what rounding lost of its last difference. Workers meet in the differences they send, and in a few measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import ravop as R
from ravdl.neural_networks.data import Batch
from ravdl.neural_networks.layers import Moment
from ravdl.neural_networks.means import shares, weighted
from ravdl.neural_networks.training import STEP, Measures, Recipe, State
from ravdl.neural_networks.weights import KEPT
from ravdl.strategies.compression import TRANSFERS, send
from ravdl.strategies.kinds import Average, LocalSGD
from ravdl.strategies.workers import Course, Schedule, Worker
from ravop.errors import DTypeError
from ravop.graph import Op
from ravop.graph.dtypes import is_float

ERROR, MEMORY = "error", "outer"


class Shared(NamedTuple):
    """All that a run changes; a tree that a scan can carry."""

    weights: dict[str, Op]
    slots: tuple[dict[str, tuple[Op, ...]], ...]
    """Each worker's, as `State.slots`."""
    errors: tuple[dict[str, Op], ...]
    """Each worker's, by pack: what rounding lost so far; empty where nothing is rounded."""
    memory: dict[str, Op]
    """The outer optimizer's, by pack; empty when it has none."""
    step: Op
    """int64 scalar: steps that each worker has done so far."""
    rate: Op | None = None
    """See `State.rate`."""


@dataclass(frozen=True)
class LocalTraining:
    """One run: how it is done, on what, and the weights that it does not move."""

    how: LocalSGD
    recipe: Recipe
    frozen: dict[str, Op]
    plan: Schedule
    workers: tuple[Worker, ...]

    @property
    def sizes(self) -> tuple[int, int]:
        """Samples of all workers in a step, and in the last, smaller one."""
        return self.plan.batch * self.how.workers, sum(self.plan.rests)

    # ── the state ─────────────────────────────────────────────────────────────────────────────────
    def state(self, before: State, known: Callable[[str], Op | None]) -> Shared:
        """The state before the next round, see `Recipe.state`. A worker that has no memory of its own yet starts with
        the common one.
        """
        _check_sendable(self.how.transfer, [before.weights[name] for name in self.recipe.trained])
        exact, averages = TRANSFERS[self.how.transfer].exact, isinstance(self.how.outer, Average)
        knowers = [_known_of(index, known) for index in range(self.how.workers)]
        return Shared(
            before.weights,
            tuple(self.recipe.state(before.weights, mine).slots for mine in knowers),
            tuple({} if exact else self._packed(ERROR, mine) for mine in knowers),
            {} if averages else self._packed(MEMORY, lambda name: known(KEPT + name)),
            before.step,
        )

    def _packed(self, what: str, known: Callable[[str], Op | None]) -> dict[str, Op]:
        return {pack.key: self.recipe.packed(pack, what, known) for pack in self.recipe.packs}

    def tensors(self, state: Shared) -> dict[str, Op]:
        """The whole state by flat names. The mean of the workers' memories is what another strategy goes on with."""
        workers = [self.recipe.tensors(State(state.weights, slots, state.step)) for slots in state.slots]
        memory = [name for name in workers[0] if name not in state.weights and name != STEP]
        parts = shares([1] * len(workers))
        found = workers[0] | {name: weighted([own[name] for own in workers], parts) for name in memory}
        for index, (own, errors) in enumerate(zip(workers, state.errors, strict=True)):
            found |= {_own(index, name): own[name] for name in memory}
            found |= {_own(index, name): value for name, value in self._parts(errors, ERROR).items()}
        return found | {KEPT + name: value for name, value in self._parts(state.memory, MEMORY).items()}

    def _parts(self, packed: Mapping[str, Op], what: str) -> dict[str, Op]:
        return {
            f"{name}_{what}": part
            for pack in self.recipe.packs
            if pack.key in packed
            for name, part in pack.part(packed[pack.key]).items()
        }

    # ── training ──────────────────────────────────────────────────────────────────────────────────
    def one_pass(self, state: Shared) -> tuple[Shared, Measures, Measures]:
        """An epoch: see `ravdl.neural_networks.loop.Pass`."""
        courses = [worker.epoch(self._number(index, state.step)) for index, worker in enumerate(self.workers)]
        parts: list[Measures] = []
        last: Measures = {}
        if self.plan.rounds:
            state, measured = R.scan(
                lambda s, xs: self._round(s, courses, xs, last=False)[:2], state, [c.rounds for c in courses]
            )
            parts.append({name: R.reshape(value, (-1,)) for name, value in measured.items()})
        if self.plan.tail or any(self.plan.rests):
            tails = [course.tail for course in courses] if self.plan.tail else None
            state, measured, last = self._round(state, courses, tails, last=True)
            parts += [measured] if measured else []
        joined = {name: R.concat([p[name] for p in parts], axis=0) for name in parts[0]}
        return state, joined if len(parts) > 1 else parts[0], last

    def _round(
        self, state: Shared, courses: list[Course], xs: Any, last: bool
    ) -> tuple[Shared, Measures, Measures]:
        """Each worker's steps over its element of `xs`, and over its last batch; then the outer step."""
        count = self.how.workers
        steps = 0 if xs is None else (self.plan.tail if last else self.plan.every)
        rests = self.plan.rests if last else (0,) * count
        ended: list[State] = []
        measured: list[Measures] = []
        at_last: list[Measures] = []
        for index, course in enumerate(courses):
            own = State(state.weights, state.slots[index], state.step, state.rate)
            if xs is not None:
                own, found = R.scan(self._step(index, course.batch), own, xs[index])
                measured.append(found)
            if rests[index]:
                own, found = R.scan(self._step(index, course.batch), own, course.last)
                at_last.append({name: R.reshape(value, ()) for name, value in found.items()})
            ended.append(own)
        done = [steps * self.plan.batch + rest for rest in rests]
        after = self._met(state, ended, done, state.step + (steps + any(rests)))
        return after, _mean(measured, [1] * len(measured)), _mean(at_last, [rest for rest in rests if rest])

    def _step(
        self, index: int, batch: Callable[[Any], Batch]
    ) -> Callable[[State, Any], tuple[State, Measures]]:
        def step(state: State, x: Any) -> tuple[State, Measures]:
            moment = Moment(self.recipe.seed, self._number(index, state.step))
            return self.recipe.step(state, self.frozen, batch(x), moment)

        return step

    def _number(self, index: int, step: Op) -> Op:
        """A number of this step of this worker, for what is drawn at random."""
        return step if self.how.workers == 1 else step * self.how.workers + index

    def _met(self, before: Shared, ended: list[State], done: list[int], step: Op) -> Shared:
        """The outer step. `done`: samples that each worker has used since they met last, its weight in all means."""
        took_part = [index for index, samples in enumerate(done) if samples]
        parts = shares([done[index] for index in took_part])
        transfer, outer = TRANSFERS[self.how.transfer], self.how.outer
        errors = [dict(own) for own in before.errors]
        weights: dict[str, Op] = {}
        memory: dict[str, Op] = {}
        with step.graph.label("outer"):
            for pack in self.recipe.packs:
                shared = pack.join(before.weights)
                arrived = []
                for index in took_part:
                    moved = shared - pack.join(ended[index].weights)
                    found, lost = send(transfer, moved, errors[index].get(pack.key))
                    arrived.append(found)
                    if lost is not None:
                        errors[index][pack.key] = lost
                change, kept = outer.change(weighted(arrived, parts), before.memory.get(pack.key))
                if kept is not None:
                    memory[pack.key] = kept
                weights |= {name: before.weights[name] - part for name, part in pack.part(change).items()}
            for name in [name for name in before.weights if name not in weights]:
                weights[name] = _averaged([ended[index].weights[name] for index in took_part], parts)
        slots = tuple(own.slots for own in ended)
        after = {name: weights[name] for name in before.weights}
        return Shared(after, slots, tuple(errors), memory, step, before.rate)


def _check_sendable(transfer: str, weights: list[Op]) -> None:
    for op in weights:
        if op.dtype != np.float32 and not TRANSFERS[transfer].exact:
            raise DTypeError(
                f"differences of this weight cannot be sent as {transfer}",
                expected="float32 weights",
                received=repr(op),
                source=op.source,
                hint="use transfer='float32'",
            )


def _known_of(index: int, known: Callable[[str], Op | None]) -> Callable[[str], Op | None]:
    """What a worker knows: what it remembers itself, else what all share."""

    def found(name: str) -> Op | None:
        own = known(_own(index, name))
        return known(name) if own is None else own

    return found


def _own(index: int, name: str) -> str:
    """The name of what one worker alone remembers."""
    return f"{KEPT}worker_{index + 1}.{name}"


def _mean(measured: list[Measures], weights: list[int]) -> Measures:
    if not measured:
        return {}
    parts = shares(weights)
    return {name: weighted([own[name] for own in measured], parts) for name in measured[0]}


def _averaged(values: list[Op], parts: list[float]) -> Op:
    """The mean of what layers moved themselves, such as running statistics; taken in float32, whatever they are."""
    dtype = values[0].dtype
    if dtype == np.float32:
        return weighted(values, parts)
    mean = weighted([R.astype(value, np.float32) for value in values], parts)
    return R.astype(mean if is_float(dtype) else R.round(mean), dtype)
