"""The Socket.IO library as the coordinator needs it: nothing unbounded from strangers, and nothing whose cost grows with
the number of those who are connected beside one.

What the messages are is `sockets`' business.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import engineio
import socketio

ATTACHMENTS = 4
"""A message is one; who sends a few more is told so."""
AT_ONCE = 200
"""Connections looked at before others get a turn."""

log = logging.getLogger(__name__)


class Packet(socketio.packet.Packet):  # type: ignore[misc]  # the library has no types
    """A packet with few attachments: the library would gather as many as the sender announces, even before it has
    said who it is."""

    def decode(self, encoded_packet: str) -> int:
        count: int = super().decode(encoded_packet)
        if count > ATTACHMENTS:
            raise ValueError(f"{count} attachments")
        return count


class _Manager(socketio.AsyncManager):  # type: ignore[misc]
    """Without rooms: the library looks through everybody's at each end of a connection."""

    def basic_disconnect(self, sid: str, namespace: str, **_: Any) -> None:
        for room in (sid, None):
            if sid in self.rooms.get(namespace, {}).get(room, ()):
                self.basic_leave_room(sid, namespace, room)
        self.callbacks.pop(sid, None)
        for waiting in (self.pending_connect, self.pending_disconnect):
            if sid in waiting.get(namespace, ()):
                waiting[namespace].remove(sid)


class _Engine(engineio.AsyncServer):  # type: ignore[misc]
    """Looks for connections that do not answer pings all at once: the library sets a timer for each."""

    async def _service_task(self) -> None:
        self.service_task_event = asyncio.Event()
        while not self.service_task_event.is_set():
            for number, socket in enumerate(list(self.sockets.values())):
                if socket.closed:
                    self.sockets.pop(socket.sid, None)
                elif not socket.closing:
                    await socket.check_ping_timeout()
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
            try:
                async with asyncio.timeout(self.ping_timeout):
                    await self.service_task_event.wait()
            except TimeoutError:
                continue


class Server(socketio.AsyncServer):  # type: ignore[misc]
    """Closes connections that send what is no packet, or go on sending after they were told to leave."""

    def __init__(self, **options: Any) -> None:
        super().__init__(client_manager=_Manager(), serializer=Packet, **options)

    def _engineio_server_class(self) -> type[engineio.AsyncServer]:
        return _Engine

    async def _handle_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        try:
            await super()._handle_eio_message(eio_sid, data)
        except Exception as error:  # noqa: BLE001 — whatever the library makes of it
            log.info("a connection is closed that sends no packets: %s", str(error)[:200])
            await self.eio.disconnect(eio_sid)
