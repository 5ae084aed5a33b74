"""A requester's session: one coordinator, one token, used from ordinary synchronous code.

Lives here: the background thread whose event loop owns the control connection and the blob client,
reconnecting, and watching a graph across restarts of the coordinator. What is asked of the coordinator is
decided in `runs`, `values` and `api`. Every message a requester sends is idempotent, so a call may be sent
again after a broken line.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    wait_exponential,
    wait_random,
)

from ravop.errors import MessageError, RavenError, UnreachableError
from ravop.protocol.messages import Done, FromRequester, GraphInfo, Hello, Message, ToRequester, Watch
from ravop.release import software
from ravop.transport import BlobClient, ControlConnection

T = TypeVar("T")
M = TypeVar("M", bound=Message)

FINISHED = frozenset({"done", "failed", "cancelled"})
"""States that a graph does not leave by itself."""
CALL_SECONDS = 30.0
AGAIN_SECONDS = 5.0
"""How long a call is tried again whose line breaks: until the coordinator is back, or another one has its address."""
REACH_SECONDS = 2.0
"""How long a coordinator may take to accept a TCP connection before it counts as unreachable."""
SILENCE_SECONDS = 5.0
"""After so long without news of a watched graph, ask for it."""
SLICE_SECONDS = 0.2
"""Waiting is done in slices, because Ctrl-C does not interrupt an unlimited wait on Windows."""
LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Lost:
    """News while watching: the coordinator does not answer and is tried again."""

    reason: str


News = GraphInfo | Lost


class Keeper(Protocol):
    """Who looks after the coordinator and its providers, where they are this machine's own."""

    @property
    def log(self) -> Path:
        """Where the coordinator tells what went wrong."""

    @property
    def ends(self) -> bool:
        """Whether the coordinator ends with this script."""

    def check(self) -> None:
        """Called before each new attempt to reach a lost coordinator; raises where waiting is in vain."""

    def mend(self) -> None:
        """Called when a graph that is watched has no provider."""


class Session:
    """Talks to the coordinator at `url` as the requester of `token`. Thread-safe. Use `open`."""

    def __init__(self, url: str, token: str, keeper: Keeper | None = None) -> None:
        self.url = url.rstrip("/")
        self._hello = Hello(token=token, role="requester", software=software())
        self._keeper = keeper
        self.traces: dict[str, str] = {}
        """Of graphs that this script executed: the span in which it did."""
        self._connection: ControlConnection | None = None
        self._subscribers: dict[str, set[asyncio.Queue[GraphInfo | None]]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ravop-client", daemon=True)
        self._thread.start()
        self._connecting = asyncio.Lock()
        self.blobs = BlobClient(self.url, token)
        """For coroutines given to `run`."""

    @property
    def ends(self) -> bool:
        """Whether the coordinator ends with this script."""
        return self._keeper is not None and self._keeper.ends

    # ── synchronous, any thread ─────────────────────────────────────────────────────────────────────────────
    @classmethod
    def open(cls, url: str, token: str, keeper: Keeper | None = None) -> Session:
        """A connected session.

        Raises `UnreachableError` at once when nothing listens, `TokenError`, `RoleError`, `VersionError`.
        """
        session = cls(url, token, keeper)
        try:
            session.run(session._live_connection())
        except BaseException:
            session.close()
            raise
        return session

    def call(self, message: FromRequester, expect: type[M], timeout: float = CALL_SECONDS) -> M:
        """The coordinator's answer to `message`. Raises the error it refuses with, or `UnreachableError`."""
        return self.run(self._call(message, expect, timeout))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine, run on the session's event loop."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not wait([future], timeout=SLICE_SECONDS).done:
                pass
            return _result(future)
        finally:
            future.cancel()

    def watch(self, graph_id: str, deadline: float | None = None) -> Iterator[News]:
        """News of the graph until it is done, failed or cancelled, the last of which is yielded too.

        Goes on over a lost coordinator, with a `Lost` for each attempt to reach it again. Ends at `deadline`
        (`time.monotonic`), where it is given.
        """
        news: queue.SimpleQueue[News | None] = queue.SimpleQueue()
        future: Future[None] = asyncio.run_coroutine_threadsafe(self._watch(graph_id, news.put), self._loop)
        future.add_done_callback(lambda _: news.put(None))
        try:
            while (item := _next(news, deadline)) is not None:
                yield item
                if self._keeper is not None and isinstance(item, GraphInfo) and _is_alone(item):
                    self._keeper.mend()
            if future.done():
                _result(future)
        finally:
            future.cancel()

    def close(self) -> None:
        """Disconnect and end the background thread. Does nothing the second time."""
        if self._loop.is_closed():
            return
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ── on the event loop ───────────────────────────────────────────────────────────────────────────────────
    async def _live_connection(self) -> ControlConnection:
        async with self._connecting:
            if self._connection is None or self._connection.closed.is_set():
                if self._connection is not None:
                    await self._connection.close()
                await _probe(self.url)
                connection = ControlConnection(self.url, self._hello, self._received, ToRequester)
                await connection.connect()
                self._connection = connection
            return self._connection

    async def _call(
        self,
        message: FromRequester,
        expect: type[M],
        timeout: float = CALL_SECONDS,
        again: float = AGAIN_SECONDS,
    ) -> M:
        """On a new line where one breaks: once, and for `again` seconds."""
        reply: Message = await AsyncRetrying(
            retry=retry_if_exception_type(UnreachableError),
            wait=wait_exponential(multiplier=0.05, max=0.5),
            stop=stop_all(stop_after_attempt(2), stop_after_delay(again)),
            before_sleep=self._check,
            reraise=True,
        )(self._ask, message, timeout)
        if not isinstance(reply, expect):
            raise MessageError(
                f"an unexpected answer to {type(message).__name__}",
                expected=expect.__name__,
                received=type(reply).__name__,
            )
        return reply

    async def _ask(self, message: FromRequester, timeout: float) -> Message:
        """Once. A failure of the coordinator itself tells where its log is, if that is on this machine."""
        try:
            reply: Message = await (await self._live_connection()).call(message, timeout)
            return reply
        except RavenError as error:
            if error.problem.code != RavenError.code or self._keeper is None:
                raise
            raise RavenError(error.problem.message, hint=f"see its log: {self._keeper.log}") from None

    async def _received(self, message: Message) -> Message:
        if isinstance(message, GraphInfo):
            for subscriber in self._subscribers.get(message.graph_id, ()):
                subscriber.put_nowait(message)
        return Done()

    async def _watch(self, graph_id: str, tell: Callable[[News], None]) -> None:
        events: asyncio.Queue[GraphInfo | None] = asyncio.Queue()
        self._subscribers.setdefault(graph_id, set()).add(events)
        try:
            state = ""
            while state not in FINISHED:
                info: GraphInfo | None = await self._patiently(Watch(graph_id=graph_id), GraphInfo, tell)
                while info is not None:
                    tell(info)
                    state = info.state
                    info = None if state in FINISHED else await self._next_event(events)
        finally:
            self._subscribers[graph_id].discard(events)

    async def _next_event(self, events: asyncio.Queue[GraphInfo | None]) -> GraphInfo | None:
        """The next event; None when the line is lost or silent, so that it is time to ask."""
        lost = asyncio.ensure_future(self._connection.closed.wait()) if self._connection else None
        event = asyncio.ensure_future(events.get())
        waiting = {event} if lost is None else {event, lost}
        try:
            await asyncio.wait(waiting, timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            return event.result() if event.done() else None
        finally:
            for task in waiting:
                task.cancel()

    async def _patiently(self, message: FromRequester, expect: type[M], tell: Callable[[News], None]) -> M:
        """As `_call`, but a coordinator that does not answer is tried again for ever, saying so each time."""

        def explain(state: RetryCallState) -> None:
            self._check(state)
            pause = state.next_action.sleep if state.next_action else 0.0
            tell(Lost(f"the coordinator at {self.url} does not answer; trying again in {pause:.1f} s"))

        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(UnreachableError),
            wait=wait_exponential(multiplier=0.2, max=LONGEST_PAUSE) + wait_random(0, 0.2),
            before_sleep=explain,
            reraise=True,
        ):
            with attempt:
                return await self._call(message, expect, again=0.0)
        raise AssertionError("the retry loop returns or raises")

    def _check(self, _: RetryCallState) -> None:
        if self._keeper is not None:
            self._keeper.check()

    async def _close(self) -> None:
        await self.blobs.close()
        if self._connection is not None:
            await self._connection.close()


def _result(future: Future[T]) -> T:
    """An error of ours comes without the frames of event loop and libraries, and without what they raised: its words say
    all that they do.
    """
    try:
        return future.result()
    except RavenError as error:
        raise error.with_traceback(None) from None


async def _probe(url: str) -> None:
    """Raises `UnreachableError` soon where nothing accepts a connection: no script should wait a minute to
    learn that.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(REACH_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except OSError as error:  # a time-out is one too
        raise UnreachableError(
            "the coordinator does not answer",
            expected=f"a coordinator at {url}",
            received=str(error) or f"nothing within {REACH_SECONDS:g} s",
            hint="start one with `ravsock serve`, or check the URL and RAVENVERSE_URL",
        ) from error
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _next(news: queue.SimpleQueue[News | None], deadline: float | None) -> News | None:
    while deadline is None or time.monotonic() < deadline:
        with contextlib.suppress(queue.Empty):
            return news.get(timeout=SLICE_SECONDS)
    return None


def _is_alone(info: GraphInfo) -> bool:
    return info.state == "executing" and info.providers == 0
