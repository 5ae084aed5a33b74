"""`Mailbox`: a mapped file through which the daemon and its worker pass the messages that ranks exchange.

One message fits in for the others, and one of each of them. That something was put in or taken out, each tells the other
in its own words (`provider.wire`): here are only the bytes. A pipe would cost ten times as much for large messages.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path

from ravop.protocol.parts import Part, largest_messages

PAGE = 4096
_BLOCK = 1024 * 1024


class Mailbox:
    """`outgoing` and, by rank, `incoming`: as large as the part's largest messages. `close` it at the end.

    Args:
        create: make the file, else open what the other end has made for the same part.

    Raises `OSError` where the file cannot be made or is too small, and the disk's errors.
    """

    def __init__(self, path: Path, part: Part, *, create: bool = False) -> None:
        given, taken = largest_messages(part)
        sizes = [given, *taken.values()]
        total = max(PAGE, sum(map(_whole_pages, sizes)))
        if create:
            _fill(path, total)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), total)
        self._view = memoryview(self._map)
        self.outgoing, *incoming = _cut(self._view, sizes)
        self.incoming = dict(zip(taken, incoming, strict=True))

    def put(self, pieces: Sequence[memoryview]) -> int:
        """Put a message for the others in. → its bytes."""
        end = 0
        for piece in pieces:
            start, end = end, end + len(piece)
            self.outgoing[start:end] = piece
        return end

    def close(self) -> None:
        for view in (self.outgoing, *self.incoming.values(), self._view):
            view.release()
        self._map.close()


def _cut(view: memoryview, sizes: Sequence[int]) -> Iterator[memoryview]:
    start = 0
    for size in sizes:
        yield view[start : start + size]
        start += _whole_pages(size)


def _whole_pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _fill(path: Path, size: int) -> None:
    """Zeros up to the end, instead of a hole: a full disk is told now, and not by a signal when it is written."""
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK):
            file.write(bytes(min(_BLOCK, size - start)))
