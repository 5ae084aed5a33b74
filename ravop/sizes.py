"""Numbers of bytes as people write them. Pure."""

from __future__ import annotations

import re

from ravop.errors import ArgumentError

_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([KMGT]I?)?B?\s*", re.IGNORECASE | re.ASCII)
MAX_SIZE = 2**63 - 1


def parse_size(text: str) -> int:
    """Bytes in `4GiB`, `500MB`, `1.5G` or `1000`. Raises `ArgumentError` for anything else."""
    match = _SIZE.fullmatch(text)
    size = int(float(match[1]) * _UNITS[(match[2] or "").upper()]) if match else 0
    if not 0 < size <= MAX_SIZE:
        raise ArgumentError(
            "this is not a size", expected="such as 4GiB, 500MB or 1000000", received=text[:80]
        )
    return size


def in_words(size: int) -> str:
    """As `1.5 GB` or `999 bytes`."""
    for unit, bytes in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes:
            return f"{size / bytes:.3g} {unit}"
    return f"{size} bytes"
