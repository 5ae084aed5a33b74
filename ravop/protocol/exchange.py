"""The frames that the ranks of a gang exchange, through the coordinator, over a websocket at `PATH`.

A rank connects with its bearer token and the query `task`, `attempt` and `rank`. When all ranks of the gang are there the
coordinator sends each the text `GO`; from then on every binary message is one frame. To the coordinator a frame
names the ranks it is for, as a set of bits; from it, the one rank that it is of. The coordinator looks at nothing
else and keeps nothing. A message of a rank is cut into frames of at most `PIECE` bytes; `last` ends it. Frames of
one rank arrive in their order.

Closing: code `DONE` when a rank has all it needs, `GONE` when the gang is broken off. Pure.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ravop.errors import MessageError

PATH = "/exchange"
GO = "go"
DONE, GONE = 1000, 4001
PIECE = 128 * 1024
"""Bytes of payload in one frame: small ones are passed on while the rest of the message is on its way."""
HEADER = struct.Struct(">QQ?")


class Frame(NamedTuple):
    """A piece of message number `sequence` of its sender."""

    ranks: int
    """To the coordinator: a bit for each rank that gets it. From it: the number of the rank that sent it."""
    sequence: int
    last: bool
    payload: bytes | memoryview


def pack_header(ranks: int, sequence: int, last: bool) -> bytes:
    return HEADER.pack(ranks, sequence, last)


def unpack(data: bytes) -> Frame:
    """Raises `MessageError` for anything that is no frame."""
    if not HEADER.size <= len(data) <= HEADER.size + PIECE:
        raise MessageError(
            "not a frame", expected=f"at most {PIECE:,} bytes after a header", received=f"{len(data):,} bytes"
        )
    ranks, sequence, last = HEADER.unpack_from(data)
    return Frame(ranks, sequence, last, memoryview(data)[HEADER.size :])
