"""Limits of a process: memory, priority, core dumps, environment. Used by the worker on itself, by the
sandbox to watch it.

Where the system cannot set a limit (Windows; memory on macOS), the sandbox's watch over the memory remains.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import psutil

from ravop.environment import without_secrets

try:
    import resource as _resource
except ImportError:  # Windows
    _resource = None  # type: ignore[assignment]
resource: ModuleType | None = _resource

NICENESS = 10
"""The worker yields to whatever else the volunteer does."""
THREAD_ALLOWANCE = 128 * 1024 * 1024
"""Bytes of address space for the stacks of each engine thread of each cached session, which count as data on
Linux.
"""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def clean_environment(environment: Mapping[str, str], threads: int) -> dict[str, str]:
    """What of `environment` a worker gets, and where it finds this package."""
    root = str(Path(__file__).resolve().parents[1])
    return (
        without_secrets(environment)
        | dict.fromkeys(_THREAD_VARIABLES, str(threads))
        | {"PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}
    )


def lower_priority() -> None:
    """Make this process give way to others."""
    if sys.platform == "win32":
        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        os.nice(NICENESS)


def forbid_core_dumps() -> None:
    """A crash must not write a requester's data to the volunteer's disk."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_memory(extra: int, threads: int) -> None:
    """Let this process use `extra` bytes more than it uses now, and stacks of `threads`, where the system can
    enforce that.

    Linux counts private writable memory (RLIMIT_DATA); address space (RLIMIT_AS) would count mapped input
    files too.
    """
    if resource is None or not sys.platform.startswith("linux"):
        return
    limit = psutil.Process().memory_info().data + extra + threads * THREAD_ALLOWANCE
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def private_memory(process: psutil.Process) -> int:
    """Bytes of memory in use by the process alone, without mapped files where the system tells; 0 when it is
    gone.
    """
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0
    return int(memory.rss - getattr(memory, "shared", 0))
