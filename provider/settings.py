"""What a provider is told on the command line, as one value."""

from __future__ import annotations

import ipaddress
import platform
import re
from urllib.parse import urlsplit

import msgspec
import psutil

from ravop.sizes import parse_size

DEFAULT_URL = "http://127.0.0.1:9999"
DEFAULT_MEMORY = "4GiB"
DEFAULT_CACHE = "4GiB"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")
MAX_NAME = 80
MAX_SLOTS = 1024
"""What the protocol lets one provider have."""


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which cluster is lent, instead of this machine."""

    engine: str
    """One of `provider.executors.ENGINES`."""
    address: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How this provider works. Sizes in bytes."""

    url: str
    token: str
    name: str
    slots: int = 1
    """Of a cluster, at most."""
    threads: int = 1
    max_memory: int
    """Of one slot; 0, of a cluster: what its workers have."""
    max_cache: int
    """Of a cluster, on each worker."""
    graph: str | None = None
    with_stdin: bool = False
    cluster: ClusterSettings | None = None


def default_memory(slots: int) -> int:
    """4 GiB a slot, or less where all slots together would take more than half of the machine's memory."""
    total: int = psutil.virtual_memory().total
    return min(parse_size(DEFAULT_MEMORY), total // (2 * slots))


def default_name() -> str:
    """The machine's name, as far as it fits into a file name."""
    return clean_name(platform.node()) or "provider"


def clean_name(name: str) -> str:
    """`name` with what does not belong into a file name replaced."""
    return _NOT_IN_NAMES.sub("-", name).strip("-.")[:MAX_NAME]


def sends_in_the_clear(url: str) -> bool:
    """Whether token and data would cross a network unencrypted."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname in (None, "localhost"):
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True
