"""The database after a loop of a million steps against one of 1,000: it must not grow with steps. `python -m benchmarks growth`.

Each loop runs in a new data folder with one provider: gradient descent on a vector, of which the last state is kept
and, in a second run, the loss of each step too. The state has 80 kB, so that it is a blob, as the weights of most models
are; one of up to 64 KiB would lie in the database, which then has room for two of them as soon as a loop is more than
one task. Then the coordinator is stopped as by Ctrl-C, the write-ahead log is checkpointed into the file
(`wal_checkpoint(TRUNCATE)`), and the file is measured as it is, without VACUUM. While the loop runs, the largest size
of file and log together is noted. Losses that are kept are four bytes a step that the result itself holds; they lie in
blobs and in rows that name these.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import ravop as R
from benchmarks.laboratory import laboratory
from benchmarks.report import Row
from ravop.graph import Op

SHORT, LONG = 1_000, 1_000_000
SIZE = 20_000
"""Elements of the vector: about 20 µs a step."""
PAUSE = 0.5
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Sizes:
    """Bytes."""

    database: int
    largest: int
    """Of database and log together, during the run."""
    blobs: int
    tasks: int
    """Committed in the run: how often the loop came to the database."""


def define(steps: int, keep: bool) -> R.Graph:
    graph = R.Graph(name=f"{steps} steps")
    x = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)

    def step(w: Op, _: None) -> tuple[Op, Op]:
        error = w - x
        return w - 1e-3 * error, R.mean(R.square(error))

    w, losses = R.scan(step, R.t(np.zeros(SIZE, np.float32)), length=steps)
    w.persist_op("w")
    if keep:
        losses.persist_op("losses")
    return graph


def sizes(steps: int, keep: bool) -> Sizes:
    with laboratory() as (lab, coordinator):
        lab.provider(lab.token("provider", "one"), "one")
        graph = define(steps, keep)
        R.activate()
        database = lab.data / "ravenverse.db"
        done = threading.Event()
        seen = [0]

        def look() -> None:
            while not done.wait(PAUSE):
                seen.append(_size(database) + _size(database.with_name(f"{database.name}-wal")))

        watching = threading.Thread(target=look)
        watching.start()
        try:
            R.execute()
            R.track_progress()
        finally:
            done.set()
            watching.join()
        tasks = graph.info.tasks_done
        R.disconnect()
        coordinator.interrupt()
        coordinator.end(STOP_SECONDS)
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        blobs = sum(path.stat().st_size for path in (lab.data / "blobs").rglob("*") if path.is_file())
        return Sizes(_size(database), max(seen), blobs, tasks)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def rows() -> list[Row]:
    found = []
    for what, keep, goal in (
        ("its last state kept", False, "equal within 10 %"),
        ("and each step's loss", True, "report"),
    ):
        short, long = sizes(SHORT, keep), sizes(LONG, keep)
        found.append(
            Row(
                f"database after a loop of {LONG:,} steps against {SHORT:,}, {what}",
                f"{long.database:,} / {short.database:,} bytes: {long.database / short.database - 1:+.1%}", goal,
                f"largest with its log meanwhile {long.largest:,} / {short.largest:,}; blobs {long.blobs:,} / {short.blobs:,}; "
                f"{long.tasks:,} / {short.tasks:,} tasks",
            )
        )  # fmt: skip
    return found
