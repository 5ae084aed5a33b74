"""The manifest: all that a graph's ONNX model does not say.

Typed and versioned; it travels beside the model as MessagePack (`encode_manifest`, `decode_manifest`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from ravop.errors import MessageError, VersionError

MANIFEST_VERSION = 1
MAX_MANIFEST = 256 * 1024 * 1024
MAX_NAME = 400
"""Characters in the name of a persisted op."""
MAX_NOTES = 32
MAX_NOTE = 1000
"""Characters."""


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """A graph input and the blob that holds its value (`.npy` bytes)."""

    input: str
    sha: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Meta(ge=0)]


class Persisted(msgspec.Struct, frozen=True, kw_only=True):
    """A value the requester wants to fetch by name.

    With `axes = n > 0` it is a series: `name` holds n times `{}`, and stands for the elements of the value's n leading
    axes, the i-th counted from `first[i]`. `training_loss_epoch_{}_batch_{}` with axes 2 over a value of shape
    (epochs, batches) makes every batch's loss fetchable without listing them.
    """

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    value: str
    """Name of a graph output of the model."""
    axes: Annotated[int, Meta(ge=0, le=8)] = 0
    first: tuple[int, ...] = ()
    inner: bool = False
    """Kept by a library for itself, such as the weights of a model; lists show it last."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """See the module. Source lines are kept once, and nodes point to them by index."""

    version: int = MANIFEST_VERSION
    graph_id: str
    name: str
    algorithm: str = ""
    approach: str = "distributed"
    rules: dict[str, float | int | str | bool] = {}
    """Wishes to the planner: `unit_seconds` (how much work a subgraph should be worth; 0 cuts at every op)."""
    bindings: tuple[Binding, ...] = ()
    persisted: tuple[Persisted, ...] = ()
    metrics: dict[str, str] = {}
    """Progress display: label such as `loss` → name of a graph output, a scalar or a series of scalars."""
    sources: tuple[str, ...] = ()
    """The user's lines, `path:line: code`."""
    node_sources: dict[str, int] = {}
    """Node name → index into `sources`."""
    notes: Annotated[tuple[Annotated[str, Meta(max_length=MAX_NOTE)], ...], Meta(max_length=MAX_NOTES)] = ()
    """What the plan is shown with, such as how a library chose to spread its work."""


def encode_manifest(manifest: Manifest) -> bytes:
    return msgspec.msgpack.encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """Raises `MessageError` for malformed or oversized bytes, `VersionError` for another version."""
    if len(data) > MAX_MANIFEST:
        raise MessageError(
            "manifest too large", expected=f"at most {MAX_MANIFEST:,} bytes", received=f"{len(data):,} bytes"
        )
    try:
        manifest = msgspec.msgpack.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise MessageError("not a manifest", received=str(error)) from error
    if manifest.version != MANIFEST_VERSION:
        raise VersionError(
            "the manifest is of another version",
            expected=str(MANIFEST_VERSION),
            received=str(manifest.version),
            hint="install the same release of ravenverse on both sides",
        )
    return manifest
