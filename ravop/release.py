"""Which release of Ravenverse this is."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def software() -> str:
    """Name and release, such as `ravenverse 0.1.0`."""
    try:
        return f"ravenverse {version('ravenverse')}"
    except PackageNotFoundError:  # run from a source tree
        return "ravenverse"
