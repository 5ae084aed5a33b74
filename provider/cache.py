"""`Cache`: blobs on the volunteer's disk, named by their SHA-256, the least recently used removed first.

Holds the models and tensors of tasks, and large outputs that a next task will read. Pinned blobs stay. What
an earlier daemon left is hashed again before its first use. For one event loop; downloads are
`provider.supply`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from pathlib import Path

_SHA_LENGTH = 64


class Cache:
    """A folder of blobs that aims to stay within `budget` bytes; only pinned blobs may exceed it."""

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder = folder
        self._budget = budget
        self._pins: dict[Hashable, frozenset[str]] = {}
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir(parents=True)
        found = sorted(
            (file.stat().st_mtime, file.name, file.stat().st_size)
            for file in folder.iterdir()
            if file.is_file() and len(file.name) == _SHA_LENGTH
        )
        self._sizes = OrderedDict((name, size) for _, name, size in found)
        self.size = sum(self._sizes.values())
        """Bytes of all blobs."""
        self._unverified = set(self._sizes)
        self._evict(self._budget)

    def path(self, sha: str) -> Path:
        """Where the blob is, or would be."""
        return self.folder / sha

    def incoming(self, sha: str) -> Path:
        """Where to put the blob's bytes before `adopt`."""
        return self._incoming / sha

    async def has(self, sha: str) -> bool:
        """Whether the blob is here and whole; notes that it is used."""
        if sha not in self._sizes:
            return False
        foreign = sha in self._unverified
        whole = await asyncio.to_thread(self._hashes, sha) if foreign else self._is_complete(sha)
        if not whole:
            self._remove(sha)
            return False
        self._unverified.discard(sha)
        self._sizes.move_to_end(sha)
        with contextlib.suppress(OSError):  # only the order after a restart depends on it
            os.utime(self.path(sha))
        return True

    async def adopt(self, file: Path) -> tuple[str, int]:
        """Move the file into the cache. → its SHA-256 and size."""
        sha, size = await asyncio.to_thread(_measure, file)
        self.take(file, sha, size)
        return sha, size

    def take(self, file: Path, sha: str, size: int) -> None:
        """Move the file, which is known to be this blob, into the cache."""
        if sha in self._sizes and self._is_complete(sha):
            file.unlink()  # the one that is here may be mapped by a worker
        else:
            file.replace(self.path(sha))
        self._added(sha, size)

    def make_room(self) -> None:
        """Remove all that is not pinned: the disk is full."""
        self._evict(0)
        for file in self._incoming.iterdir():
            with contextlib.suppress(OSError):  # Windows: a download is writing it
                file.unlink()

    def pin(self, owner: Hashable, shas: Iterable[str]) -> None:
        """Keep these blobs, besides those it pinned before, until the owner is unpinned."""
        self._pins[owner] = self._pins.get(owner, frozenset()) | frozenset(shas)

    def unpin(self, owner: Hashable) -> None:
        self._pins.pop(owner, None)
        self._evict(self._budget)

    @property
    def _incoming(self) -> Path:
        return self.folder / "incoming"

    def _added(self, sha: str, size: int) -> None:
        self.size += size - self._sizes.pop(sha, 0)
        self._sizes[sha] = size
        self._unverified.discard(sha)
        self._evict(self._budget, keep=sha)

    def _is_complete(self, sha: str) -> bool:
        try:
            return self.path(sha).stat().st_size == self._sizes[sha]
        except OSError:
            return False

    def _hashes(self, sha: str) -> bool:
        try:
            return _measure(self.path(sha))[0] == sha
        except OSError:
            return False

    def _evict(self, budget: int, keep: str | None = None) -> None:
        if self.size <= budget:
            return
        pinned = {keep}.union(*self._pins.values())
        for sha in [sha for sha in self._sizes if sha not in pinned]:
            self._remove(sha)
            if self.size <= budget:
                return

    def _remove(self, sha: str) -> None:
        with contextlib.suppress(OSError):  # Windows keeps what a worker still maps: a later start removes it
            self.path(sha).unlink()
        self.size -= self._sizes.pop(sha, 0)
        self._unverified.discard(sha)


def _measure(file: Path) -> tuple[str, int]:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), stream.tell()
