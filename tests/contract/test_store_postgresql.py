"""PostgreSQL as it is in the field: restarted, killed, full, forbidden, read-only; and locks that two coordinators want in
different orders."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import filelock
import numpy as np
import psycopg
import pytest
from click.testing import CliRunner
from plans import Bench, chain, training
from postgresql import PostgreSQL, own_postgresql

from ravop.errors import ArgumentError, UnreachableError
from ravsock.cli import main
from ravsock.store import Store


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with own_postgresql() as server:
        server.execute("CREATE USER weak")
        yield server


@pytest.fixture
def fresh(server: PostgreSQL) -> str:
    """The URL of an empty schema."""
    server.execute(
        "DROP SCHEMA IF EXISTS fresh CASCADE; CREATE SCHEMA fresh; GRANT USAGE ON SCHEMA fresh TO weak"
    )
    return f"{server.url}?options=-csearch_path%3Dfresh"


def opened(url: str) -> Store:
    store = Store(url)
    try:
        store.migrate()
    except BaseException:
        store.close()
        raise
    return store


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
def test_connections_of_before_a_restart_are_not_used_again(server: PostgreSQL, fresh: str, how: str) -> None:
    with closing(opened(fresh)) as store:
        token = store.create_token("requester", "kept", 1.0)
        server.stop(how)
        with pytest.raises(UnreachableError):
            store.authenticate(token)
        server.start()
        assert store.authenticate(token).name == "kept"
        (more,) = store.run_together([lambda: store.create_token("requester", "more", 1.0)])
        assert store.authenticate(more).name == "more"


def weak(url: str) -> str:
    return url.replace("postgres@", "weak@")


BAD_URLS = {
    "a host that is none": ("postgresql://postgres@no.such.host.invalid/x", "host of the database is not known"),
    "a port that nobody has": ("postgresql://postgres@127.0.0.1:1/x", "does not answer"),
    "a database that is none": ("postgresql://postgres@{server}/none", "no such database"),
    "a user that is none": ("postgresql://nobody@{server}/postgres", "does not let this user in"),
    "a schema that is none": ("postgresql://weak@{server}/postgres?options=-csearch_path%3Dnone", "no schema"),
    "no right to make tables": ("postgresql://weak@{server}/postgres?options=-csearch_path%3Dfresh", "does not allow"),
    "read only": (
        "postgresql://postgres@{server}/postgres?options=-cdefault_transaction_read_only%3Don",
        "is read-only",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("case", BAD_URLS)
def test_a_database_that_cannot_be_used_says_why_at_once(server: PostgreSQL, case: str) -> None:
    url, words = BAD_URLS[case]
    with pytest.raises(UnreachableError, match=words):
        opened(url.format(server=f"127.0.0.1:{server.port}"))


def test_a_user_that_may_only_read_is_told_at_the_start(server: PostgreSQL, fresh: str) -> None:
    opened(fresh).close()
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA fresh TO weak")
    with pytest.raises(UnreachableError, match="does not allow"):
        opened(weak(fresh))
    server.execute(
        "GRANT ALL ON ALL TABLES IN SCHEMA fresh TO weak; GRANT ALL ON ALL SEQUENCES IN SCHEMA fresh TO weak"
    )
    with closing(opened(weak(fresh))) as store:
        store.create_token("admin", "weak", 1.0)


def test_a_server_without_connections_left_says_so(server: PostgreSQL, fresh: str) -> None:
    server.execute("ALTER USER weak CONNECTION LIMIT 1")
    opened(fresh).close()
    with ExitStack() as stack:
        stack.enter_context(psycopg.connect(weak(server.url)))
        with pytest.raises(UnreachableError, match="no connection left"):
            opened(weak(fresh))
    server.execute("ALTER USER weak CONNECTION LIMIT -1")


def test_locks_wanted_in_different_orders_are_no_deadlock(server: PostgreSQL, fresh: str) -> None:
    """Two coordinators start two graphs each in one transaction, and each has locked what the other wants next."""
    with closing(opened(fresh)) as one, closing(Store(fresh)) as other:
        bench = Bench(one)
        for name in "ab":
            bench.add(chain(), name)
        both = threading.Barrier(2)
        turns = ((one, "a", "b"), (other, "b", "a"))

        def start(store: Store, first: str, second: str) -> list[object]:
            return store.run_together(
                [
                    lambda: store.start_graph(first, None, bench.now).state,
                    lambda: both.wait(20) if not both.broken else None,
                    lambda: store.start_graph(second, None, bench.now).state,
                ]
            )

        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda turn: start(*turn), turns))
    assert [[found[0], found[2]] for found in results] == [["executing"] * 2] * 2
    assert server.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'") == [(0,)]


def db(*arguments: object) -> tuple[int, str]:
    ended = CliRunner().invoke(main, ["db", *map(str, arguments)])
    return ended.exit_code, ended.output


def test_an_installation_moves_with_graphs_that_run(fresh: str, tmp_path: Path) -> None:
    case = training()
    with closing(opened(f"sqlite:///{tmp_path / 'ravenverse.db'}")) as old:
        bench = Bench(old)
        bench.add(chain(), "flushed")
        old.flush(bench.owner)
        bench.start(case, "half done")
        for _ in range(2):
            bench.step(case)
        token = old.create_token("admin", "kept", 1.0)
        last = old.ready(1)[0].task_id
    with filelock.FileLock(tmp_path / "coordinator.lock"):
        code, told = db("copy", "--data", tmp_path, "--database-url", fresh)
        assert (code, "another coordinator uses" in told) == (1, True)
    code, told = db("copy", "--data", tmp_path, "--database-url", fresh)
    assert code == 0, told
    code, told = db("copy", "--data", tmp_path, "--database-url", fresh)
    assert (code, "not empty" in told) == (1, True)
    code, told = db("check", "--database-url", fresh)
    assert "PostgreSQL" in told
    assert "1  graphs executing" in told
    with closing(opened(fresh)) as new:
        assert new.authenticate(token).role == "admin"
        bench.store = new
        assert [task.task_id for task in new.ready(1)] == [last]
        bench.drive(case)
        assert new.graph("half done").state == "done"
        for persisted in case.persisted:
            np.testing.assert_allclose(
                bench.fetch("half done", persisted.name), case.expected()[persisted.value]
            )
        assert new.graph(bench.add(chain(), "next")).number == 3


def test_what_is_no_installation_is_not_moved(fresh: str, tmp_path: Path) -> None:
    code, told = db("copy", "--data", tmp_path, "--database-url", fresh)
    assert (code, "there is no database" in told) == (1, True)


@pytest.mark.parametrize("name", ["tasks", "theirs"])
def test_another_programs_tables_are_left_alone(fresh: str, tmp_path: Path, name: str) -> None:
    with closing(Store(fresh)) as store:
        with store.write() as connection:
            connection.exec_driver_sql(f"CREATE TABLE {name} (x int)")
        opened(f"sqlite:///{tmp_path / 'ravenverse.db'}").close()
        code, told = db("copy", "--data", tmp_path, "--database-url", fresh)
        assert (code, f"received: {name}" in told) == (1, True)
        assert store.table_names() == {name}
        if name == "tasks":
            with pytest.raises(ArgumentError, match="not Ravenverse's"):
                store.migrate()
