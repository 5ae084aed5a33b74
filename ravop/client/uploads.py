"""Sending a graph away: its input blobs, its model and its manifest become blobs of the coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ravop.client.session import Session
from ravop.graph.graph import Graph
from ravop.graph.manifest import Binding, encode_manifest
from ravop.graph.serde import to_bytes
from ravop.protocol.tensors import encode_tensor, sha256

UPLOADS = 4
"""At the same time."""


@dataclass(frozen=True)
class Package:
    """A graph as bytes: `blobs` by name, among them `model` and `manifest`."""

    model: str
    manifest: str
    blobs: dict[str, bytes]

    @property
    def size(self) -> int:
        return sum(map(len, self.blobs.values()))


def pack(graph: Graph) -> Package:
    """Raises `GraphStateError` for a graph that persists nothing."""
    blobs: dict[str, bytes] = {}

    def add(data: bytes) -> str:
        sha = sha256(data)
        blobs[sha] = data
        return sha

    bindings = []
    for name, array in graph.inputs.items():
        data = encode_tensor(array)
        bindings.append(Binding(input=name, sha=add(data), size=len(data)))
    model = add(to_bytes(graph.model()))
    manifest = add(encode_manifest(graph.manifest(bindings)))
    return Package(model, manifest, blobs)


def upload(session: Session, package: Package, sent: Callable[[int], None]) -> None:
    """Store what the coordinator does not have yet; `sent` is told the size of each blob that is there.

    Raises `StorageFullError`, `TokenError`, `UnreachableError`.
    """

    async def put_all() -> None:
        gate = asyncio.Semaphore(UPLOADS)

        async def put(sha: str, data: bytes) -> None:
            async with gate:
                await session.blobs.put(data, sha)  # asks first, where the blob is large
                sent(len(data))

        await asyncio.gather(*(put(sha, data) for sha, data in package.blobs.items()))

    session.run(put_all())
