"""Judging a task when it arrives."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec
import numpy as np

from ravop.errors import InvalidModelError, MessageError, OutOfMemoryError, StorageFullError
from ravop.protocol.messages import Earlier, OutputSpec, Task, blobs_needed
from ravop.protocol.parts import DTYPE_NAMES, check_part, largest_messages

MAX_PORTS = 20_000
"""Inputs, and outputs, of one subgraph."""
MAX_MODEL = 256 * 1024 * 1024
"""Bytes of a subgraph's model: what the worker's check takes at most."""
_NODE = re.compile(r"n(\d{1,9})")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What this provider offers for one task."""

    memory: int
    """Bytes one subgraph may use."""
    disk: int
    """Bytes of the blob cache."""


def check_task(task: Task, limits: Limits, earlier: Sequence[Task] = ()) -> None:
    """Raises `MessageError` for a task that makes no sense after the `earlier` ones of its batch,
    `InvalidModelError`, `OutOfMemoryError` or `StorageFullError` for one that does not fit here.
    """
    _check_names("input", [given.name for given in task.inputs])
    _check_names("output", [spec.name for spec in task.outputs])
    for given in task.inputs:
        if isinstance(given.ref, Earlier):
            _check_earlier(given.ref, earlier)
    for size in task.sizes.values():
        check_model_size(size)
    if not (math.isfinite(task.flops) and task.flops >= 0 and math.isfinite(task.lease_seconds)):
        raise MessageError(
            "a task's figures must be finite",
            expected="flops and lease of 0 or more",
            received=f"{task.flops} FLOPs, {task.lease_seconds} s",
        )
    needed = max(task.peak_memory, sum(_bytes_of(spec) for spec in task.outputs))
    if earlier and (task.part is not None or earlier[0].part is not None):
        raise MessageError("a task with a part comes alone", received=f"{len(earlier)} tasks before it")
    if task.part is not None:
        check_part(task.part, [given.name for given in task.inputs], [spec.name for spec in task.outputs])
        sent, taken = largest_messages(task.part)
        needed = max(needed, sent + sum(taken.values()))
    if needed > limits.memory:
        raise OutOfMemoryError(
            "the subgraph needs more memory than this provider offers",
            expected=f"at most {limits.memory:,} bytes",
            received=f"{needed:,} bytes",
            hint="use smaller batches, or a provider started with a larger --max-memory",
        )
    sizes = {blob.sha: blob.size for blob in blobs_needed(task)}
    if sum(sizes.values()) > limits.disk:
        raise StorageFullError(
            "the inputs are larger than this provider's cache",
            expected=f"at most {limits.disk:,} bytes",
            received=f"{sum(sizes.values()):,} bytes",
            hint="use a provider started with a larger --max-cache",
        )


def check_model_size(size: int) -> None:
    """Raises `InvalidModelError`."""
    if size > MAX_MODEL:
        raise InvalidModelError(
            "the subgraph is too large", expected=f"at most {MAX_MODEL:,} bytes", received=f"{size:,} bytes"
        )


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


def _check_earlier(ref: Earlier, earlier: Sequence[Task]) -> None:
    if ref.task >= len(earlier) or all(spec.name != ref.output for spec in earlier[ref.task].outputs):
        raise MessageError(
            "a task takes an input from a task that does not come before it, or does not give it",
            expected=f"one of the {len(earlier)} tasks before it in the batch",
            received=f"output {ref.output!r} of task {ref.task}",
        )


def _bytes_of(spec: OutputSpec) -> int:
    """Bytes of the output, as far as its shape is known. Raises `MessageError` for a shape that cannot be."""
    if spec.dtype not in DTYPE_NAMES or any(size is not None and size < 0 for size in spec.shape):
        raise MessageError(
            f"output {spec.name!r} has no possible dtype and shape",
            expected=", ".join(sorted(DTYPE_NAMES)),
            received=f"{spec.dtype} {spec.shape}",
        )
    return math.prod(size for size in spec.shape if size is not None) * np.dtype(spec.dtype).itemsize
