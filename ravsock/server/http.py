"""Small change of plain ASGI: refusals as JSON Problems with the right status, bearer tokens, whole
responses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec

from ravop.errors import Problem, TokenError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

STATUS = {
    "token": HTTPStatus.UNAUTHORIZED,
    "role": HTTPStatus.FORBIDDEN,
    "forbidden_blob": HTTPStatus.FORBIDDEN,
    "unknown_graph": HTTPStatus.NOT_FOUND,
    "unknown_name": HTTPStatus.NOT_FOUND,
    "not_computed": HTTPStatus.CONFLICT,
    "graph_state": HTTPStatus.CONFLICT,
    "graph_failed": HTTPStatus.CONFLICT,
    "graph_cancelled": HTTPStatus.CONFLICT,
    "storage_full": HTTPStatus.INSUFFICIENT_STORAGE,
    "quota": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "timeout": HTTPStatus.REQUEST_TIMEOUT,
    "unreachable": HTTPStatus.SERVICE_UNAVAILABLE,
    "error": HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""What HTTP calls our errors; all others are bad requests."""

CRASHED = Problem(code="error", message="the coordinator failed on this request", hint="its log says why")


def status_of(problem: Problem) -> int:
    return STATUS.get(problem.code, HTTPStatus.BAD_REQUEST)


def bearer(headers: Iterable[Header], *roles: str) -> str:
    """The token in the `Authorization` header, which should be of one of these roles. Raises `TokenError` where there is
    none."""
    value = dict(headers).get(b"authorization", b"").decode("latin-1")
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenError(
            f"this needs a token of role {' or '.join(roles)}", expected="Authorization: Bearer TOKEN",
            received=scheme or "no such header",
            hint=f"who runs the coordinator makes one: ravsock token create --role {roles[0]} --name NAME",
        )  # fmt: skip
    return token.strip()


async def respond(send: Send, status: int, body: bytes = b"", headers: Iterable[Header] = ()) -> None:
    """A whole response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": int(status), "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, problem: Problem, status: int | None = None) -> None:
    """A response that carries a Problem."""
    body = msgspec.json.encode(problem)
    await respond(send, status or status_of(problem), body, [(b"content-type", b"application/json")])
