"""Moves everything an embedded installation has to PostgreSQL, graphs that run included; and says what a database holds.

Rows are copied as they are, in one transaction: all of them or none. Blobs are copied before, one by one, so that what a
cut left behind is not copied again. The caller keeps coordinators away from both sides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ravop.errors import ArgumentError, UnreachableError
from ravsock.core import deadlines
from ravsock.store.blobstore import BlobStore
from ravsock.store.counts import counts
from ravsock.store.database import ELSEWHERE, MIGRATIONS, Database
from ravsock.store.schema import blob_owners, blobs, coordinators, metadata, providers, tasks, tokens, uploads

LEFT_BEHIND = frozenset({coordinators.name, uploads.name})
"""Processes, and uploads that another store of blobs knows nothing of: they begin anew."""
ROWS = 1000
_LIVING = sa.select(coordinators.c.address).where(
    coordinators.c.heard > sa.extract("epoch", sa.func.clock_timestamp()) - deadlines.DEAD_SECONDS
)
_UNCHECKED = (
    sa.select(blob_owners.c.sha, blob_owners.c.place, blob_owners.c.size)
    .where(blob_owners.c.place.is_not(None))
    .distinct()
    .subquery()
)
_STORED = sa.select(
    sa.select(sa.func.coalesce(sa.func.sum(blobs.c.size), 0)).where(blobs.c.checked == 1).scalar_subquery()
    + sa.select(sa.func.coalesce(sa.func.sum(_UNCHECKED.c.size), 0)).scalar_subquery()
)


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a database holds."""

    kind: str
    revision: str | None
    """Of its tables; None: it has none."""
    newest: str
    """That this program knows."""
    size: int
    """In bytes."""
    numbers: dict[str, int]
    """Of tokens that are good, providers, graphs by state, tasks, blobs; none where the revision is not the newest."""
    stored: int
    """Bytes of all blobs."""
    coordinators: tuple[str, ...] = ()
    """Addresses of those that live."""


def contents(database: Database) -> Contents:
    """Look at a database of this version, or at one without tables; nothing is changed."""
    kind = "SQLite" if database.is_sqlite else "PostgreSQL"
    scripts = ScriptDirectory(str(MIGRATIONS))
    newest = scripts.get_current_head() or ""
    with database.read() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        known = revision == newest
        numbers = _numbers(database, connection) if known else {}
        stored = int(connection.execute(_STORED).scalar_one()) if known else 0
        living = connection.execute(_LIVING).scalars().all() if known and not database.is_sqlite else ()
        size = _size(database, connection)
    return Contents(
        kind=kind, revision=revision, newest=newest, size=size, numbers=numbers, stored=stored,
        coordinators=tuple(living),
    )  # fmt: skip


def _numbers(database: Database, connection: sa.Connection) -> dict[str, int]:
    good = sa.select(sa.func.count()).where(tokens.c.revoked.is_(None))
    states = counts(database).graphs
    return {
        "tokens that are good": int(connection.execute(good).scalar_one()),
        "providers ever seen": _count(connection, providers),
        **{f"graphs {state}": number for state, number in states.items() if number},
        "tasks": _count(connection, tasks),
        "blobs": _count(connection, blobs),
    }


def check_target(database: Database) -> None:
    """Before tables are made in it. Raises `ArgumentError` where it is no PostgreSQL, or holds tables of something else."""
    if database.is_sqlite:
        raise ArgumentError("the target is no PostgreSQL", expected="--database-url postgresql://…")
    if others := database.table_names() - {*metadata.tables, "alembic_version"}:
        raise ArgumentError(
            "the target holds other tables", expected="an empty database",
            received=", ".join(sorted(others)[:10]), hint=ELSEWHERE,
        )  # fmt: skip


def copy_rows(source: Database, target: Database) -> dict[str, int]:
    """Copy all rows to an empty PostgreSQL database; how many of each table.

    Both are of this version, and `check_target` passed. Raises `ArgumentError` where the target is not empty,
    `UnreachableError` where what arrived is not what was sent.
    """
    with source.read() as old, target.write() as new:
        new.exec_driver_sql(f"LOCK TABLE {', '.join(metadata.tables)} IN EXCLUSIVE MODE")
        found = [table.name for table in metadata.sorted_tables if _count(new, table)]
        if found:
            raise ArgumentError(
                "the target is not empty", expected="a database without rows", received=f"rows in {found}",
                hint=ELSEWHERE,
            )  # fmt: skip
        copied = {
            table.name: _copy_table(old, new, table)
            for table in metadata.sorted_tables
            if table.name not in LEFT_BEHIND
        }
        _set_sequences(old, new)
        arrived = {name: _count(new, metadata.tables[name]) for name in copied}
        if arrived != copied:
            raise UnreachableError(
                "not every row has arrived; nothing is kept",
                expected=copied,
                received=arrived,
                hint="try again",
            )
        target.analyze(new, *copied)
    return copied


async def copy_blobs(source: Database, old: BlobStore, new: BlobStore) -> int:
    """Copy the bytes of all blobs that are not there yet; how many."""
    with source.read() as connection:
        names = list(connection.execute(sa.select(blobs.c.sha).where(blobs.c.doomed == 0)).scalars())
    copied = 0
    for sha in names:
        if not await asyncio.to_thread(new.has, sha):
            await new.put(sha, _read(old, sha))
            copied += 1
    return copied


async def _read(store: BlobStore, sha: str) -> AsyncIterator[bytes]:
    pieces = await asyncio.to_thread(store.read, sha)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def _copy_table(old: sa.Connection, new: sa.Connection, table: sa.Table) -> int:
    """By COPY, a few rows in memory at a time."""
    names = ", ".join(column.name for column in table.columns)
    driver: Any = new.connection.driver_connection
    count = 0
    try:
        with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
            for row in old.execute(sa.select(table), execution_options={"yield_per": ROWS}):
                copy.write_row(tuple(row))
                count += 1
    except new.dialect.loaded_dbapi.Error as error:
        raise UnreachableError(
            f"the database did not take the rows of {table.name}; nothing is kept",
            received=error,
            hint="mend what it names, and copy again",
        ) from error
    return count


def _set_sequences(old: sa.Connection, new: sa.Connection) -> None:
    """Numbers that were given once are not given again, not even those whose rows have gone."""
    last: dict[str, int] = dict(old.exec_driver_sql("SELECT name, seq FROM sqlite_sequence").all())
    for table in metadata.sorted_tables:
        (key, *_) = [column.name for column in table.primary_key] or [""]
        if table.name in last:
            given = {"table": table.name, "key": key, "last": max(1, last[table.name])}
            new.execute(sa.text("SELECT setval(pg_get_serial_sequence(:table, :key), :last)"), given)


def _size(database: Database, connection: sa.Connection) -> int:
    if database.is_sqlite:
        file = connection.exec_driver_sql("PRAGMA database_list").all()[0][2]
        return Path(file).stat().st_size
    return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
