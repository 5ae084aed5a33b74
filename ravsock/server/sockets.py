"""The control plane: Socket.IO connections of requesters and providers.

Decodes and checks what arrives, finds the method for it in a table, and answers every message: with its reply
or with `Refused`. What the messages mean is in `service` (requesters) and `work` (providers).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from socketio.exceptions import ConnectionRefusedError as Refusal

from ravop import tracing
from ravop.errors import (
    GraphStateError,
    MessageError,
    RavenError,
    RoleError,
    UnreachableError,
    WaitTimeoutError,
    error_from_problem,
)
from ravop.protocol import messages as m
from ravop.protocol.messages import EVENT, MAX_MESSAGE, Message, Refused, decode, encode
from ravop.protocol.versions import OLDEST
from ravsock.server.auth import Authenticator
from ravsock.server.http import CRASHED
from ravsock.server.metrics import Metrics
from ravsock.server.packets import Server
from ravsock.server.provider import Provider
from ravsock.server.providers import Providers
from ravsock.server.service import Service
from ravsock.server.work import Work
from ravsock.store import Identity

PING_SECONDS = 5
MAX_OF_TOKEN = 2_000
"""Connections with one token: one that got into wrong hands must not take all the room."""
ACK_SECONDS = 15.0
"""Time for a client to acknowledge what the coordinator sends."""
SPANS: dict[type[Message], str] = {m.Activate: "plan", m.Execute: "start", m.Report: "commit"}
"""What a trace calls the handling of messages that tell the span of their sender."""

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Session:
    """A connection that was let in."""

    sid: str
    token: str
    who: Identity
    role: str
    version: int
    """Of the protocol, that is spoken with it."""
    unanswered: set[asyncio.Future[bytes]] = field(default_factory=set)
    """Messages to it that it has not acknowledged."""


class Sockets:
    """`sio` is the Socket.IO server; `on_gone(session)` is called when a connection has ended."""

    def __init__(
        self, auth: Authenticator, on_gone: Callable[[Session], Awaitable[None]], metrics: Metrics
    ) -> None:
        self.sio: Any = Server(
            async_mode="asgi",
            transports=["websocket"],
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_http_buffer_size=MAX_MESSAGE + 1024,
        )
        self.sessions: dict[str, Session] = {}
        self._of_token: Counter[int] = Counter()
        self._auth = auth
        self._on_gone = on_gone
        self._metrics = metrics
        self._handlers: dict[type[Message], Handler] = {}
        self.sio.on("connect", self._connect)
        self.sio.on("disconnect", self._disconnect)
        self.sio.on(EVENT, self._receive)

    def answer_with(self, service: Service, work: Work, providers: Providers) -> None:
        """What to do with messages; called once, before any comes."""
        self._handlers = {**_requester_handlers(service), **_provider_handlers(self, work, providers)}

    def count(self, role: str) -> int:
        """How many connections of this role there are."""
        return sum(session.role == role for session in self.sessions.values())

    async def send(self, sid: str, message: Message) -> None:
        """Send a message; returns when it is acknowledged.

        Raises what a `Refused` holds, `UnreachableError` when the connection is or gets lost,
        `WaitTimeoutError` after `ACK_SECONDS`, `MessageError` for a message too large to send or an answer
        that is none.
        """
        session = self.sessions.get(sid)
        if session is None:
            raise UnreachableError("the connection is closed")
        data = encode(message, session.version)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        session.unanswered.add(answer)
        try:
            async with asyncio.timeout(ACK_SECONDS):
                await self.sio.emit(EVENT, data, to=sid, callback=lambda *values: _settle(answer, values))
                reply = decode(await answer, m.Done | m.Refused)
        except TimeoutError as error:
            raise WaitTimeoutError(
                f"{type(message).__name__} was not acknowledged", expected=f"within {ACK_SECONDS:g} s"
            ) from error
        finally:
            session.unanswered.discard(answer)
        if isinstance(reply, Refused):
            raise error_from_problem(reply.problem)

    async def drop(self, sid: str) -> None:
        """End a connection."""
        await self.sio.disconnect(sid)

    async def _connect(self, sid: str, environ: object, auth: object) -> None:
        try:
            hello, who = await self._auth.greet(auth)
            self._admit(who)
        except RavenError as error:
            self._metrics.refused(error.problem.code)
            raise Refusal(error.problem.message, msgspec.to_builtins(error.problem)) from error
        except Exception as error:
            log.exception("a connection could not be let in")
            raise Refusal(CRASHED.message, msgspec.to_builtins(CRASHED)) from error
        self._of_token[who.token_id] += 1
        self.sessions[sid] = Session(sid, hello.token, who, hello.role, hello.protocol)
        log.info("%s %s connected (%s)", hello.role, who.name, hello.software or "unknown software")

    def _admit(self, who: Identity) -> None:
        if self._of_token[who.token_id] >= MAX_OF_TOKEN:
            raise UnreachableError(
                f"the token {who.name!r} has too many connections",
                expected=f"at most {MAX_OF_TOKEN:,} with one token",
                hint="let who runs the coordinator make another token, or wait until some have ended",
            )

    async def _disconnect(self, sid: str, reason: object = "") -> None:
        session = self.sessions.pop(sid, None)
        if session is None:
            return
        self._of_token[session.who.token_id] -= 1
        log.info("%s %s disconnected: %s", session.role, session.who.name, reason)
        for answer in session.unanswered:
            if not answer.done():
                answer.set_exception(UnreachableError("the connection was closed"))
                answer.exception()  # a sender that was cancelled meanwhile will not ask for it
        await self._on_gone(session)

    async def _receive(self, sid: str, *values: object) -> bytes:
        session = self.sessions.get(sid)
        version = OLDEST if session is None else session.version
        try:
            with self._metrics.message_seconds.time():
                return encode(await self._answer(session, values), version)
        except RavenError as error:
            self._metrics.refused(error.problem.code)
            return encode(Refused(problem=error.problem), version)
        except Exception:
            log.exception("a message could not be handled")
            self._metrics.refused(CRASHED.code)
            return encode(Refused(problem=CRASHED), version)

    async def _answer(self, session: Session | None, values: tuple[object, ...]) -> Message:
        if session is None:
            raise UnreachableError("the connection is closed")
        await self._auth.authenticate(session.token, session.role)  # it may have been revoked meanwhile
        if len(values) != 1:
            raise MessageError("an event carries one message", expected="1 argument", received=len(values))
        message = decode(values[0], m.FromRequester | m.FromProvider)
        self._metrics.message(type(message))
        handler = self._handlers[type(message)]
        if handler.role != session.role:
            raise RoleError(
                f"a {session.role} may not send {type(message).__name__}",
                expected=f"a connection as {handler.role}",
                received=f"a connection as {session.role}",
            )
        with tracing.span(SPANS.get(type(message), ""), getattr(message, "trace", ""), who=session.who.name):
            return await handler.answer(session, message)


@dataclass(frozen=True)
class Handler:
    """Who may send a message, and what answers it."""

    role: str
    answer: Callable[[Session, Any], Awaitable[Message]]


def _requester_handlers(service: Service) -> dict[type[Message], Handler]:
    async def execute(session: Session, message: m.Execute) -> Message:
        await service.execute(session.who, message.graph_id, message.trace)
        return m.Done()

    async def cancel(session: Session, message: m.Cancel) -> Message:
        await service.cancel(session.who, message.graph_id)
        return m.Done()

    answers: dict[type[Message], Callable[[Session, Any], Awaitable[Message]]] = {
        m.Activate: lambda s, msg: service.activate(s.who, msg.graph_id, msg.model, msg.manifest),
        m.Execute: execute,
        m.Cancel: cancel,
        m.Flush: lambda s, msg: service.flush(s.who),
        m.ListGraphs: lambda s, msg: service.graphs(s.who, msg.state),
        m.GetGraph: lambda s, msg: service.graph(s.who, msg.graph_id),
        m.Watch: lambda s, msg: service.watch(s.who, msg.graph_id, s.sid),
        m.Fetch: lambda s, msg: service.fetch(s.who, msg.graph_id, msg.names),
        m.ListProviders: lambda s, msg: service.providers(),
    }
    return {kind: Handler("requester", answer) for kind, answer in answers.items()}


def _provider_handlers(sockets: Sockets, work: Work, providers: Providers) -> dict[type[Message], Handler]:
    def registered(session: Session) -> Provider:
        provider = providers.at(session.sid)
        if provider is None:
            raise GraphStateError("register first", expected="Register as the first message of a provider")
        return provider

    async def register(session: Session, message: m.Register) -> Message:
        reply, earlier = await work.register(session.sid, session.who, message)
        if earlier is not None and earlier.sid != session.sid:
            await sockets.drop(earlier.sid)
        return reply

    answers: dict[type[Message], Callable[[Session, Any], Awaitable[Message]]] = {
        m.Register: register,
        m.Beat: lambda s, msg: work.beat(registered(s), msg),
        m.Report: lambda s, msg: work.report(registered(s), msg),
        m.JoinableGraphs: lambda s, msg: work.joinable(),
    }
    return {kind: Handler("provider", answer) for kind, answer in answers.items()}


def _settle(answer: asyncio.Future[bytes], values: tuple[object, ...]) -> None:
    if answer.done():
        return
    if len(values) == 1 and isinstance(values[0], bytes):
        answer.set_result(values[0])
    else:
        answer.set_exception(MessageError("an acknowledgement must be one encoded message"))
