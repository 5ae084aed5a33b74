"""The connection to SQLite or PostgreSQL: transactions, durability and migrations. Connections are made in `engine`,
errors put into our words in `troubles`.

Every other module of the store runs its statements on the connection that `Database.write` or `read` gives. A
transaction belongs to a thread; opened within another one, it is part of that.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ravop.errors import ArgumentError, StorageFullError, UnreachableError, VersionError
from ravsock.store.engine import CONNECTIONS, POOL_SECONDS, make_engine
from ravsock.store.schema import metadata
from ravsock.store.troubles import (
    FORBIDDEN,
    GRANT,
    LOCKED,
    AwayError,
    ConflictError,
    code_of,
    in_our_words,
    storage_full,
)
from ravsock.store.wal import WriteAheadLog

TRIES = 5
"""How often a transaction is tried that the database breaks off."""
MIGRATIONS = Path(__file__).parent / "migrations"
ELSEWHERE = (
    "give a new database, or another schema of this one (?options=-csearch_path%3DNAME), in --database-url"
)
_MIGRATION_LOCK = 7_283_461
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_LACKING = sa.text(
    "SELECT name FROM unnest(CAST(:tables AS text[])) name, unnest(CAST(:rights AS text[])) wanted "
    "WHERE NOT has_table_privilege(name, wanted)"
)
_HASTE = "SET LOCAL lock_timeout = '10ms'"
"""For all but the first call of a transaction: what holds locks does not wait for others, so nobody waits in a circle."""


class Database:
    """One database. Raises `ArgumentError` for a URL that is not one, or whose driver is missing."""

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        self._local = threading.local()
        self._upserts: dict[tuple[str, ...], Any] = {}
        self._bulks: dict[Any, _Bulk] = {}
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        self._log = WriteAheadLog(self._engine) if self.is_sqlite else None

    def close(self) -> None:
        try:
            self.sync()
        finally:
            self._engine.dispose()

    def sync(self) -> None:
        """Make what was committed before this call survive a power cut. One thread at a time may call it.

        Raises `StorageFullError`, or `UnreachableError` where the disk fails. PostgreSQL's commits are durable by
        themselves.
        """
        if self._log is None:
            return
        with _translated():
            try:
                self._log.sync()
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise
                raise UnreachableError(
                    "the coordinator's disk fails",
                    received=str(error),
                    hint="look at the disk; what was not acknowledged is tried again",
                ) from error

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A connection in a transaction that may write, committed at the end of the outermost block. What is
        committed survives the end of the program; `sync` makes it survive a power cut.

        Raises `StorageFullError` when the disk is full and `UnreachableError` when the database does not
        answer.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reading one state of the database. Raises as `write` does."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        current: sa.Connection | None = getattr(self._local, "connection", None)
        if current is not None:
            yield current
            return
        with _translated(), self._engine.connect() as connection:
            connection.info["begin"] = begin
            with connection.begin():
                self._local.connection = connection
                try:
                    yield connection
                finally:
                    self._local.connection = None

    def run_together(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Run several operations of the store in one transaction: a group commit.

        Gives for each call its result, or the exception it ended with: then what it wrote is undone, and the
        others stand. When the transaction itself fails (disk full, database gone), nothing is written and
        that error is raised. A call may be run again when the database breaks it off (deadlock, lost connection),
        so it must have no effects beside those on the store.

        On PostgreSQL, a call that would have to wait for another program's lock while this transaction holds some
        begins another transaction, with those after it: what failed then is given for each of them.
        """
        results: list[Any] = []
        while len(results) < len(calls):
            try:
                results += self._try(calls[len(results) :])
            except (UnreachableError, StorageFullError) as error:
                if not results:
                    raise
                results += [error] * (len(calls) - len(results))
        return results

    def _try(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Results of the first of these calls, of all of them if possible; what is broken off is tried again."""
        for attempt in range(1, TRIES + 1):
            try:
                with self.write() as connection:
                    if len(calls) == 1:
                        return [_alone(connection, calls[0])]
                    return self._several(connection, calls)
            except ConflictError:
                if attempt == TRIES:
                    raise
        raise AssertionError("unreachable")

    def _several(self, connection: sa.Connection, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        results = [_within_savepoint(connection, calls[0])]
        if not self.is_sqlite:
            connection.exec_driver_sql(_HASTE)
        for call in calls[1:]:
            try:
                results.append(_within_savepoint(connection, call))
            except OperationalError as error:
                if code_of(error) != LOCKED:
                    raise
                connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one_call")
                break
        return results

    def many(self, connection: sa.Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run a plain statement for each of the rows, which all have the same keys. As `connection.execute` with a
        list, without what that costs for each row."""
        key = (statement, *rows[0])
        bulk = self._bulks.get(key)
        if bulk is None:
            bulk = self._bulks[key] = _Bulk(statement.compile(self._engine, column_keys=list(rows[0])))
        connection.exec_driver_sql(bulk.text, [bulk.values(row) for row in rows])

    def analyze(self, connection: sa.Connection, *tables: str) -> None:
        """Many rows were written: PostgreSQL is told, whose plans, made when there were few, would go through all of
        them for each. Its own look every minute comes too late."""
        if not self.is_sqlite:
            connection.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {', '.join(tables)}")

    def upsert(self, table: sa.Table, keys: Sequence[str], update: Sequence[str], where: Any = None) -> Any:
        """An INSERT that updates the columns `update` of a row that is there already, if it is one that `where` says; none:
        leaves it.

        One statement for a table and columns, built once.
        """
        made = self._upserts.get((table.name, *update))
        if made is None:
            build = sqlite.insert if self.is_sqlite else postgresql.insert
            insert: Any = build(table)
            changed = {name: insert.excluded[name] for name in update}
            made = self._upserts[table.name, *update] = (
                insert.on_conflict_do_update(index_elements=list(keys), set_=changed, where=where)
                if changed
                else insert.on_conflict_do_nothing(index_elements=list(keys))
            )
        return made

    def table_names(self) -> set[str]:
        """Of all tables in its schema, whoever made them."""
        with self.read() as connection:
            return set(sa.inspect(connection).get_table_names())

    def migrate(self) -> None:
        """Bring the schema to this program's version. Raises `VersionError` if the database is newer, `ArgumentError` if it has
        another program's tables, `AwayError` where its user may not do what a coordinator does."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        with self.write() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            current = MigrationContext.configure(connection).get_current_revision()
            try:
                scripts.get_revision(current) if current else None
            except CommandError as error:
                raise VersionError(
                    "the database has tables of another program, or of a newer release of this one",
                    expected=f"at most revision {scripts.get_current_head()}",
                    received=f"revision {current}",
                    hint=f"install the newer release of ravenverse, or {ELSEWHERE}",
                ) from error
            if current is None and (foreign := self.table_names() & {*metadata.tables}):
                raise ArgumentError(
                    "these tables are not Ravenverse's", expected="a database without them, or one that a coordinator made",
                    received=", ".join(sorted(foreign)), hint=ELSEWHERE,
                )  # fmt: skip
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if not self.is_sqlite:
                _check_rights(connection)


def _check_rights(connection: sa.Connection) -> None:
    """On PostgreSQL: that rows of all tables may be read and changed, and new ones numbered."""
    lacking = (
        connection.execute(_LACKING, {"tables": [*metadata.tables], "rights": [*_RIGHTS]}).scalars().all()
    )
    if lacking:
        raise AwayError(
            FORBIDDEN, expected=", ".join(_RIGHTS), received=f"less on {sorted(set(lacking))[:5]}", hint=GRANT
        )


class _Bulk:
    """A compiled statement: its text, and what the driver is given for a row."""

    def __init__(self, compiled: Any) -> None:
        self.text = str(compiled)
        self._fixed: dict[str, Any] = dict(compiled.params)
        self._names: list[str] | None = compiled.positiontup

    def values(self, row: Mapping[str, Any]) -> Any:
        given = {**self._fixed, **row}
        return given if self._names is None else tuple(map(given.__getitem__, self._names))


def _alone(connection: sa.Connection, call: Callable[[], Any]) -> Any:
    """The only call of a transaction needs no savepoint: what it wrote is undone with the transaction."""
    try:
        return call()
    except (OperationalError, StorageFullError):
        raise
    except Exception as error:  # noqa: BLE001 — it is handed to whoever asked for this call
        connection.get_transaction().rollback()  # type: ignore[union-attr]
        return _told(error)


def _within_savepoint(connection: sa.Connection, call: Callable[[], Any]) -> Any:
    connection.exec_driver_sql("SAVEPOINT one_call")
    try:
        result = call()
    except (OperationalError, StorageFullError):
        raise
    except Exception as error:  # noqa: BLE001 — it is handed to whoever asked for this call; the others must go on
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one_call")
        result = _told(error)
    connection.exec_driver_sql("RELEASE SAVEPOINT one_call")
    return result


def _told(error: Exception) -> Exception:
    return in_our_words(error) if isinstance(error, DBAPIError) else error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise in_our_words(error) from error
    except PoolTimeout as error:
        raise AwayError(
            "all connections to the database are in use",
            expected=f"one of {CONNECTIONS} within {POOL_SECONDS:g} s",
            hint="look whether the database is slow, or waits for locks (pg_stat_activity)",
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise storage_full(str(error)) from error
        raise
