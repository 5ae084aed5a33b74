"""The embedded cluster: a coordinator and a few providers as processes of this machine, for one data folder.

They are started as `python -m ravsock` and `python -m provider` and never imported. The coordinator writes
the endpoint file of the folder when it listens; a second script finds it there and joins. A lock file makes
two scripts that start at the same moment start one cluster. The processes hold the reading ends of pipes
whose writing ends are this process's: when it ends, however it ends, they see the end of the pipe and end
too, unless they were asked to stay.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ravop.client.display import say
from ravop.client.endpoint import ENDPOINT_FILE, HOME, TOKEN, URL, Endpoint, read_endpoint
from ravop.client.session import Session
from ravop.errors import UnreachableError, WaitTimeoutError
from ravop.protocol.messages import ListProviders, Providers

DEFAULT_PROVIDERS = 2
START_SECONDS = 60.0
"""For the coordinator to listen; the first start also creates the database."""
PROVIDER_SECONDS = 10.0
"""For the providers to connect; the first start also measures the machine."""
END_SECONDS = 10.0
MAX_STARTS = 3
POLL_SECONDS = 0.05
TAIL_LINES = 20
MAX_LOG = 1_000_000
"""Bytes of a log after which the next start begins a new one."""


@dataclass(frozen=True)
class Child:
    """A process of the cluster that this script started."""

    process: subprocess.Popen[bytes]
    log: Path

    def close_pipe(self) -> None:
        """Ask it to end."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def end(self, timeout: float) -> bool:
        """Ask it to end, and wait. → whether it has ended."""
        self.close_pipe()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True


class Cluster:
    """The embedded cluster of `folder`, started or joined. Use `start_or_join`."""

    def __init__(self, folder: Path, stay: bool) -> None:
        self.folder = folder
        self.stay = stay
        self._coordinator: Child | None = None
        self._providers: dict[str, Child] = {}
        self._starts: Counter[str] = Counter()

    @property
    def started(self) -> bool:
        """Whether this script started the coordinator, rather than joining one."""
        return self._coordinator is not None

    @property
    def ends(self) -> bool:
        """Whether the coordinator ends with this script."""
        return self.started and not self.stay

    def start_coordinator(self) -> Endpoint:
        """Raises `UnreachableError` with the end of its log when it does not come up. The caller holds the
        lock.
        """
        (self.folder / ENDPOINT_FILE).unlink(missing_ok=True)
        place = ["--host", "127.0.0.1", "--port", "0", "--data", str(self.folder)]
        child = self._coordinator = self._start("ravsock", ["serve", "--embedded", *place], "coordinator", {})
        deadline = time.monotonic() + START_SECONDS
        while (endpoint := read_endpoint(self.folder)) is None:
            if child.process.poll() is not None:
                raise self._did_not_start(f"it ended with exit code {child.process.returncode}")
            if time.monotonic() > deadline:
                child.process.kill()
                child.process.wait()
                raise self._did_not_start(f"it did not listen within {START_SECONDS:g} s")
            time.sleep(POLL_SECONDS)
        return endpoint

    def start_providers(self, count: int) -> None:
        """See that `count` providers of this folder run. One that runs already, started by another script,
        makes the second of its name end by itself.
        """
        endpoint = read_endpoint(self.folder)
        if endpoint is None:
            raise self._ended()
        secret = {URL: endpoint.url, TOKEN: endpoint.provider_token, HOME: str(self.folder)}
        pipe = [] if self.stay else ["--with-stdin"]
        for name in (f"embedded-{number}" for number in range(1, count + 1)):
            child = self._providers.get(name)
            if child is not None and child.process.poll() is None:
                continue
            self._starts[name] += 1
            if child is not None and self._starts[name] > MAX_STARTS:
                raise UnreachableError(
                    f"the embedded provider {name!r} ends as soon as it is started",
                    received=_tail(child.log),
                    hint=f"its log is {child.log}",
                )
            self._providers[name] = self._start("provider", ["start", "--name", name, *pipe], name, secret)

    def await_providers(self, session: Session) -> None:
        """Return when the providers started here are connected, so that a plan can count on them, or after a
        few seconds without.
        """
        told = False
        deadline = time.monotonic() + PROVIDER_SECONDS
        while time.monotonic() < deadline:
            running = {name for name, child in self._providers.items() if child.process.poll() is None}
            known = session.call(ListProviders(), Providers).providers
            if running <= {provider.name for provider in known if provider.connected}:
                return
            if not told:
                say("waiting for the providers to measure this machine and connect …")
                told = True
            time.sleep(POLL_SECONDS)

    def mend(self) -> None:
        """Start a provider when none is connected: those of a cluster that was joined end with the script
        that started them.
        """
        self.start_providers(1)

    def check(self) -> None:
        """Raises `UnreachableError` when the coordinator that this script started has ended: waiting for it
        is in vain.
        """
        if self._coordinator is not None and self._coordinator.process.poll() is not None:
            raise self._ended()

    def end(self) -> None:
        """End what this script started, unless asked to stay. A coordinator that another script uses goes
        on.
        """
        if self.stay:
            return
        for child in self._providers.values():
            child.close_pipe()
        for child in self._providers.values():
            if not child.end(END_SECONDS):
                child.process.kill()
                child.process.wait()
        if self._coordinator is not None:
            self._coordinator.end(END_SECONDS)

    def _start(self, module: str, arguments: list[str], name: str, environment: dict[str, str]) -> Child:
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        mode = "wb" if log.exists() and log.stat().st_size > MAX_LOG else "ab"
        with log.open(mode) as output:
            process = subprocess.Popen(
                # -P: a file called provider.py beside the user's script is not the provider
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL if self.stay else subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment() | environment,
                # Ctrl-C in the terminal is meant for the script, not for its cluster
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        return Child(process, log)

    def _did_not_start(self, reason: str) -> UnreachableError:
        return UnreachableError(
            "the embedded coordinator did not start",
            received=f"{reason}\n{_tail(self.log)}",
            hint=f"its log is {self.log}",
        )

    def _ended(self) -> UnreachableError:
        return UnreachableError(
            "the embedded coordinator has ended",
            received=_tail(self.log),
            hint=f"its log is {self.log}; call ravop.initialize() again: nothing acknowledged is lost",
        )

    @property
    def log(self) -> Path:
        """What the coordinator wrote."""
        return self.folder / "logs" / "coordinator.log"


def start_or_join(folder: Path, providers: int | None, stay: bool) -> tuple[Cluster, Session]:
    """The cluster of `folder`, running, and a connected session with it.

    One that runs is joined with the providers it has, and more are started where `providers` asks for more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder, stay)
    try:
        with locked(folder):
            session = join(folder, cluster)
            if session is None:
                say("starting the embedded cluster …")
                endpoint = cluster.start_coordinator()
                session = Session.open(endpoint.url, endpoint.requester_token, cluster)
            cluster.start_providers(providers or (DEFAULT_PROVIDERS if cluster.started else 0))
    except BaseException:
        cluster.end()
        raise
    return cluster, session


def join(folder: Path, cluster: Cluster | None = None) -> Session | None:
    """A session with the cluster that runs for `folder`; None when none does."""
    endpoint = read_endpoint(folder)
    if endpoint is None:
        return None
    try:
        return Session.open(endpoint.url, endpoint.requester_token, cluster)
    except UnreachableError:  # the file of a coordinator that was killed
        return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Held while processes of the folder's cluster are started, by one script at a time."""
    lock = FileLock(folder / "embedded.lock")
    try:
        lock.acquire(timeout=2 * START_SECONDS)
    except Timeout as error:
        raise WaitTimeoutError(
            "another script is starting the embedded cluster and does not finish",
            received=f"{lock.lock_file} is held",
            hint="end that script, then try again",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _environment() -> dict[str, str]:
    """This process's environment, such that the children find the same packages: from a checkout, too."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {name: value for name, value in os.environ.items() if name not in (URL, TOKEN)}
    if root != sysconfig.get_path("purelib"):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return environment


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "it left no log"
    return "\n".join(lines[-TAIL_LINES:]) or "it wrote nothing to its log"
