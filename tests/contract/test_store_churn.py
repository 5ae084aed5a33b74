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
from plans import Bench, epochs, training

from ravop.errors import Problem
from ravop.protocol.messages import Task
from ravsock.core.program import Program
from ravsock.store import Failure, Lease, Release, Store

LENGTH = 6
SECONDS = 50.0
PROVIDERS = st.sampled_from(["p1", "p2", "p3"])


@dataclass
class Attempt:
    """One lease, as the model sees it."""

    task: Task
    provider: str
    deadline: float
    leased: bool = True
    welcome: bool = True
    """Its result would be accepted."""


class Churn(RuleBasedStateMachine):
    """Providers that take, deliver, deliver late and twice, fail, hand back and vanish; beside a model of
    what counts.
    """

    def __init__(self, fresh: Callable[[], AbstractContextManager[Bench]]) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.bench = self.stack.enter_context(fresh())
        self.attempts: list[Attempt] = []
        self.failures: dict[int, int] = {}
        self.expiries: dict[int, int] = {}
        self.iterations = 0
        self.failed = False

    @initialize(name=st.sampled_from(["training", "epochs"]))
    def begin(self, name: str) -> None:
        self.case = training(LENGTH) if name == "training" else epochs(2, 3)
        self.bench.start(self.case, "g")

    @property
    def done(self) -> bool:
        return self.bench.store.graph("g").state == "done"

    @precondition(lambda self: not self.failed)
    @rule(provider=PROVIDERS, chunk=st.integers(1, 3), which=st.integers(0, 5))
    def lease(self, provider: str, chunk: int, which: int) -> None:
        ready = self.bench.store.ready(9)
        if not ready:
            return
        chosen = ready[which % len(ready)]
        task = self.bench.lease(chosen.task_id, provider, chosen.start + chunk, SECONDS)
        assert task is not None
        for other in self.attempts:
            if other.task.task_id == task.task_id:
                assert not other.leased
                other.welcome = False
        self.attempts.append(Attempt(task, provider, self.bench.now + SECONDS))

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 50))
    def deliver(self, which: int) -> None:
        attempt = self.attempts[-1 - which % len(self.attempts)]
        result = self.bench.compute(self.case.workshop.kernels, attempt.task, attempt.provider)
        outcome = self.bench.complete(result)
        assert outcome.accepted == attempt.welcome
        if outcome.accepted:
            self.iterations += outcome.iterations
            self._forget(attempt.task.task_id)
            attempt.leased = attempt.welcome = False

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 50))
    def fail(self, which: int) -> None:
        attempt = self.attempts[-1 - which % len(self.attempts)]
        problem = Problem(code="crashed", message="gone")
        report = Failure(
            task_id=attempt.task.task_id,
            attempt=attempt.task.attempt,
            provider_id=attempt.provider,
            problem=problem,
        )
        (outcome,) = self.bench.store.fail([report], self.bench.now)
        assert (outcome.problem is not None) == attempt.leased
        if attempt.leased:
            self._failed(attempt, outcome.finished)

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 50))
    def hand_back(self, which: int) -> None:
        attempt = self.attempts[-1 - which % len(self.attempts)]
        release = Release(
            task_id=attempt.task.task_id, attempt=attempt.task.attempt, provider_id=attempt.provider
        )
        assert self.bench.store.release([release]) == [attempt.leased]
        if attempt.leased:
            self.expiries[attempt.task.task_id] = 0
        attempt.leased = False

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.bench.now += seconds
        outcomes = self.bench.store.expire(self.bench.now)
        gone = {(o.recalls[0].task.task_id, o.recalls[0].task.attempt): o for o in outcomes}
        late = [a for a in self.attempts if a.leased and a.deadline < self.bench.now]
        assert set(gone) == {(a.task.task_id, a.task.attempt) for a in late}
        for attempt in late:
            task = attempt.task.task_id
            self.expiries[task] = self.expiries.get(task, 0) + 1
            attempt.leased = False
            if self.expiries[task] == 3:
                self._failed(attempt, gone[task, attempt.task.attempt].finished)

    @precondition(lambda self: self.failed)
    @rule()
    def execute_again(self) -> None:
        self.bench.store.start_graph("g", self.bench.owner, self.bench.now)
        self.failed, self.failures, self.expiries = False, {}, {}

    @rule()
    def restart(self) -> None:
        """The coordinator was killed: a new one knows only the database."""
        held = self.bench.store.held_by()
        self.bench.store._remembered.clear()
        self.bench.store._needed.clear()
        self.bench.store._engine.dispose()
        assert self.bench.store.held_by() == held
        assert {(h.task_id, h.attempt) for h in held} == {
            (a.task.task_id, a.task.attempt) for a in self.attempts if a.leased
        }

    def _failed(self, attempt: Attempt, finished: bool) -> None:
        task = attempt.task.task_id
        self.failures[task] = self.failures.get(task, 0) + 1
        self.expiries[task] = 0
        attempt.leased = attempt.welcome = False
        assert finished == (self.failures[task] == 3)
        if finished:
            self.failed = True
            for other in self.attempts:
                other.leased = other.welcome = False

    def _forget(self, task: int) -> None:
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
        held = [
            Release(task_id=a.task.task_id, attempt=a.task.attempt, provider_id=a.provider)
            for a in self.attempts
            if a.leased
        ]
        assert all(self.bench.store.release(held))
        while (outcome := self.bench.step(self.case)) is not None:
            assert outcome.accepted
            self.iterations += outcome.iterations
        assert self.done
        loops = isinstance(self.case.plan.main.units[0], plans.Loop)
        assert self.iterations == (LENGTH + 1 if loops else 2 + 2 * (3 + 4))
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
            max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
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
