"""An embedded installation moved to PostgreSQL in the middle of a training, and PostgreSQL restarted and killed: pauses, and
the result is that of one machine."""

from __future__ import annotations

from itertools import takewhile

import pytest
from postgresql import own_postgresql
from processes import Lab
from workloads import assert_equals_local, training, wait_until_step

import ravop as R
from ravop.client.api import session
from ravop.protocol.messages import GraphInfo

pytestmark = pytest.mark.alone

STEPS = 2_000
"""More than are done while the coordinator changes its database."""


def test_a_training_outlives_the_move_to_postgresql_and_its_restarts(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_postgresql() as server:
        coordinator = lab.coordinator()
        lab.providers(1)
        R.initialize(lab.token("requester", "anna"), url=lab.url)
        graph = training(STEPS)
        R.activate()
        R.execute()
        wait_until_step(graph, STEPS // 5)
        coordinator.terminate()
        assert coordinator.end() == 0
        monkeypatch.setenv("RAVENVERSE_DATABASE_URL", server.url)
        monkeypatch.setenv("RAVENVERSE_BLOBS", str(lab.folder / "blobs elsewhere"))
        lab.ravsock("db", "copy")
        coordinator = lab.coordinator()
        for part, how in enumerate(("fast", "kill"), start=2):
            wait_until_step(graph, part * STEPS // 5)
            news = session().watch(graph.id)
            next(news)
            server.stop(how)
            executing = takewhile(
                lambda told: isinstance(told, GraphInfo) and told.state == "executing", news
            )
            assert any(isinstance(told, GraphInfo) and "database" in told.waiting for told in executing)
            server.start()
        R.track_progress()
        assert_equals_local("losses", "first", "second", "third")
        failed_on, expiries = server.execute("SELECT max(failed_on), max(expiries) FROM tasks")[0]
        assert not failed_on
        assert not expiries
        R.disconnect()
        coordinator.terminate()
        assert coordinator.end() == 0
