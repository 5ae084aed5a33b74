"""Machines that freeze, are missing or come back in the middle of a training: the result is that of one machine. Those
that are killed are in `test_chaos`.
"""

from __future__ import annotations

import pytest
from processes import Lab
from workloads import STEPS, assert_equals_local, busy_provider, training, wait_until_step

import ravop as R
from ravop.client.api import session
from ravop.protocol.messages import GraphInfo


def connect(lab: Lab) -> None:
    R.initialize(lab.token("requester", "anna"), url=lab.url)


def test_a_provider_frozen_in_the_middle_and_thawed_too_late(lab: Lab) -> None:
    lab.coordinator()
    volunteers = lab.providers(2)
    connect(lab)
    graph = training()
    R.activate()
    R.execute()
    wait_until_step(graph, STEPS // 5)
    frozen = volunteers[busy_provider()]
    frozen.freeze()
    R.track_progress()
    frozen.thaw()  # what it still delivers is nobody's any more
    assert_equals_local("losses", "third")


def test_the_coordinator_killed_and_started_again(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    coordinator = lab.coordinator()
    lab.providers(1)
    connect(lab)
    graph = training()
    R.activate()
    R.execute()
    wait_until_step(graph, STEPS // 5)
    coordinator.kill()
    lab.coordinator(wait=False)
    R.track_progress()
    assert "does not answer" in capsys.readouterr().out
    assert_equals_local("losses", "first", "second", "third")


def test_without_a_provider_it_waits_and_says_so(lab: Lab) -> None:
    lab.coordinator()
    connect(lab)
    graph = training(steps=5)
    R.activate()
    R.execute()
    waiting = next(
        news.waiting for news in session().watch(graph.id) if isinstance(news, GraphInfo) and news.waiting
    )
    assert "provider" in waiting
    lab.providers(1)
    R.track_progress()
    assert_equals_local("losses")


def test_values_are_there_while_the_rest_still_runs(lab: Lab) -> None:
    lab.coordinator()
    lab.providers(1)
    connect(lab)
    graph = training()
    R.activate()
    R.execute()
    wait_until_step(graph, 1)
    assert R.fetch_persisting_op(op_name="loss_1") > 0
    with pytest.raises(R.errors.NotComputedError):
        R.fetch("first")
    assert graph.info.state == "executing"
    assert 0 < graph.progress < 100
    with pytest.raises(R.errors.UnknownNameError):
        R.fetch("no such name")
    R.track_progress()
    assert graph.progress == 100
    assert graph.get_op_stats()["pending_ops"] == 0


def test_a_computation_that_fails_everywhere_names_the_op_and_the_line(lab: Lab) -> None:
    lab.coordinator()
    lab.providers(3)
    connect(lab)
    R.Graph(name="doomed", algorithm="test")
    index = R.t([7.0]).astype("int64") * 2
    R.gather(R.t([1.0, 2.0]), index).persist_op(name="out")  # 14 is out of range, but nobody can know yet
    R.activate()
    R.execute()
    with pytest.raises(R.errors.GraphFailedError) as caught:
        R.track_progress()
    problem = caught.value.problem
    assert "Gather" in problem.op or "gather" in problem.op
    assert "R.gather(R.t([1.0, 2.0]), index)" in problem.source
    with pytest.raises(R.errors.GraphFailedError):
        R.fetch("out")
