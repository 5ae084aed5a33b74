"""A coordinator as a process: port, signals, and the life of an embedded one. What it keeps is in `data`.

Called by the command line alone. Standard output gets one line, the URL, when requests are answered; logs go
to standard error.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import logging
import os
import signal
import socket
import ssl
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from ravop.errors import ArgumentError, PortTakenError
from ravop.protocol.messages import MAX_MESSAGE
from ravsock.server.connection import Connection
from ravsock.server.coordinator import Coordinator
from ravsock.server.data import announce_embedded, data_folder, withdraw_embedded
from ravsock.server.descriptors import Room, raise_limit
from ravsock.server.wires import check_redis
from ravsock.store import BlobStore, Store

DRAIN_SECONDS = 5.0
"""Until load balancers have noticed that a coordinator wants no new connections."""
STOP_SECONDS = 5
"""Time for requests in progress when the coordinator stops."""
YOUNG_OBJECTS = 50_000
"""New objects after which Python looks for cycles. Far more than its default: plans are many objects that stay, and a
batch makes thousands that go without it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    host: str
    port: int
    data: Path
    database_url: str | None = None
    embedded: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    quota: int | None = None
    metrics_public: bool = False
    advertise: str | None = None
    redis_url: str | None = None
    drain_seconds: float | None = None
    blobs: str | None = None
    blob_presign: bool = True
    blobs_public_endpoint: str | None = None


def serve(options: Options) -> None:
    """Run until SIGTERM, SIGINT, or (embedded) until nobody needs it any more.

    Raises `PortTakenError`, `DataFolderError`, `VersionError` for a database newer than this program, or older and in use,
    `ArgumentError` for a host, a URL or a certificate that is none.
    """
    _check_address(options.advertise)
    _check_certificate(options.tls_certificate, options.tls_key)
    if options.redis_url is not None:
        check_redis(options.redis_url, options.database_url)
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    with data_folder(
        options.data, options.database_url, options.blobs, presign=options.blob_presign,
        public_endpoint=options.blobs_public_endpoint,
    ) as (store, blobs):  # fmt: skip
        store.quota = options.quota
        # before the tables are made: what cannot be served leaves no database behind
        with closing(listen(options.host, options.port)) as listening:
            _warn_if_open(options)
            store.migrate()
            with asyncio.Runner(loop_factory=_fast_loop()) as runner:
                runner.run(_Process(options, store, blobs, listening).run())


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, which doubles the speed of blobs, where there is one: not on Windows."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to us and says when it answers."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


class _Process:
    def __init__(self, options: Options, store: Store, blobs: BlobStore, listening: socket.socket) -> None:
        self._options = options
        self._store = store
        self._blobs = blobs
        self._listening = listening
        self._abandoned = False
        self._draining: asyncio.Task[None] | None = None

    async def run(self) -> None:
        options = self._options
        self._coordinator = Coordinator(
            self._store, self._blobs, self._end_if_unneeded,
            address=(options.advertise or self._url(reachable=True)).rstrip("/"), redis_url=options.redis_url,
            on_outdated=self._stop, metrics_public=options.metrics_public,
        )  # fmt: skip
        room = Room(raise_limit(), partial(self._coordinator.health.note, "connections"))
        config = uvicorn.Config(
            self._coordinator.app,
            http=partial(Connection, room=room),  # type: ignore[arg-type]  # it is only called
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE + 1024,
            ws_per_message_deflate=False,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=STOP_SECONDS,
            ssl_certfile=options.tls_certificate,
            ssl_keyfile=options.tls_key,
        )
        self._server = _Server(config, self._announce)
        self._handle_signals()
        self._coordinator.start()
        try:
            await self._server.serve(sockets=[self._listening])
        finally:
            await self._coordinator.stop()
            if options.embedded:
                withdraw_embedded(options.data)
        log.info("stopped")

    def _url(self, *, reachable: bool = False) -> str:
        """Where it listens; `reachable`: by the name of this machine, where that is at every address."""
        host, port = self._listening.getsockname()[:2]
        if reachable and ipaddress.ip_address(host).is_unspecified:
            host = socket.gethostname()
        scheme = "https" if self._options.tls_certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def _announce(self) -> None:
        url = self._url()
        if self._options.embedded:
            announce_embedded(self._store, self._options.data, url)
            self._watch_stdin()
        print(url, flush=True)

    def _stop(self) -> None:
        """In order the first time, at once the second time."""
        if self._draining is None and self._drain_seconds > 0:
            self._draining = asyncio.ensure_future(self._drain())
        else:
            self._finish()

    @property
    def _drain_seconds(self) -> float:
        """Where no other coordinator could take over, there is nothing to wait for."""
        if self._options.embedded or self._store.is_sqlite:
            return 0.0
        return DRAIN_SECONDS if self._options.drain_seconds is None else self._options.drain_seconds

    async def _drain(self) -> None:
        log.info(
            "draining: new connections should go to other coordinators; this one ends in %g s",
            self._drain_seconds,
        )
        await self._coordinator.drain()
        await asyncio.sleep(self._drain_seconds)
        self._finish()

    def _finish(self) -> None:
        log.info("stopping")
        self._coordinator.prepare_to_stop()
        self._server.should_exit = True

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        names = [name for name in ("SIGTERM", "SIGINT", "SIGBREAK") if hasattr(signal, name)]
        for number in (getattr(signal, name) for name in names):
            try:
                loop.add_signal_handler(number, self._stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._stop))

    def _watch_stdin(self) -> None:
        """Whoever started this holds the other end of standard input, if that is a pipe; its end is theirs."""
        if sys.stdin is None or not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
            return
        loop, handle = asyncio.get_running_loop(), sys.stdin.fileno()

        def wait() -> None:
            while os.read(handle, 4096):
                pass
            loop.call_soon_threadsafe(self._abandon)

        threading.Thread(target=wait, name="stdin", daemon=True).start()

    def _abandon(self) -> None:
        self._abandoned = True
        self._end_if_unneeded()

    def _end_if_unneeded(self) -> None:
        if self._abandoned and not self._coordinator.requesters:
            self._finish()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ArgumentError` for no address of this machine, `PortTakenError` for one in use."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address, family=family, backlog=2048)
    except (socket.gaierror, OverflowError) as error:
        raise ArgumentError("not an address to listen on", received=f"{host}:{port} ({error})") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise ArgumentError(
                "not an address of this machine", expected="127.0.0.1, 0.0.0.0 (all of them), or another that it has",
                received=host, hint="correct --host",
            ) from error  # fmt: skip
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise PortTakenError(
            f"cannot listen on {host}:{port}",
            expected="a free port of this machine",
            received=error.strerror,
            hint="stop what uses it, or choose another with --port (0: any free one)",
        ) from error
    # asyncio sets this on connections only where the socket names its protocol, which create_server leaves out; without
    # it every small answer waits 40 ms for the other side's delayed acknowledgement
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _check_address(url: str | None) -> None:
    parts = urlsplit(url or "http://unused")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ArgumentError(
            "not an address where other coordinators reach this one", expected="http://HOST:PORT, without a path",
            received=url, hint="correct --advertise",
        )  # fmt: skip


def _check_certificate(certificate: Path | None, key: Path | None) -> None:
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise ArgumentError(
            "TLS needs a certificate and its key", expected="--tls-certificate FILE --tls-key FILE",
            received=f"only {certificate or key}", hint="give both, or neither",
        )  # fmt: skip
    try:
        # without a word for the password, OpenSSL would ask for it on the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise ArgumentError(
            "the certificate and the key cannot be used",
            expected="PEM files: the certificate with those of its authorities in --tls-certificate, its key, without a "
            "password, in --tls-key",
            received=f"{certificate} and {key}: {error}", hint="look whether they are swapped, or of different pairs",
        ) from error  # fmt: skip


def _warn_if_open(options: Options) -> None:
    try:
        loopback = options.host == "localhost" or ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and options.tls_certificate is None:
        log.warning(
            "LISTENING ON %s WITHOUT TLS: tokens and data can be read and changed on the way. Use --tls-certificate and "
            "--tls-key, or a proxy that speaks TLS.",
            options.host,
        )
