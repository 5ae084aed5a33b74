"""Databases for tests: SQLite files, and PostgreSQL schemas on a server that runs or is started here."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from postgresql import own_postgresql

SERVER = os.environ.get("RAVENVERSE_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/test")


@contextmanager
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server: the one that runs, or one started for these tests."""
    try:
        psycopg.connect(SERVER, connect_timeout=3).close()
    except psycopg.OperationalError:
        with own_postgresql() as server:
            yield server.url
    else:
        yield SERVER


@contextmanager
def schema(server: str, durable: bool = False) -> Iterator[str]:
    """The URL of a schema of its own, dropped afterwards. Unless it is to be `durable`, as in the field, no commit waits for
    the disk: what is lost only when PostgreSQL itself is killed.
    """
    name = f"t_{uuid.uuid4().hex}"
    commits = "on" if durable else "off"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    try:
        yield f"{server}?options=-csearch_path%3D{name}%20-csynchronous_commit%3D{commits}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {name} CASCADE")
