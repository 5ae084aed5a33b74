"""The providers that are connected now, and what they may: in memory, rebuilt as they come back after a
restart. What is known of each is in `provider`.

What must survive is in the store. For the event loop's thread only.
"""

from __future__ import annotations

from collections.abc import Iterator

from ravsock.core.jobs import Node
from ravsock.core.placement import Running
from ravsock.core.recent import Recent
from ravsock.server.provider import Provider

RETURN_SECONDS = 30.0
"""A provider that was cut off has so long to come back before its uploads are refused."""
REMEMBERED_GONE = 1_000
"""Providers remembered that are not connected."""


class Providers:
    """All connected providers, by their id and by their connection."""

    def __init__(self) -> None:
        self._by_id: dict[str, Provider] = {}
        self._by_sid: dict[str, Provider] = {}
        self._left: dict[int, float] = {}
        self._gone: Recent[str, Provider] = Recent(REMEMBERED_GONE)

    def __iter__(self) -> Iterator[Provider]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, provider: Provider) -> Provider | None:
        """Register it; returns the same provider's earlier connection, which is replaced.

        What was learnt of it stays: coming back ends no rest.
        """
        earlier = self._by_id.get(provider.provider_id)
        if earlier is not None:
            self.remove(earlier, provider.heard)
        before = self._gone.pop(provider.provider_id)
        if before is not None:
            provider.blobs, provider.failures = before.blobs, before.failures
            provider.resting_until, provider.resting_why = before.resting_until, before.resting_why
        self._by_id[provider.provider_id] = provider
        self._by_sid[provider.sid] = provider
        return earlier

    def remove(self, provider: Provider, now: float) -> None:
        """Its connection is gone. It may come back soon, and go on uploading meanwhile."""
        if self._by_sid.pop(provider.sid, None) is provider:
            del self._by_id[provider.provider_id]
            self._gone[provider.provider_id] = provider
            if provider.held:
                self._left[provider.token_id] = now

    def get(self, provider_id: str) -> Provider | None:
        return self._by_id.get(provider_id)

    def at(self, sid: str) -> Provider | None:
        return self._by_sid.get(sid)

    def reads_for(self, token_id: int, sha: str) -> int | None:
        """The owner of a task that needs the blob and that a provider of this token holds; None where there is none."""
        batches = (batch for p in self._of(token_id) for batch in p.batches)
        return next((batch.owner for batch in batches if sha in batch.blobs), None)

    def may_write(self, token_id: int, now: float) -> bool:
        """Whether a provider of this token holds a task, or did until it was cut off a moment ago."""
        left = self._left.get(token_id, -RETURN_SECONDS)
        return now - left < RETURN_SECONDS or any(p.held for p in self._of(token_id))

    def moved(self, token_id: int, size: int, seconds: float) -> None:
        """So many bytes went over the line of this token's providers; several of one token count as one place."""
        for provider in self._of(token_id):
            provider.history.moved(provider.provider_id, size, seconds)

    def _of(self, token_id: int) -> list[Provider]:
        return [p for p in self._by_id.values() if p.token_id == token_id]

    def room(self, now: float, enough: int) -> int:
        """How many more batches they may get together; counted until there is `enough`."""
        found = 0
        for provider in self._by_id.values():
            if now >= provider.resting_until:
                found += provider.room
                if found >= enough:
                    break
        return found

    def at_work(self) -> bool:
        """Whether any has something."""
        return any(p.held for p in self._by_id.values())

    def nodes(self, now: float) -> tuple[list[Node], list[Provider]]:
        """Those that may get something or rest, as placement sees them; and the others, which in a large fleet at work
        are nearly all."""
        full = [provider for provider in self._by_id.values() if provider.full(now)]
        return [p.node(now) for p in self._by_id.values() if not p.full(now)], full

    def running(self) -> list[Running]:
        """All batches that are held now."""
        return [Running(b.owner, b.graph_id) for p in self._by_id.values() for b in p.batches]
