"""Databases for tests: SQLite files, and PostgreSQL schemas on a server that runs or is started here."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

SERVER = os.environ.get("RAVENVERSE_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/test")
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


@contextmanager
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server: the one that runs, or one started for these tests."""
    try:
        psycopg.connect(SERVER, connect_timeout=3).close()
    except psycopg.OperationalError as error:
        with _started(str(error)) as url:
            yield url
    else:
        yield SERVER


@contextmanager
def schema(server: str) -> Iterator[str]:
    """The URL of a schema of its own, dropped afterwards."""
    name = f"t_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    try:
        yield f"{server}?options=-csearch_path%3D{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {name} CASCADE")


@contextmanager
def _started(why: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="raven-pg-", ignore_cleanup_errors=True) as folder:
        data, sockets = Path(folder) / "data", Path(folder)
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            raise RuntimeError(
                f"no PostgreSQL at {SERVER} ({why.strip()}), and root may not start one: start a server, or name one "
                "in RAVENVERSE_TEST_POSTGRESQL"
            )
        subprocess.run(
            [_tool("initdb"), "-D", data, "-U", "postgres", "-A", "trust"], check=True, capture_output=True
        )
        options = f"-p 54329 -h 127.0.0.1 -k {sockets}"
        control = [_tool("pg_ctl"), "-D", data, "-w"]
        log = str(Path(folder) / "log")
        subprocess.run([*control, "-o", options, "-l", log, "start"], check=True, capture_output=True)
        try:
            yield "postgresql://postgres@127.0.0.1:54329/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True)


def _tool(name: str) -> str:
    found = shutil.which(name) or next(
        (
            str(path / name)
            for place in PLACES
            for path in Path("/").glob(place[1:])
            if (path / name).exists()
        ),
        None,
    )
    if found is None:
        raise RuntimeError(
            f"the contract tests need PostgreSQL: neither {SERVER} nor a program `{name}` was found; install "
            "postgresql, or name a server in RAVENVERSE_TEST_POSTGRESQL"
        )
    return found
