"""Two steps to durability: what is committed is there at once, and acknowledged when a sync has passed."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ravop.errors import StorageFullError, UnknownGraphError, UnreachableError
from ravsock.server.writer import Writer
from ravsock.store import Store


class Gate:
    """Stands in for `os.fsync`: counts, waits until it is opened, fails as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.open, self.entered = threading.Event(), threading.Event()
        self.error: OSError | None = None
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, handle: int) -> None:
        self.calls += 1
        self.entered.set()
        assert self.open.wait(30)
        if self.error is not None:
            raise self.error
        self._fsync(handle)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 's.db'}")
    store.migrate()
    return store


@pytest.fixture
async def writer(store: Store) -> AsyncIterator[Writer]:
    writer = Writer(store)
    yield writer
    await writer.stop()
    store.close()


@pytest.fixture
def gate(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def names(store: Store) -> list[str]:
    return [token.name for token in store.list_tokens()]


async def test_a_change_is_there_before_it_is_durable(writer: Writer, store: Store, gate: Gate) -> None:
    acknowledged = asyncio.ensure_future(writer.do(store.create_token, "provider", "one", 1.0))
    await asyncio.to_thread(gate.entered.wait)
    assert names(store) == ["one"]
    others = [
        asyncio.ensure_future(writer.do(store.create_token, "provider", name, 1.0))
        for name in ("two", "three")
    ]
    await writer.apply(store.create_token, "provider", "four", 1.0)
    assert set(names(store)) == {"one", "two", "three", "four"}
    assert not any(waiting.done() for waiting in (acknowledged, *others))
    gate.open.set()
    await asyncio.gather(acknowledged, *others)
    await writer.durable()
    assert gate.calls == 2, "one for the first change, one for all that came meanwhile"


async def test_what_fails_waits_for_nothing(writer: Writer, store: Store, gate: Gate) -> None:
    with pytest.raises(UnknownGraphError):
        await writer.apply(store.graph, "none")
    gate.open.set()


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, StorageFullError), (errno.EIO, UnreachableError)]
)
async def test_a_disk_that_fails_acknowledges_nothing_and_is_made_good(
    writer: Writer, store: Store, gate: Gate, tmp_path: Path, number: int, error: type[Exception]
) -> None:
    gate.open.set()
    gate.error = OSError(number, os.strerror(number))
    with pytest.raises(error):
        await writer.do(store.create_token, "provider", "lost?", 1.0)
    gate.error = None
    await writer.do(store.create_token, "provider", "sure", 1.0)
    shutil.copy(tmp_path / "s.db", tmp_path / "alone.db")
    alone = sqlite3.connect(tmp_path / "alone.db")
    assert [name for (name,) in alone.execute("SELECT name FROM tokens")] == ["lost?", "sure"], (
        "after an error nothing relies on what lies in the log alone"
    )
    alone.close()


async def test_a_log_that_is_not_there_holds_nothing_back(
    writer: Writer, store: Store, tmp_path: Path
) -> None:
    await writer.do(store.create_token, "provider", "one", 1.0)
    store._engine.dispose()
    assert not (tmp_path / "s.db-wal").exists()
    store.sync()
    assert names(store) == ["one"]
