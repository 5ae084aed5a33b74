"""How news travels between coordinators: through Redis where there is one, else through PostgreSQL. What it says, and what
is done when a wire breaks, is in `news`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ravop.errors import ArgumentError
from ravsock.store import Store

CONNECT_SECONDS = 3.0
CHECK_SECONDS = 5.0
"""How often a connection to Redis that hears nothing is tried."""
Heard = Callable[[bytes], None]


class Wire(Protocol):
    name: str

    async def send(self, letters: Sequence[bytes]) -> None:
        """To all who listen, this one too. Raises whatever its library does."""

    async def listen(self, heard: Heard) -> None:
        """Call `heard` with each letter, first with an empty one; until cancelled, or until it breaks, which raises. `heard` may
        be called from any thread."""

    async def close(self) -> None:
        """At the end."""


class PostgreSQL:
    """LISTEN and NOTIFY."""

    name = "PostgreSQL's LISTEN"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._channel = store.channel()

    async def send(self, letters: Sequence[bytes]) -> None:
        payloads = [letter.decode() for letter in letters]
        await asyncio.to_thread(self._store.notify, self._channel, payloads)

    async def listen(self, heard: Heard) -> None:
        stopped = threading.Event()
        listening = asyncio.ensure_future(
            asyncio.to_thread(self._store.listen, self._channel, lambda text: heard(text.encode()), stopped)
        )
        try:
            await asyncio.shield(listening)
        finally:
            stopped.set()
            await asyncio.wait([listening])

    async def close(self) -> None:
        pass


class Redis:
    """Publish and subscribe. Raises `ArgumentError` for a URL that is none, or where its library is missing."""

    name = "Redis"

    def __init__(self, url: str, channel: str) -> None:
        try:
            from redis import asyncio as redis
        except ImportError as error:
            raise ArgumentError(
                "--redis-url needs a library that is not installed", received=str(error),
                hint="pip install 'ravenverse[redis]'",
            ) from error  # fmt: skip
        try:
            self._client: Any = redis.Redis.from_url(
                url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS,
                health_check_interval=CHECK_SECONDS,
            )  # fmt: skip
        except ValueError as error:
            raise ArgumentError(
                "not a URL of Redis", expected="redis://host:6379 or rediss://user:password@host:6379",
                received=str(error), hint="correct --redis-url",
            ) from error  # fmt: skip
        self._channel = channel

    async def send(self, letters: Sequence[bytes]) -> None:
        for letter in letters:
            await self._client.publish(self._channel, letter)

    async def listen(self, heard: Heard) -> None:
        async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(self._channel)
            heard(b"")
            while True:
                message = await subscription.get_message(timeout=CHECK_SECONDS)
                if message is not None:
                    heard(message["data"])

    async def close(self) -> None:
        await self._client.aclose()


def check_redis(url: str, database_url: str | None) -> None:
    """Before anything starts. Raises as `Redis` does, and `ArgumentError` for one beside SQLite."""
    if database_url is None or database_url.startswith("sqlite"):
        raise ArgumentError(
            "Redis carries news between coordinators, and with SQLite there is one",
            expected="--redis-url with --database-url postgresql://…",
            hint="leave --redis-url away, or use PostgreSQL",
        )
    Redis(url, channel="")


def make_wire(store: Store, redis_url: str | None) -> Wire | None:
    """None on SQLite, where there is nobody to tell. Raises as `Redis` does."""
    if store.is_sqlite:
        return None
    return PostgreSQL(store) if redis_url is None else Redis(redis_url, store.channel())
