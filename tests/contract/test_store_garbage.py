"""Whatever happens at the same time and breaks off anywhere: no blob goes that something refers to, and nothing stays that
nothing refers to, neither rows nor bytes.

Two stores on one database, and a folder, are used by uploads, graphs and collections whose steps interleave.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from plans import Bench, Case, training

from ravop.errors import UnreachableError
from ravop.protocol.tensors import Blob, blobs_of, sha256
from ravsock.core.program import Program
from ravsock.store import FolderBlobs, Store
from ravsock.store.bindings import decode_ref
from ravsock.store.garbage import CLAIM_SECONDS
from ravsock.store.schema import bindings, blobs, graphs

GRACE, STRAY = 100.0, 1000.0
LONG = 2 * STRAY + CLAIM_SECONDS
SIZE = 8_200
"""Elements of a tensor that travels as a blob."""
Steps = Iterator[None]


class World(Bench):
    """A bench whose blobs are files, on either of two stores."""

    def __init__(self, stores: list[Store], folder: Path) -> None:
        super().__init__(stores[0])
        self.stores = stores
        self.folders = (folder / str(number) for number in itertools.count())
        self.begin_anew()

    def begin_anew(self) -> None:
        self.now, self.store = 1000.0, self.stores[0]
        self.folder = next(self.folders)
        self.files = FolderBlobs(self.folder)
        self.fresh: dict[str, float] = {}
        """When somebody was told that they are stored."""
        with self.store.write() as connection:
            for table in (graphs, blobs):
                connection.execute(sa.delete(table))

    def lay(self, sha: str, data: bytes) -> None:
        path = self.folder / sha[:2] / sha[2:4] / sha
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (self.now, self.now))

    def uploading(self, sha: str, data: bytes, owner: int | None) -> Steps:
        """As `Storage.receive` does it."""
        self.lay(sha, data)
        yield
        self.store.record_blob(sha, len(data), owner, self.now)
        recorded = self.now
        yield
        if not self.files.has(sha):
            self.store.forget_blob(sha, owner)
            raise UnreachableError("cleared away")
        self.fresh[sha] = recorded

    def upload(self, data: bytes, owner: int | None) -> Blob:
        sha = sha256(data)
        self.blobs[sha] = data
        for _ in self.uploading(sha, data, owner):
            pass
        return Blob(sha, len(data))

    def add(self, case: Case, graph_id: str, owner: int | None = None) -> str:
        for model in Program(case.plan).models():
            self.lay(model, b"model")
        return super().add(case, graph_id, owner)

    def collecting(self) -> Steps:
        """As `Collector.collect` does it."""
        look = self.store.unneeded(self.now - GRACE)
        yield
        self.store.doom(look.unneeded)
        yield
        yield from self.straying()
        claimed = self.store.claim(self.now)
        for one in claimed:
            yield
            if self.now > one.claim + CLAIM_SECONDS / 2:
                return
            self.files.delete(one.sha)
        yield
        self.store.bury(claimed)

    def straying(self) -> Steps:
        lying = [found.sha for found in self.files.stored(self.now - STRAY)]
        yield
        known = self.store.recorded(lying)
        yield
        if strays := [sha for sha in lying if sha not in known]:
            self.store.doom_strays(strays)

    def collect(self) -> None:
        for _ in self.collecting():
            pass

    def rows(self) -> dict[str, int]:
        with self.store.read() as connection:
            return dict(connection.execute(sa.select(blobs.c.sha, blobs.c.doomed)).all())

    def bytes_of(self) -> set[str]:
        return {path.name for path in self.folder.rglob("*") if len(path.name) == 64}

    def referenced(self) -> set[str]:
        used: set[str] = set()
        with self.store.read() as connection:
            for row in connection.execute(sa.select(graphs)):
                used |= {row.model_sha, row.manifest_sha, *Program(self.store.plan(row.id)).models()}
                used |= {bound.sha for bound in self.store.manifest(row.id).bindings}
            for ref in connection.execute(sa.select(bindings.c.ref)).scalars():
                used |= {blob.sha for blob in blobs_of(decode_ref(ref))}
        return used


class Machine(RuleBasedStateMachine):
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.world.begin_anew()
        self.steps: list[Steps] = []
        self.cases: dict[str, Case] = {}

    @rule(
        kinds=st.tuples(st.sampled_from(["upload", "upload", "result", "graph"]), st.just("collection")),
        seconds=st.sampled_from([0.0, 2 * GRACE, 2 * GRACE, LONG]),
        turns=st.lists(st.sampled_from([1, 2, 3, 20]), min_size=2, max_size=5),
    )
    def interleave(self, kinds: tuple[str, str], seconds: float, turns: list[int]) -> None:
        """A collection and something else take turns, of so many steps each, on either store; they may be broken off."""
        self.world.now += seconds
        self.world.store.expire(self.world.now)
        running = [getattr(self, kind)() for kind in kinds]
        for turn, count in enumerate(turns):
            for _ in range(count):
                self.go(running[(turn + 1) % 2], bool(turn % 2))
            self.what_is_needed_is_there()
        self.steps += running

    def go(self, steps: Steps, which: bool = False) -> None:
        self.world.store = self.world.stores[which]
        with suppress(StopIteration, UnreachableError):
            next(steps)

    @precondition(lambda self: self.steps)
    @rule(count=st.integers(1, 4))
    def go_on(self, count: int) -> None:
        """With what was begun first; others never do."""
        steps = self.steps.pop(0)
        for _ in range(count):
            self.go(steps)

    @precondition(lambda self: self.cases)
    @rule()
    def flush(self) -> None:
        for name in self.cases:
            if self.world.store.graph(name).state == "executing":
                self.world.store.cancel_graph(name, None, self.world.now)
        self.world.store.flush(self.world.owner)
        self.cases.clear()

    def upload(self) -> Steps:
        data = b"always the same"
        return self.world.uploading(sha256(data), data, self.world.owner)

    def collection(self) -> Steps:
        return self.world.collecting()

    def graph(self) -> Steps:
        """A graph, with the same data as any other."""
        case, name = training(3, SIZE), f"g{len(self.cases)}"
        yield
        if len(self.cases) < 2:
            self.world.add(case, name)
            self.cases[name] = case
            self.world.store.start_graph(name, self.world.owner, self.world.now)

    def result(self) -> Steps:
        for ready in self.world.store.ready(1):
            task = self.world.lease(ready.task_id, stop=ready.start + 1, seconds=GRACE)
            assert task is not None
            case = self.cases[ready.graph_id]
            yield
            result = self.world.compute(case.workshop.kernels, task)
            yield
            self.world.complete(result)

    @invariant()
    def what_is_needed_is_there(self) -> None:
        now, rows, files = self.world.now, self.world.rows(), self.world.bytes_of()
        fresh = {sha for sha, at in self.world.fresh.items() if at >= now - GRACE}
        there = {sha for sha, doomed in rows.items() if not doomed and sha in files}
        assert self.world.referenced() | fresh <= there

    def teardown(self) -> None:
        world = self.world
        for end in (lambda: None, self.flush):
            end()
            world.now += LONG
            world.collect()
            used = world.referenced()
            assert world.rows() == dict.fromkeys(used, 0)
            assert world.bytes_of() == used
        assert not used


def test_nothing_needed_is_collected_and_nothing_else_stays(
    fresh_url: Callable[[], AbstractContextManager[str]], tmp_path: Path
) -> None:
    with fresh_url() as url, closing(Store(url)) as one, closing(Store(url)) as two:
        one.migrate()
        world = World([one, two], tmp_path / "blobs")
        machine: Any = type("Worlds", (Machine,), {"world": world})
        run_state_machine_as_test(
            machine, settings=settings(max_examples=12, stateful_step_count=6, deadline=None)
        )
