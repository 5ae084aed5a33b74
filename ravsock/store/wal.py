"""The second step to durability on SQLite.

What is committed lies in the write-ahead log: it survives the end of the program at once, and a power cut after a
sync of that file, which makes durable all that was committed so far. A checkpoint (SQLite's own, on commit or when
the last connection closes) syncs the log before it moves its pages into the database, and the database before the
log begins anew; so what is no longer in the log is durable as well.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import sqlalchemy as sa

from ravop.errors import UnreachableError

BINARY = getattr(os, "O_BINARY", 0)


class WriteAheadLog:
    """The log of the database that `engine` is connected to. One thread at a time may `sync`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._path = Path(f"{engine.url.database}-wal")
        self._doubtful = False

    def sync(self) -> None:
        """Make durable what is committed. Raises `OSError` where the disk fails: then it may be lost in a power
        cut."""
        doubtful, self._doubtful = self._doubtful, True
        if doubtful:  # after an error, another sync of the same pages would find nothing left to do
            self._checkpoint()
        else:
            self._sync()
        self._doubtful = False

    def _sync(self) -> None:
        try:
            # Closing a file ends all locks that the process has on it; SQLite's are on the other two files.
            handle = os.open(self._path, os.O_RDWR | BINARY)
        except FileNotFoundError:
            return
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _checkpoint(self) -> None:
        """Write all pages of the log again, into the database."""
        connection = self._engine.raw_connection()
        try:
            (busy, _, _) = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise OSError(errno.EIO, str(error)) from error
        finally:
            connection.close()
        if busy:
            raise UnreachableError(
                "the database could not be made durable after an error of the disk",
                hint="look at the coordinator's disk; it is tried again with the next change",
            )
