"""The database underneath: group commits, migrations, several coordinators, errors in our words; and tokens."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from databases import schema
from plans import PROFILE, Bench, chain, training, wide

from ravop.errors import (
    ArgumentError,
    RoleError,
    StorageFullError,
    TokenError,
    UnknownGraphError,
    UnreachableError,
    VersionError,
)
from ravsock.store import Lease, Store


def test_tokens_are_shown_once_and_only_their_hash_is_kept(store: Store) -> None:
    token = store.create_token("requester", "ann", 5.0)
    assert token.startswith("rvr_")
    assert len(token) >= 4 + 43
    assert store.create_token("provider", "bob", 6.0).startswith("rvp_")
    assert store.create_token("admin", "root", 7.0).startswith("rva_")
    who = store.authenticate(token)
    assert (who.role, who.name) == ("requester", "ann")
    with store.read() as connection:
        kept = str(connection.execute(sa.text("SELECT * FROM tokens")).all())
    assert token not in kept
    assert token[4:] not in kept
    assert [(t.name, t.role, t.revoked) for t in store.list_tokens()] == [
        ("ann", "requester", None), ("bob", "provider", None), ("root", "admin", None),
    ]  # fmt: skip


def test_tokens_end_by_number_or_name(store: Store) -> None:
    first, second = (store.create_token("provider", "bob", 1.0) for _ in range(2))
    third = store.create_token("provider", "carl", 1.0)
    number = store.authenticate(third).token_id
    assert store.revoke_token("bob", 2.0) == 2
    assert store.revoke_token(str(number), 2.0) == 1
    for token in (first, second, third):
        with pytest.raises(TokenError, match="revoked"):
            store.authenticate(token)
    for unknown in ("bob", 99, "nobody"):
        with pytest.raises(TokenError, match="no such token"):
            store.revoke_token(unknown, 3.0)


@pytest.mark.parametrize("token", ["", "rvr_wrong", "x" * 500])
def test_wrong_tokens_are_refused(store: Store, token: str) -> None:
    with pytest.raises(TokenError):
        store.authenticate(token)


def test_tokens_need_a_role_and_a_name(store: Store) -> None:
    with pytest.raises(ArgumentError):
        store.create_token("king", "ann", 1.0)
    with pytest.raises(ArgumentError):
        store.create_token("admin", "  ", 1.0)


def test_a_provider_id_belongs_to_its_token(bench: Bench) -> None:
    other = bench.store.authenticate(bench.store.create_token("provider", "eve", 0.0)).token_id
    bench.store.register_provider("p1", bench.provider_token, PROFILE, 2000.0)
    with pytest.raises(RoleError, match="another token"):
        bench.store.register_provider("p1", other, PROFILE, bench.now)
    (first, *_) = bench.store.providers()
    assert (first.provider_id, first.first_seen, first.last_seen, first.profile) == (
        "p1",
        1000.0,
        2000.0,
        PROFILE,
    )


def test_operations_run_together_and_fail_apart(bench: Bench) -> None:
    store = bench.store

    def broken() -> None:
        store.create_token("requester", "half done", 1.0)
        raise UnknownGraphError("broken")

    results = store.run_together(
        [lambda: store.create_token("requester", "one", 1.0), broken, lambda: store.graph("none"),
         lambda: store.create_token("requester", "two", 1.0), lambda: 1 // 0]
    )  # fmt: skip
    assert [type(r) for r in results] == [str, UnknownGraphError, UnknownGraphError, str, ZeroDivisionError]
    assert [type(error) for error in store.run_together([broken])] == [UnknownGraphError]
    assert [t.name for t in store.list_tokens()][2:] == ["one", "two"]
    assert store.run_together([store.list_tokens]) == [store.list_tokens()]


def test_a_full_disk_undoes_the_whole_group_and_says_so(bench: Bench) -> None:
    def full() -> None:
        raise sa.exc.OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    with pytest.raises(StorageFullError):
        bench.store.run_together([lambda: bench.store.create_token("requester", "lost", 1.0), full])
    assert "lost" not in [t.name for t in bench.store.list_tokens()]


def test_sqlite_that_is_full_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 's.db'}")
    store.migrate()
    limit = store.run_together([lambda: _pages(store)])[0]
    with store.write() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={limit}")
    with pytest.raises(StorageFullError):
        store.create_token("requester", "x" * 1_000_000, 1.0)
    with store.write() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    store.create_token("requester", "x" * 1_000_000, 1.0)
    store.close()


def _pages(store: Store) -> int:
    with store.write() as connection:
        pages: int = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    return pages


def test_sqlite_is_as_durable_as_promised(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 's.db'}")
    with store.read() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                 for name in ("journal_mode", "synchronous", "foreign_keys")]  # fmt: skip
    assert found == ["wal", 1, 1]
    store.close()


def test_migrating_again_changes_nothing(bench: Bench, store_url: str) -> None:
    bench.start(chain(), "g")
    again = Store(store_url)
    again.migrate()
    assert [g.graph_id for g in again.graphs()] == ["g"]
    again.close()


def test_many_coordinators_may_start_at_once(store_url: str) -> None:
    stores = [Store(store_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Store.migrate, stores))
    assert stores[0].list_tokens() == []
    for store in stores:
        store.close()


def test_a_newer_database_is_refused(store: Store) -> None:
    with store.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(VersionError, match="newer"):
        store.migrate()


def test_the_migrations_make_what_the_schema_says(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from ravsock.store.schema import metadata

    with store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://localhost/x", "postgresql+nodriver://localhost/x", "redis://x"]
)
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(ArgumentError):
        Store(url)


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/x", "sqlite:////nowhere/at/all/x.db"])
def test_a_database_that_does_not_answer_is_named(url: str) -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        Store(url).migrate()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(UnreachableError, match="not a database"):
        Store(f"sqlite:///{tmp_path / 'x.db'}").migrate()


def test_two_coordinators_share_the_work_without_doing_it_twice(bench: Bench, store_url: str) -> None:
    """Both lease whatever is ready and commit at the same time; each task is done once and nothing is lost."""
    cases = {"wide": wide(20), "loop": training(12), "chain": chain(6)}
    for name, case in cases.items():
        bench.start(case, name)
    kernels = {sha: kernel for case in cases.values() for sha, kernel in case.workshop.kernels.items()}
    stores = [bench.store, Store(store_url)]
    taken: dict[tuple[int, int], int] = {}
    errors: list[BaseException] = []
    barrier = threading.Barrier(2)

    def work(store: Store, provider: str) -> None:
        try:
            barrier.wait(30)
            while any(graph.state == "executing" for graph in store.graphs()):
                _round(store, provider)
        except BaseException as error:
            errors.append(error)
            raise

    def _round(store: Store, provider: str) -> None:
        wishes = [
            Lease(tasks=(t.task_id,), provider_id=provider, deadline=bench.now + 99, stop=t.start + 2)
            for t in store.ready(8)
        ]
        (leased,) = store.run_together([lambda: store.lease(wishes, bench.now)])
        tasks = [task for batch in leased for task in batch]
        results = [bench.compute(kernels, task, provider) for task in tasks]
        calls: list[Callable[[], object]] = [
            lambda r=r: store.complete([r], bench.now) for r in reversed(results)
        ]  # type: ignore[misc]
        for result, outcome in zip(reversed(results), store.run_together(calls), strict=True):
            assert outcome[0].accepted
            assert (result.task_id, result.attempt) not in taken
            taken[result.task_id, result.attempt] = outcome[0].iterations

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, stores, ("p1", "p2")))
    assert not errors
    assert sum(taken.values()) == 21 + (12 + 1) + 6
    for name, case in cases.items():
        for persisted in case.persisted:
            np.testing.assert_allclose(bench.fetch(name, persisted.name), case.expected()[persisted.value])
    stores[1].close()


def test_a_lost_connection_is_made_again(postgresql: str) -> None:
    with schema(postgresql) as url:
        store = Store(url)
        store.migrate()
        for _ in range(2):
            with psycopg.connect(postgresql, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s", [_backend(store)]
                )
            (token,) = store.run_together([lambda: store.create_token("requester", "ann", 1.0)])
            assert store.authenticate(token).name == "ann"
        store.close()


def _backend(store: Store) -> int:
    with store.read() as connection:
        pid: int = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    return pid
