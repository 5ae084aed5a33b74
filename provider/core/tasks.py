"""Judging a task when it arrives, and guessing how long it takes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec
import numpy as np

from ravop.errors import MessageError, OutOfMemoryError, StorageFullError
from ravop.protocol.messages import OutputSpec, Task
from ravop.protocol.parts import check_part, largest_messages
from ravop.protocol.tensors import DTYPES, blobs_of

MAX_PORTS = 20_000
"""Inputs, and outputs, of one subgraph."""
_DTYPE_NAMES = frozenset(str(dtype) for dtype in DTYPES)
_NODE = re.compile(r"n(\d{1,9})")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What this provider offers for one task."""

    memory: int
    """Bytes one subgraph may use."""
    disk: int
    """Bytes of the blob cache."""


def check_task(task: Task, limits: Limits) -> None:
    """Raises `MessageError` for a task that makes no sense, `OutOfMemoryError` or `StorageFullError` for one
    that does not fit here.
    """
    _check_names("input", [given.name for given in task.inputs])
    _check_names("output", [spec.name for spec in task.outputs])
    if not (math.isfinite(task.flops) and task.flops >= 0 and math.isfinite(task.lease_seconds)):
        raise MessageError(
            "a task's figures must be finite",
            expected="flops and lease of 0 or more",
            received=f"{task.flops} FLOPs, {task.lease_seconds} s",
        )
    needed = max(task.peak_memory, sum(_bytes_of(spec) for spec in task.outputs))
    if task.part is not None:
        check_part(task.part, [given.name for given in task.inputs], [spec.name for spec in task.outputs])
        given, taken = largest_messages(task.part)
        needed = max(needed, given + sum(taken.values()))
    if needed > limits.memory:
        raise OutOfMemoryError(
            "the subgraph needs more memory than this provider offers",
            expected=f"at most {limits.memory:,} bytes",
            received=f"{needed:,} bytes",
            hint="use smaller batches, or a provider started with a larger --max-memory",
        )
    sizes = {blob.sha: blob.size for given in task.inputs for blob in blobs_of(given.ref)}
    if sum(sizes.values()) > limits.disk:
        raise StorageFullError(
            "the inputs are larger than this provider's cache",
            expected=f"at most {limits.disk:,} bytes",
            received=f"{sum(sizes.values()):,} bytes",
            hint="use a provider started with a larger --max-cache",
        )


def expected_seconds(task: Task, pace: float) -> float:
    """A guess how long computing takes, at `pace` seconds per FLOP."""
    return task.flops * pace


def node_index(op: str) -> int | None:
    """Index of a subgraph's node from its canonical name, `n17`; None for any other text."""
    match = _NODE.fullmatch(op)
    return int(match[1]) if match else None


def _check_names(kind: str, names: Sequence[str]) -> None:
    if len(names) > MAX_PORTS or len(set(names)) != len(names):
        raise MessageError(
            f"a task's {kind}s cannot be told apart, or are too many",
            expected=f"at most {MAX_PORTS} different names",
            received=f"{len(names)} names, {len(set(names))} of them different",
        )


def _bytes_of(spec: OutputSpec) -> int:
    """Bytes of the output, as far as its shape is known. Raises `MessageError` for a shape that cannot be."""
    if spec.dtype not in _DTYPE_NAMES or any(size is not None and size < 0 for size in spec.shape):
        raise MessageError(
            f"output {spec.name!r} has no possible dtype and shape",
            expected=", ".join(sorted(_DTYPE_NAMES)),
            received=f"{spec.dtype} {spec.shape}",
        )
    return math.prod(size for size in spec.shape if size is not None) * np.dtype(spec.dtype).itemsize
