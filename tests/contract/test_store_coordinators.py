"""What several coordinators write down for each other: who lives, which provider is where, and who looks after what."""

from __future__ import annotations

from contextlib import closing

import pytest
import sqlalchemy as sa
from databases import schema
from plans import PROFILE, Bench, lattice

from ravop.errors import VersionError
from ravsock.store import Lease, Release, Store


def at(bench: Bench, provider: str, coordinator: str) -> None:
    bench.store.register_provider(provider, bench.provider_token, PROFILE, bench.now, coordinator)


def test_those_who_ask_together_begin_at_different_tasks_and_all_see_all(bench: Bench) -> None:
    bench.start(lattice(8), "g")
    alone = [task.task_id for task in bench.store.ready(99)]
    parts = [[task.task_id for task in bench.store.ready(2, share=(place, 3))] for place in range(3)]
    assert len({task for part in parts for task in part}) == 6
    assert parts[0] == alone[:2], "the first one takes the oldest"
    for place in range(3):
        assert sorted(task.task_id for task in bench.store.ready(99, share=(place, 3))) == sorted(alone)


def test_attempts_are_looked_after_where_their_providers_are(bench: Bench) -> None:
    bench.start(lattice(8), "g")
    at(bench, "p1", "a")
    at(bench, "p2", "b")
    first, second, third = (task.task_id for task in bench.store.ready(3))
    mine, its = bench.lease(first, "p1"), bench.lease(second, "p2")
    assert mine
    assert its
    copy = Lease(provider_id="p2", deadline=bench.now + 30, tasks=(first,))
    ((copied,),) = bench.store.copy([copy], bench.now)
    names, attempts = bench.store.attempts_at("b")
    assert names == {"p2"}
    found = {(held.task_id, held.attempt): name for held, name in attempts.items()}
    assert found == {(second, its.attempt): "p2", (first, copied.attempt): "p2"}
    assert bench.store.unattended({"a", "b"}) == []
    assert {(one.task_id, one.attempt) for one in bench.store.unattended({"a"})} == set(found)
    bench.lease(third, "p3")  # it is connected nowhere
    assert {one.provider_id for one in bench.store.unattended({"a", "b"})} == {"p3"}
    assert {row.provider_id: row.tasks for row in bench.store.connected({"a", "b"})} == {"p1": 1, "p2": 2}


def test_a_provider_that_went_on_to_another_coordinator_keeps_what_it_has(bench: Bench) -> None:
    bench.start(lattice(8), "g")
    at(bench, "p1", "a")
    task = bench.lease(bench.store.ready(1)[0].task_id, "p1")
    assert task
    held = [Release(task_id=task.task_id, attempt=task.attempt, provider_id="p1")]
    at(bench, "p1", "b")
    assert not bench.store.provider_left("p1", "a", held)
    assert len(bench.store.held_by("p1")) == 1
    assert bench.store.provider_left("p1", "b", held)
    assert bench.store.held_by("p1") == []


def test_a_new_coordinator_renews_only_what_no_living_one_looks_after(bench: Bench) -> None:
    bench.start(lattice(8), "g")
    at(bench, "p1", "a")
    at(bench, "p2", "b")
    for ready, provider in zip(bench.store.ready(2), ("p1", "p2"), strict=True):
        bench.lease(ready.task_id, provider, seconds=30)
    bench.store.renew(bench.now + 100, {"a"})
    assert {held.provider_id: held.deadline - bench.now for held in bench.store.held_by()} == {
        "p1": 30, "p2": 130
    }  # fmt: skip


def test_who_has_no_task_may_store_nothing(bench: Bench) -> None:
    bench.start(lattice(8), "g")
    at(bench, "p1", "a")
    assert not bench.store.may_write(bench.provider_token)
    bench.lease(bench.store.ready(1)[0].task_id, "p1")
    assert bench.store.may_write(bench.provider_token)
    assert not bench.store.may_write(bench.owner)


def test_a_newer_program_does_not_change_the_database_under_older_ones(postgresql: str) -> None:
    with schema(postgresql) as url, closing(Store(url)) as store:
        store.migrate()
        assert store.beat("a", "http://a:1", "ravenverse 1", False, "folder 1").coordinators[0].silent < 5
        store.migrate()  # nothing to change
        with store.write() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = '0002'"))
        with pytest.raises(VersionError, match="older version") as told:
            store.migrate()
        assert "http://a:1 (ravenverse 1)" in str(told.value)
        store.forget_coordinator("a")
        assert store.beat("b", "http://b:1", "ravenverse 1", True, "folder 1").coordinators[0].draining
