"""The provider's state folder: who it is, that it runs, how fast it is. Survives restarts.

`RAVENVERSE_HOME/provider-NAME`, or below the user's state folder. Files that hold secrets are readable by the
user alone. Everything here blocks only for small files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import platformdirs
from filelock import FileLock, Timeout

from provider.core.exits import MEANING, Exit
from provider.wire import Measured
from ravop.errors import AlreadyRunningError

HOME = "RAVENVERSE_HOME"
PREFIX = "provider-"
T = TypeVar("T")


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """Where the running daemon listens for `provider status` and `provider stop`."""

    port: int
    secret: str
    pid: int


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement, and what it is true of."""

    engine: str
    threads: int
    measured: Measured


def root(environment: Mapping[str, str]) -> Path:
    """The folder that holds the state folders of all providers of this user."""
    return Path(environment.get(HOME) or platformdirs.user_state_dir("ravenverse", appauthor=False))


def names(folder: Path) -> list[str]:
    """Names of the providers that have a state folder in `folder`."""
    return sorted(path.name.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*") if path.is_dir())


class Home:
    """The state folder of the provider called `name`, in `folder`; with another `prefix`, of something else."""

    def __init__(self, folder: Path, name: str, prefix: str = PREFIX) -> None:
        self.name = name
        self.folder = folder / f"{prefix}{name}"
        self.cache = self.folder / "cache"
        self._control = self.folder / "control.json"
        self._speed = self.folder / "speed.json"
        self._id = self.folder / "id"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one provider of this name. Raises `AlreadyRunningError` while another is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            control = self.control()
            raise AlreadyRunningError(
                MEANING[Exit.RUNNING],
                expected=f"no other provider called {self.name!r}",
                received=f"one with process id {control.pid}" if control else "one that is just starting",
                hint=f"`provider stop --name {self.name}`, or choose another --name",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def slot(self, number: int) -> Path:
        """Folder of a slot's worker."""
        return self.folder / f"slot-{number}"

    def provider_id(self, token: str) -> str:
        """The same at every start with this token; another token is another provider to a coordinator."""
        return hashlib.sha256(f"{self._installation()} {token}".encode()).hexdigest()[:32]

    def _installation(self) -> str:
        """Random text, made once and kept."""
        try:
            return self._id.read_text(encoding="utf-8")
        except FileNotFoundError:
            write_private(self._id, uuid.uuid4().hex.encode())
            return self._id.read_text(encoding="utf-8")

    def speed(self, engine: str, threads: int) -> Measured | None:
        """What was measured earlier with this engine and number of threads."""
        speed = _read(self._speed, Speed)
        return (
            speed.measured
            if speed is not None and (speed.engine, speed.threads) == (engine, threads)
            else None
        )

    def keep_speed(self, engine: str, threads: int, measured: Measured) -> None:
        write_private(
            self._speed, msgspec.json.encode(Speed(engine=engine, threads=threads, measured=measured))
        )

    def control(self) -> Control | None:
        """Where the daemon listens; None when it does not run, or was killed before it could say."""
        return _read(self._control, Control)

    @contextlib.contextmanager
    def announce(self, control: Control) -> Iterator[None]:
        """Tell the user's other processes where the daemon listens, as long as it does."""
        write_private(self._control, msgspec.json.encode(control))
        try:
            yield
        finally:
            self._control.unlink(missing_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only this user can read (where the system has such rights), all of it or nothing."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    new.replace(path)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
