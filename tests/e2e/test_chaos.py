"""A training under random kills, freezes and cuts: it ends as if nothing had happened."""

from __future__ import annotations

import numpy as np
import pytest
from chaos import Chaos, Watched, finished, ledger
from processes import Lab
from relay import relaying
from workloads import training

import ravop as R

pytestmark = pytest.mark.alone

STEPS = 2000
DISTURBANCES = 12
NAMES = ("losses", "first", "second", "third")


@pytest.mark.parametrize("seed", [1])
def test_a_training_under_random_disturbances(lab: Lab, seed: int) -> None:
    coordinator = lab.coordinator()
    R.initialize(lab.token("requester", "anna"), url=lab.url)
    graph = training(STEPS)
    expected = R.run_local()
    with relaying(lab.url) as relay:
        chaos = Chaos(lab, relay, coordinator, 2, seed)
        R.activate()
        R.execute()
        watched = Watched(graph.id)
        chaos.run(watched, DISTURBANCES, pause=0.3, counted=tuple(chaos.actions()), name="loss_{}".format)
        info = finished(watched, 90)
        assert sum(chaos.done.values()) >= DISTURBANCES // 2, chaos.done
        assert info.steps_done == info.steps_total == STEPS
        for name, value in R.fetch_many(NAMES).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
        losses = R.fetch("losses")
        for name, value in chaos.seen.items():
            assert value == losses[int(name.removeprefix("loss_")) - 1], name
        found = ledger(lab.data / "ravenverse.db", graph.id)
        assert (found.steps, found.left, found.gaps) == (STEPS, 0, [])
        assert found.commits == found.credited
        R.disconnect()
