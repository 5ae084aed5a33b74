"""The connection to SQLite or PostgreSQL: transactions, durability, migrations, and errors in our words.

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
from sqlalchemy.exc import ArgumentError as BadUrl
from sqlalchemy.exc import DatabaseError, DBAPIError, NoSuchModuleError, OperationalError

from ravop.errors import ArgumentError, RavenError, StorageFullError, UnreachableError, VersionError
from ravsock.store.wal import WriteAheadLog

BUSY_SECONDS = 30
"""How long a writer waits for another one on SQLite."""
TRIES = 5
"""How often a transaction is tried that the database breaks off."""
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 7_283_461
_RETRY = frozenset({"40P01", "40001"})
_FULL = ("database or disk is full", "no space left on device", "could not extend file")


class ConflictError(UnreachableError):
    """The database ended the transaction for the sake of another one, or the connection was lost: trying
    again may succeed."""


class Database:
    """One database. Raises `ArgumentError` for a URL that is not one, or whose driver is missing."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._local = threading.local()
        self._upserts: dict[str, Any] = {}
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
        """
        for attempt in range(1, TRIES + 1):
            try:
                with self.write() as connection:
                    if len(calls) == 1:
                        return [_alone(connection, calls[0])]
                    return [_within_savepoint(connection, call) for call in calls]
            except ConflictError:
                if attempt == TRIES:
                    raise
        raise AssertionError("unreachable")

    def many(self, connection: sa.Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run a plain statement for each of the rows, which all have the same keys. As `connection.execute` with a
        list, without what that costs for each row."""
        key = (statement, *rows[0])
        bulk = self._bulks.get(key)
        if bulk is None:
            bulk = self._bulks[key] = _Bulk(statement.compile(self._engine, column_keys=list(rows[0])))
        connection.exec_driver_sql(bulk.text, [bulk.values(row) for row in rows])

    def upsert(self, table: sa.Table, keys: Sequence[str], update: Sequence[str]) -> Any:
        """An INSERT that updates the columns `update` of a row that is there already; none: leaves it.

        A table has one such statement, built once.
        """
        made = self._upserts.get(table.name)
        if made is None:
            build = sqlite.insert if self.is_sqlite else postgresql.insert
            insert: Any = build(table)
            changed = {name: insert.excluded[name] for name in update}
            made = self._upserts[table.name] = (
                insert.on_conflict_do_update(index_elements=list(keys), set_=changed)
                if changed
                else insert.on_conflict_do_nothing(index_elements=list(keys))
            )
        return made

    def migrate(self) -> None:
        """Bring the schema to this program's version. Raises `VersionError` if the database is newer."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        with self.write() as connection:
            if not self.is_sqlite:
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            current = MigrationContext.configure(connection).get_current_revision()
            try:
                scripts.get_revision(current) if current else None
            except CommandError as error:
                raise VersionError(
                    "the database was made by a newer version of the program",
                    expected=f"at most revision {scripts.get_current_head()}",
                    received=f"revision {current}",
                    hint="install the newer release of ravenverse, or use another database",
                ) from error
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


class _Bulk:
    """A compiled statement: its text, and what the driver is given for a row."""

    def __init__(self, compiled: Any) -> None:
        self.text = str(compiled)
        self._fixed: dict[str, Any] = dict(compiled.params)
        self._names: list[str] | None = compiled.positiontup

    def values(self, row: Mapping[str, Any]) -> Any:
        given = {**self._fixed, **row}
        return given if self._names is None else tuple(map(given.__getitem__, self._names))


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        driver = DRIVERS.get(parsed.drivername, parsed.drivername)
        if driver.split("+")[0] not in ("sqlite", "postgresql"):
            raise NoSuchModuleError(f"{parsed.drivername} is not supported")
        parsed = parsed.set(drivername=driver)
        engine = sa.create_engine(parsed)
    except (BadUrl, NoSuchModuleError, ImportError) as error:
        missing = isinstance(error, ImportError)
        raise ArgumentError(
            "the driver of the database is not installed"
            if missing
            else "not a database URL this program can use",
            expected="sqlite:///path/to/file.db or postgresql://user:password@host/name",
            received=str(error),
            hint="pip install 'ravenverse[postgresql]'" if missing else "correct --database-url",
        ) from error
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own transactions would begin too late: see _begin_sqlite
    for pragma in (
        f"busy_timeout={BUSY_SECONDS * 1000}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.info.get("begin", "BEGIN"))


def _alone(connection: sa.Connection, call: Callable[[], Any]) -> Any:
    """The only call of a transaction needs no savepoint: what it wrote is undone with the transaction."""
    try:
        return call()
    except (OperationalError, StorageFullError):
        raise
    except Exception as error:  # noqa: BLE001 — it is handed to whoever asked for this call
        connection.get_transaction().rollback()  # type: ignore[union-attr]
        return error


def _within_savepoint(connection: sa.Connection, call: Callable[[], Any]) -> Any:
    connection.exec_driver_sql("SAVEPOINT one_call")
    try:
        result = call()
    except (OperationalError, StorageFullError):
        raise
    except Exception as error:  # noqa: BLE001 — it is handed to whoever asked for this call; the others must go on
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one_call")
        result = error
    connection.exec_driver_sql("RELEASE SAVEPOINT one_call")
    return result


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise _in_our_words(error) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise storage_full(str(error)) from error
        raise


def storage_full(received: str) -> StorageFullError:
    return StorageFullError(
        "the coordinator's disk is full",
        received=received,
        hint="free space on the coordinator, or flush old graphs",
    )


def _in_our_words(error: DBAPIError) -> RavenError | DBAPIError:
    text = str(error.orig)
    if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _RETRY:
        return ConflictError("the database broke a transaction off", received=text)
    if any(words in text.lower() for words in _FULL):
        return storage_full(text)
    if isinstance(error, OperationalError) or type(error) is DatabaseError:
        return UnreachableError(
            "the database does not answer",
            received=text,
            hint="check --database-url, and that the server runs",
        )
    return error
