"""HTTP as blobs need it: sessions with time limits, refusals as typed errors, and bounded retries. Used by this package
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
import msgspec
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential
from yarl import URL

from ravop.errors import Problem, UnreachableError, error_from_problem
from ravop.transport.causes import cause_of

CHUNK = 256 * 1024
ATTEMPTS = 4
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 2.0
MAX_PROBLEM = 100_000

T = TypeVar("T")


class TryAgainError(Exception):
    """The other side answered that it cannot serve this now."""


class StoreTroubleError(TryAgainError):
    """It is the store of blobs that does not serve this, not the coordinator."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


TRANSIENT = (aiohttp.ClientError, TimeoutError, TryAgainError)
"""What may go well the next time."""


def new_session(token: str | None = None) -> aiohttp.ClientSession:
    """Connections to the coordinator with a token, or without one to anybody else."""
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {token}"} if token is not None else {},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS),
        read_bufsize=4 * CHUNK,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def retried(attempt: Callable[[], Coroutine[Any, Any, T]], url: str) -> T:
    """The attempt's result; broken connections and 5xx are tried again with growing pauses, a few times."""
    retrying = AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=PAUSE_SECONDS, max=MAX_PAUSE_SECONDS),
        retry=retry_if_exception_type(TRANSIENT),
        reraise=True,
    )

    async def once() -> T:  # tenacity awaits what is known to be a coroutine function, and nothing else
        return await attempt()

    try:
        return await retrying(once)
    except TRANSIENT as error:
        raise given_up(error, url) from error


def given_up(error: BaseException, url: str) -> UnreachableError:
    """What is raised after the last attempt. `url`: of the coordinator's blobs."""
    where = f"a coordinator at {url.removesuffix('/blobs/')}"
    if isinstance(error, StoreTroubleError):
        where = f"the blob store at {error.host}, where the coordinator sends its clients"
    cause = cause_of(error, url)
    return UnreachableError(
        f"a blob could not be transferred in {ATTEMPTS} attempts",
        expected=where,
        received=cause.received,
        hint=cause.hint or "check the network, then try again",
    )


@contextmanager
def at_store(url: URL) -> Iterator[None]:
    """What comes to nothing in this block does so at the store of `url`."""
    try:
        yield
    except TRANSIENT as error:
        raise StoreTroubleError(url.authority) from error


async def check(response: aiohttp.ClientResponse) -> None:
    """Raises the typed error in a refusal of the coordinator."""
    if response.status < HTTPStatus.BAD_REQUEST:
        return
    body = await response.content.read(MAX_PROBLEM)
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except msgspec.MsgspecError:
        problem = _BARE.get(
            response.status, Problem(code="message", message=f"HTTP {response.status} {response.reason}")
        )
    if (
        response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        and response.status != HTTPStatus.INSUFFICIENT_STORAGE
    ):
        raise TryAgainError(problem.text())
    raise error_from_problem(problem)


_BARE: dict[int, Problem] = {
    HTTPStatus.NOT_FOUND: Problem(code="blob", message="the coordinator does not have this blob"),
    HTTPStatus.UNAUTHORIZED: Problem(code="token", message="the coordinator refused the token"),
    HTTPStatus.FORBIDDEN: Problem(code="forbidden_blob", message="this token may not read this blob"),
}
"""What a status means that came without a Problem: HEAD has no body, and a proxy has its own pages."""
