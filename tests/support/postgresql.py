"""A PostgreSQL server of a test's own, which may be restarted, killed and set up as it likes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
SETTINGS = ("shared_buffers=32MB", "max_wal_size=256MB", "unix_socket_directories=")
SERVICE_USER = "postgres"
"""Who runs the server where root runs the tests, which PostgreSQL refuses to be run by."""
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}


class PostgreSQL:
    """A server in `folder`. `start` it first; `url` is that of its database `postgres`."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._user: dict[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            self._user = {"user": SERVICE_USER, "group": SERVICE_USER, "extra_groups": []}
            shutil.chown(folder, SERVICE_USER, SERVICE_USER)
        subprocess.run(
            [tool("initdb"), "-D", self._data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"],
            check=True, capture_output=True, cwd=folder, **self._user,
        )  # fmt: skip

    def start(self, *settings: str) -> None:
        """It takes connections when this returns. `settings`: `name=value`, for this time."""
        given = [word for one in (*SETTINGS, *settings) for word in ("-c", one)]
        self._process = subprocess.Popen(
            [tool("postgres"), "-D", self._data, "-h", "127.0.0.1", "-p", str(self.port), *given],
            stderr=subprocess.PIPE, text=True, cwd=self._data.parent, **self._user,
        )  # fmt: skip
        assert self._process.stderr is not None
        log: list[str] = []
        for line in self._process.stderr:
            log.append(line)
            if "ready to accept connections" in line:
                break
        else:
            raise AssertionError(f"PostgreSQL did not start:\n{''.join(log)}")
        self._reader = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._reader.start()

    def stop(self, mode: str = "fast") -> None:
        """`fast`: sessions are ended, what they did is undone. `immediate`: as if it had crashed. `kill`: all its
        processes at once, by SIGKILL."""
        if self._process is None:
            return
        family = [self.process]
        family += family[0].children() if mode == "kill" else []
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(_SIGNALS[mode])
        self._process.wait(60)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None

    @property
    def process(self) -> psutil.Process:
        """The server's first process; its children are the others."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as superuser; its rows, where it gives some."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@contextmanager
def own_postgresql() -> Iterator[PostgreSQL]:
    """A server that runs, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="raven-pg-", ignore_cleanup_errors=True) as folder:
        server = PostgreSQL(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


def tool(name: str) -> str:
    """The path of one of PostgreSQL's programs."""
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
        raise RuntimeError(f"these tests need PostgreSQL: no program `{name}` was found; install postgresql")
    return found
