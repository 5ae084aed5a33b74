"""What a coordinator keeps, and where: its data folder with its lock, the database and the blobs wherever they are; and the
files by which a script finds an embedded one.

Used by `run` and by the command line.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import filelock

from ravop.errors import DataFolderError, RavenError, TokenError
from ravsock.store import BlobStore, Store
from ravsock.store.places import open_blobs

EMBEDDED = "embedded.json"
EMBEDDED_TOKENS = "embedded-tokens.json"


@contextmanager
def data_folder(
    data: Path, database_url: str | None = None, blobs: str | None = None, *, presign: bool = True,
    public_endpoint: str | None = None,
) -> Iterator[tuple[Store, BlobStore]]:  # fmt: skip
    """Store and blobs of a folder, made if needed, or elsewhere; with SQLite no other coordinator may use it meanwhile."""
    make_folder(data)
    with ExitStack() as stack:
        try:
            store_of_blobs = open_blobs(blobs, data, presign=presign, public_endpoint=public_endpoint)
            if database_url is None:
                stack.enter_context(filelock.FileLock(data / "coordinator.lock", timeout=0))
        except filelock.Timeout as error:
            raise DataFolderError(
                "another coordinator uses this data folder",
                received=data,
                hint="stop it, or give another folder with --data",
            ) from error
        except RavenError:  # some of ours are OSErrors too
            raise
        except OSError as error:
            raise DataFolderError(
                "the folder cannot be used",
                received=error,
                hint="give another folder with --data" + (", or --blobs" if blobs else ""),
            ) from error
        yield stack.enter_context(closing(open_store(data, database_url, store_of_blobs))), store_of_blobs


def make_folder(data: Path) -> None:
    """The data folder, if it is not there. Raises `DataFolderError`."""
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataFolderError(
            "the data folder cannot be used", received=error, hint="give another folder with --data"
        ) from error


def coordinator_runs(data: Path) -> bool:
    """Whether one uses this folder's database."""
    lock = data / "coordinator.lock"
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True


def open_store(data: Path, database_url: str | None, blobs: BlobStore | None = None) -> Store:
    """The database of a data folder, or the one at `database_url`. Raises `ArgumentError` for a bad URL."""
    url = database_url or f"sqlite:///{(data / 'ravenverse.db').as_posix()}"
    return Store(url, None if blobs is None else blobs.head)


def announce_embedded(store: Store, data: Path, url: str) -> None:
    """Let scripts find the coordinator at `url`, with tokens for it."""
    tokens = embedded_tokens(store, data)
    _write_private(data / EMBEDDED, {"url": url, "pid": os.getpid(), **tokens})


def withdraw_embedded(data: Path) -> None:
    """It has ended."""
    (data / EMBEDDED).unlink(missing_ok=True)


def embedded_tokens(store: Store, data: Path) -> dict[str, str]:
    """The requester's and the provider's token of an embedded coordinator: the same each time, so that later
    scripts find their graphs."""
    path = data / EMBEDDED_TOKENS
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        tokens = {role: str(found[f"{role}_token"]) for role in ("requester", "provider")}
        for token in tokens.values():
            store.authenticate(token)
    except (FileNotFoundError, ValueError, KeyError, TypeError, TokenError):
        tokens = {
            role: store.create_token(role, "embedded", time.time()) for role in ("requester", "provider")
        }
        _write_private(path, {f"{role}_token": token for role, token in tokens.items()})
    return {f"{role}_token": token for role, token in tokens.items()}


def _write_private(path: Path, content: dict[str, object] | dict[str, str]) -> None:
    """Readable by this user alone, and never half written."""
    partial = path.with_suffix(".part")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file)
    partial.replace(path)
