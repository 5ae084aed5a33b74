"""A TCP relay between clients and coordinators whose connections can be cut, as a bad line would; with several
coordinators it is a load balancer.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Relay:
    """Listens on a port of its own and passes everything on to `urls`, in a thread: each connection to the next of them that
    answers. Use `relaying`."""

    def __init__(self, *urls: str) -> None:
        self._places = deque(urlsplit(url) for url in urls)
        self._open: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self.url = ""
        self.passed = 0
        """Bytes, in both directions."""
        self.cuts: list[int] = []
        """Of `passed`: when it reaches the first of these, all connections break."""
        self.loop = asyncio.new_event_loop()

    def cut(self) -> None:
        """Break all connections that go through it, at once and in the middle of whatever they carry."""
        self.loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def end(self, server: asyncio.Server) -> None:
        server.close()
        self._cut()
        await asyncio.gather(*self._passing)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing = asyncio.ensure_future(self._pass_on(reader, writer))
        self._passing.add(passing)
        passing.add_done_callback(self._passing.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs = await self._connected()
        if theirs is None:
            writer.transport.abort()
            return
        their_reader, their_writer = theirs
        both = {writer, their_writer}
        self._open |= both
        try:
            await asyncio.gather(self._pump(reader, their_writer), self._pump(their_reader, writer))
        finally:
            self._open -= both
            for end in both:
                end.transport.abort()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in range(len(self._places)):
            place = self._places[0]
            self._places.rotate(-1)
            with contextlib.suppress(OSError):  # this coordinator is not there
                return await asyncio.open_connection(place.hostname, place.port)
        return None

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on until one side is closed; then the other is, too."""
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                self.passed += len(data)
                if self.cuts and self.passed >= self.cuts[0]:
                    self.cuts.pop(0)
                    return self._cut()
                writer.write(data)
                await writer.drain()
        return writer.close()


@contextmanager
def relaying(*urls: str) -> Iterator[Relay]:
    relay = Relay(*urls)
    thread = threading.Thread(target=relay.loop.run_forever, name="relay", daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(relay.listen(), relay.loop).result()
    try:
        yield relay
    finally:
        asyncio.run_coroutine_threadsafe(relay.end(server), relay.loop).result(10)
        relay.loop.call_soon_threadsafe(relay.loop.stop)
        thread.join()
        relay.loop.close()
