"""Fetching persisted values: from names to arrays.

The coordinator answers with references (`ravop.protocol.tensors`); what is too large for a message is
downloaded from the blob endpoint, checked against its hash, each blob once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from ravop.client.session import Session
from ravop.errors import ArgumentError, MessageError, error_from_problem
from ravop.graph.source import describe, user_line
from ravop.protocol.messages import Fetch, Fetched
from ravop.protocol.tensors import Array, Blob, TensorRef, blobs_of, decode_tensor, resolve

DOWNLOADS = 4
"""At the same time."""
NAMES_PER_CALL = 1_000


def fetch(session: Session, graph_id: str, names: Sequence[str]) -> dict[str, Array]:
    """The values of persisted names, in their order.

    Raises, for the first name that has no value, `UnknownNameError`, `NotComputedError` or
    `GraphFailedError`; `ArgumentError` for what is no name.
    """
    for name in names:
        if not isinstance(name, str) or not name:
            raise ArgumentError(
                "this is no name of a persisted op",
                expected="text, such as 'test_prediction'",
                received=repr(name),
                source=describe(user_line()),
            )
    refs: dict[str, TensorRef] = {}
    for start in range(0, len(names), NAMES_PER_CALL):
        message = Fetch(graph_id=graph_id, names=tuple(names[start : start + NAMES_PER_CALL]))
        for value in session.call(message, Fetched).values:
            if value.problem is not None:
                raise error_from_problem(value.problem)
            if value.value is None:
                raise MessageError("an answer with neither value nor problem", received=value.name)
            refs[value.name] = value.value
    arrays = session.run(_download(session, {blob for ref in refs.values() for blob in blobs_of(ref)}))
    return {name: resolve(ref, arrays.__getitem__) for name, ref in refs.items()}


async def _download(session: Session, blobs: Iterable[Blob]) -> dict[Blob, Array]:
    gate = asyncio.Semaphore(DOWNLOADS)

    async def get(blob: Blob) -> tuple[Blob, Array]:
        async with gate:
            return blob, decode_tensor(await session.blobs.get(blob.sha, blob.size))

    return dict(await asyncio.gather(*map(get, blobs)))
