"""People's HTTP: the REST API below `/api`, written with Flask, over the same service as the sockets.

Flask's threads hand each call to the event loop and wait for it; nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from a2wsgi import WSGIMiddleware
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from ravop.errors import MessageError, RavenError, WaitTimeoutError
from ravsock.server.auth import Authenticator
from ravsock.server.health import Health
from ravsock.server.http import CRASHED, App, bearer, status_of
from ravsock.server.service import Service
from ravsock.store import Identity

CALL_SECONDS = 60.0
T = TypeVar("T")

log = logging.getLogger(__name__)


def rest_app(
    service: Service,
    auth: Authenticator,
    health: Health,
    draining: Callable[[], bool],
    loop: asyncio.AbstractEventLoop,
) -> App:
    """The API as an ASGI application for paths below `/api`. `draining`: whether the coordinator is about to end."""
    flask = Flask("ravsock", static_folder=None)
    api = _Api(service, auth, health, draining, loop)
    flask.get("/api/health")(api.health)
    flask.get("/api/ready")(api.ready)
    flask.get("/api/graphs")(api.graphs)
    flask.get("/api/graphs/<graph_id>")(api.graph)
    flask.get("/api/graphs/<graph_id>/results/<path:name>")(api.result)
    flask.post("/api/graphs/<graph_id>/cancel")(api.cancel)
    flask.get("/api/providers")(api.providers)
    flask.register_error_handler(RavenError, _refused)
    flask.register_error_handler(HTTPException, _http_error)
    flask.register_error_handler(Exception, _crashed)
    wsgi: Any = flask  # a2wsgi and Flask describe WSGI in types that do not know each other
    asgi: Any = WSGIMiddleware(wsgi)
    app: App = asgi
    return app


class _Api:
    """The views. Each gets its caller from the bearer token."""

    def __init__(
        self,
        service: Service,
        auth: Authenticator,
        health: Health,
        draining: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._service = service
        self._auth = auth
        self._health = health
        self._draining = draining
        self._loop = loop

    def health(self) -> Response:
        """For whoever starts it anew when it cannot work: no token needed. 503 while the database or the disk is in
        trouble; `degraded` while something else is, such as the store of blobs."""
        trouble = self._health.trouble
        if trouble:
            return _json({"status": "trouble", "problem": trouble}, HTTPStatus.SERVICE_UNAVAILABLE)
        notes = self._health.notes
        return _json({"status": "degraded", "notes": notes} if notes else {"status": "ok"})

    def ready(self) -> Response:
        """For load balancers: no token needed. 503 while it should get no new connections."""
        if self._draining():
            return _json({"status": "draining"}, HTTPStatus.SERVICE_UNAVAILABLE)
        return self.health()

    def graphs(self) -> Response:
        return _json(self._do(self._service.graphs(self._who())).graphs)

    def graph(self, graph_id: str) -> Response:
        return _json(self._do(self._service.graph(self._who(), graph_id)))

    def result(self, graph_id: str, name: str) -> Response:
        """A value as JSON: NaN and infinities are null."""
        array = self._do(self._service.value(self._who(), graph_id, name))
        return _json({"name": name, "dtype": str(array.dtype), "shape": array.shape, "value": array.tolist()})

    def cancel(self, graph_id: str) -> Response:
        who = self._who()
        self._do(self._service.cancel(who, graph_id))
        return _json(self._do(self._service.graph(who, graph_id)))

    def providers(self) -> Response:
        self._who()
        return _json(self._do(self._service.providers()).providers)

    def _who(self) -> Identity:
        header = request.headers.get("Authorization", "").encode()
        token = bearer([(b"authorization", header)], "requester")
        return self._do(self._auth.authenticate(token, "requester"))

    def _do(self, call: Coroutine[Any, Any, T]) -> T:
        """Run the call on the event loop and wait for it."""
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result(CALL_SECONDS)
        except TimeoutError as error:
            future.cancel()
            raise WaitTimeoutError(
                "the coordinator is busy", expected=f"an answer in {CALL_SECONDS:g} s"
            ) from error


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, mimetype="application/json")


def _refused(error: RavenError) -> Response:
    return _json(error.problem, status_of(error.problem))


def _http_error(error: HTTPException) -> Response:
    problem = MessageError(
        f"{error.name}: {request.path}", hint="see docs/architecture.md for the paths"
    ).problem
    return _json(problem, error.code or 500)


def _crashed(error: Exception) -> Response:
    log.error("a REST call failed", exc_info=error)
    return _json(CRASHED, status_of(CRASHED))
