"""Whatever providers do and whenever the program dies: each task is committed once, and nothing acknowledged
is lost.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plans
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from plans import Bench, chain, epochs, lattice, training, whole_chunk

from ravop.errors import Problem
from ravop.protocol.messages import Earlier, Task
from ravsock.core.program import Program
from ravsock.store import Failure, Lease, Release, Result, Store

LENGTH = 6
SECONDS = 50.0
CHURNED = {
    "training": lambda: training(LENGTH, gang=True), "epochs": lambda: epochs(2, 3), "lattice": lambda: lattice(3, 3),
    "chain": lambda: chain(6),
}  # fmt: skip
ITERATIONS = {"train": LENGTH + 1, "prepare": 2 + 2 * (3 + 4), "0 0": 9, "chain 0": 6}
"""Of each case, by its first unit."""
PROVIDERS = st.sampled_from(["p1", "p2", "p3"])


@dataclass(eq=False)
class Attempt:
    """One lease, as the model sees it."""

    task: Task
    provider: str
    deadline: float
    result: Result
    needs: frozenset[int]
    """Tasks of the batch whose outputs it reads."""
    gang: bool = False
    leased: bool = True
    welcome: bool = True
    """Its result would be accepted, where it does not run ahead."""

    @property
    def id(self) -> int:
        return self.task.task_id

    def back(self) -> Release:
        return Release(task_id=self.id, attempt=self.task.attempt, provider_id=self.provider)


class Churn(RuleBasedStateMachine):
    """Providers that take batches and copies, deliver, deliver late and twice, fail, hand back and vanish; beside a
    model of what counts.
    """

    def __init__(self, fresh: Callable[[], AbstractContextManager[Bench]]) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.bench = self.stack.enter_context(fresh())
        self.attempts: list[Attempt] = []
        self.accepted: set[int] = set()
        self.failures: dict[int, int] = {}
        self.expiries: dict[int, int] = {}
        self.iterations = 0
        self.failed = False

    @initialize(name=st.sampled_from(["training", "epochs", "lattice", "chain"]))
    def begin(self, name: str) -> None:
        self.case = CHURNED[name]()
        self.bench.start(self.case, "g")

    @property
    def done(self) -> bool:
        return self.bench.store.graph("g").state == "done"

    @precondition(lambda self: not self.failed)
    @rule(
        provider=PROVIDERS, chunk=st.integers(1, 3), which=st.integers(0, 5), many=st.integers(1, 3),
        ahead=st.integers(0, 4), gang=st.booleans(),
    )  # fmt: skip
    def lease(self, provider: str, chunk: int, which: int, many: int, ahead: int, gang: bool) -> None:
        ready = self.bench.store.ready(9)
        if not ready:
            return
        chosen = ready[which % len(ready) :][:many]
        gang = gang and bool(chosen[0].gangs)
        names = [task.task_id for task in chosen][: 1 if gang else many]
        batch = self.bench.batch(
            names, provider, SECONDS, stop=chosen[0].start + chunk, ahead=ahead, gang=0 if gang else None
        )
        batch = (whole_chunk(batch),) if gang else batch
        assert [task.task_id for task in batch[: len(names)]] == names
        for other in self.attempts:
            if other.id in {task.task_id for task in batch}:
                assert not other.leased
                other.welcome = False
        results = self.bench.compute_all(self.case.workshop.kernels, batch, provider)
        for task, result in zip(batch, results, strict=True):
            needs = {batch[i.ref.task].task_id for i in task.inputs if isinstance(i.ref, Earlier)}
            deadline = self.bench.now + SECONDS
            self.attempts.append(Attempt(task, provider, deadline, result, frozenset(needs), gang))

    @precondition(lambda self: not self.failed and any(a.leased for a in self.attempts))
    @rule(provider=PROVIDERS, which=st.integers(0, 50))
    def copy(self, provider: str, which: int) -> None:
        leased = [attempt for attempt in self.attempts if attempt.leased]
        first = leased[which % len(leased)]
        wish = Lease(provider_id=provider, deadline=self.bench.now + SECONDS, tasks=(first.id,))
        (batch,) = self.bench.store.copy([wish], self.bench.now)
        may = (
            provider != first.provider and not first.gang and not self.waits(first) and not self.others(first)
        )
        assert len(batch) == may
        for task in batch:
            assert task.attempt > max(a.task.attempt for a in self.attempts if a.id == first.id)
            result = self.bench.compute(self.case.workshop.kernels, task, provider)
            self.attempts.append(Attempt(task, provider, wish.deadline, result, frozenset()))

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 50), many=st.integers(1, 4))
    def deliver(self, which: int, many: int) -> None:
        """Some attempts of one provider, in the order in which it got them."""
        last = len(self.attempts) - which % len(self.attempts)
        sent = [a for a in self.attempts[:last] if a.provider == self.attempts[last - 1].provider][-many:]
        outcomes = self.bench.store.complete([attempt.result for attempt in sent], self.bench.now)
        for attempt, outcome in zip(sent, outcomes, strict=True):
            ahead = self.waits(attempt)
            assert outcome.accepted == (attempt.welcome and not ahead)
            if outcome.accepted:
                self.iterations += outcome.iterations
                self.accepted.add(attempt.id)
                self.forget(attempt.id)
                beaten = self.others(attempt)
                assert {r.task.attempt for r in outcome.recalls if r.task.task_id == attempt.id} == {
                    other.task.attempt for other in beaten
                }
                self.over(attempt, falls=False)
                for other in beaten:
                    self.over(other)
            elif attempt.leased:
                self.over(attempt)

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 50))
    def fail(self, which: int) -> None:
        attempt = self.attempts[-1 - which % len(self.attempts)]
        problem = Problem(code="crashed", message="gone")
        report = Failure(
            task_id=attempt.id, attempt=attempt.task.attempt, provider_id=attempt.provider, problem=problem
        )
        (outcome,) = self.bench.store.fail([report], self.bench.now)
        assert (outcome.problem is not None) == attempt.leased
        if attempt.leased:
            self.count_failure(attempt, outcome.finished)

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 50))
    def hand_back(self, which: int) -> None:
        attempt = self.attempts[-1 - which % len(self.attempts)]
        assert self.bench.store.release([attempt.back()]) == [attempt.leased]
        if attempt.leased:
            self.expiries[attempt.id] = 0
            self.over(attempt, stays=self.stays(attempt))

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.bench.now += seconds
        before = [a for a in self.attempts if a.leased]
        outcomes = self.bench.store.expire(self.bench.now)
        finished = {r.task.task_id for o in outcomes if o.finished for r in o.recalls[:1]}
        gone = {(r.task.task_id, r.task.attempt) for o in outcomes for r in o.recalls}
        late = [attempt for attempt in before if attempt.deadline < self.bench.now]
        for attempt in sorted(late, key=lambda a: (a.id, -a.task.attempt)):
            others = [other for other in self.others(attempt) if other.deadline >= self.bench.now]
            if attempt.leased and (others or self.others(attempt)):
                self.expiries[attempt.id] = 0 if others else self.expiries.get(attempt.id, 0)
                self.over(attempt)
            elif attempt.leased:
                self.expiries[attempt.id] = self.expiries.get(attempt.id, 0) + 1
                if self.expiries[attempt.id] == 3:
                    self.count_failure(attempt, attempt.id in finished)
                else:
                    self.over(attempt, stays=self.stays(attempt))
        assert gone == {(a.id, a.task.attempt) for a in before if not a.leased}

    @precondition(lambda self: self.failed)
    @rule()
    def execute_again(self) -> None:
        self.bench.store.start_graph("g", self.bench.owner, self.bench.now)
        self.failed, self.failures, self.expiries = False, {}, {}

    @rule()
    def restart(self) -> None:
        """The coordinator was killed: a new one knows only the database."""
        held = self.bench.store.held_by()
        store = self.bench.store
        for remembered in (store._remembered, store._needed, store._ports):
            remembered._kept.clear()
        store._engine.dispose()
        assert self.bench.store.held_by() == held
        assert {(h.task_id, h.attempt, h.provider_id) for h in held} == {
            (a.id, a.task.attempt, a.provider) for a in self.attempts if a.leased
        }

    @precondition(lambda self: self.attempts)
    @rule(provider=PROVIDERS)
    def come_back(self, provider: str) -> None:
        """A provider claims all that it ever had."""
        mine = [attempt for attempt in self.attempts if attempt.provider == provider]
        stay = [a for a in mine if a.welcome and not a.gang and not self.waits(a)]
        kept = self.bench.store.keep(
            [attempt.back() for attempt in mine], lambda _: self.bench.now + SECONDS, self.bench.now
        )
        assert {(held.task_id, held.attempt) for _, held in kept} == {(a.id, a.task.attempt) for a in stay}
        for attempt in stay:
            if not attempt.leased:
                attempt.leased, attempt.deadline = True, self.bench.now + SECONDS
        for attempt in [attempt for attempt in mine if attempt.leased and attempt not in stay]:
            self.expiries[attempt.id] = 0
            self.over(attempt)

    # ── the model ─────────────────────────────────────────────────────────────────────────────────
    def waits(self, attempt: Attempt) -> bool:
        return bool(attempt.needs - self.accepted)

    def stays(self, attempt: Attempt) -> bool:
        """Whether the result of an attempt that ends without a failure is welcome."""
        return not (attempt.gang or self.waits(attempt) or self.others(attempt))

    def others(self, attempt: Attempt) -> list[Attempt]:
        return [a for a in self.attempts if a.id == attempt.id and a.leased and a is not attempt]

    def over(self, attempt: Attempt, *, stays: bool = False, falls: bool = True) -> None:
        """The attempt has ended; its result `stays` welcome, and what ran ahead on it `falls` back."""
        attempt.leased, attempt.welcome = False, stays
        for other in self.attempts if falls else ():
            if attempt.id in other.needs and other.leased and other.provider == attempt.provider:
                self.over(other)

    def count_failure(self, attempt: Attempt, finished: bool) -> None:
        self.failures[attempt.id] = self.failures.get(attempt.id, 0) + 1
        self.expiries[attempt.id] = 0
        last = not self.others(attempt)
        self.over(attempt)
        assert finished == (self.failures[attempt.id] >= 3 and last)
        if finished:
            self.failed = True
            for other in self.attempts:
                other.leased = other.welcome = False

    def forget(self, task: int) -> None:
        self.failures.pop(task, None)
        self.expiries.pop(task, None)

    def teardown(self) -> None:
        """Let the rest run: the result is right, and every iteration was counted once."""
        try:
            if hasattr(self, "case"):
                self._finish()
        finally:
            self.stack.close()

    def _finish(self) -> None:
        if self.failed:
            self.execute_again()
        for attempt in self.attempts:
            if attempt.leased and not self.waits(attempt):
                assert self.bench.store.release([attempt.back()]) == [True]
                self.over(attempt)
        while (outcome := self.bench.step(self.case)) is not None:
            assert outcome.accepted
            self.iterations += outcome.iterations
        assert self.done
        assert self.iterations == ITERATIONS[self.case.plan.main.units[0].label]
        info = self.bench.store.progress("g", None, self.bench.now)
        assert info.steps_done == info.steps_total
        for persisted in self.case.persisted:
            np.testing.assert_allclose(
                self.bench.fetch("g", persisted.name), self.case.expected()[persisted.value], rtol=1e-12
            )


def test_churn(fresh_bench: Callable[[], AbstractContextManager[Bench]]) -> None:
    run_state_machine_as_test(
        lambda: Churn(fresh_bench),
        settings=settings(
            max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.parametrize("acknowledged", [1, 4, 9])
def test_killed_in_the_middle_of_commits(store_url: str, acknowledged: int) -> None:
    """Nothing that was said to be done is lost, nothing is done twice, and the rest runs to the right end."""
    length = 40
    support = Path(plans.__file__).parent
    script = subprocess.Popen(
        [sys.executable, str(support / "commit_for_ever.py"), store_url, str(length)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{support}{os.pathsep}{Path.cwd()}"},
    )  # fmt: skip
    with script:
        assert script.stdout is not None
        said = 0
        for line in script.stdout:
            said = int(line)
            if said >= acknowledged:
                break
        assert said == acknowledged
        script.kill()
    store = Store(store_url)
    bench, case = Bench(store, ()), training(length)
    before = store.progress("g", None, bench.now).steps_done
    assert said <= before < length
    bench.owner = store.graph("g").owner
    bench.blobs |= {plans.sha256(data): data for data in map(plans.encode_tensor, case.inputs.values())}
    kernels = dict(zip(Program(store.plan("g")).models(), case.workshop.kernels.values(), strict=True))
    taken = 0
    for held in store.held_by():
        assert store.release(
            [Release(task_id=held.task_id, attempt=held.attempt, provider_id=held.provider_id)]
        ) == [True]
    while ready := store.ready(1):
        ((task,),) = store.lease(
            [Lease(tasks=(ready[0].task_id,), provider_id="p1", deadline=bench.now + 9)], bench.now
        )
        outcome = bench.complete(bench.compute(kernels, task))
        assert outcome.accepted
        taken += outcome.iterations
    assert taken == length - before + 1
    for persisted in case.persisted:
        np.testing.assert_allclose(
            bench.fetch("g", persisted.name), case.expected()[persisted.value], rtol=1e-12
        )
    store.close()
