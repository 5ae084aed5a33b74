"""Open files, of which each connection is one: as many as the system grants, and some kept for the database and blobs.

A process that uses them up can open neither its database nor a blob, so new connections are refused before: see
`connection`.
"""

from __future__ import annotations

from collections.abc import Callable

KEPT, KEPT_SHARE = 100, 8
"""Open files that are no connections: so many at least, and one in so many."""
MOST_ANYWHERE = (1 << 20, 10_240)
"""What is asked for, at most: some systems grant less than they say, but not less than the last."""
AGAIN = 0.95
"""There is room again when so much of it is taken: a crowd at the door is told of once."""


def raise_limit() -> int | None:
    """Let this process open as many files as the system grants it. → how many; None where that has no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in MOST_ANYWHERE:
        wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            continue
        soft = wanted
        break
    return None if soft == resource.RLIM_INFINITY else int(soft)


class Room:
    """For how many connections there is room; `tell` is called with what is wrong when it is taken, and with nothing when
    there is some again."""

    def __init__(self, files: int | None, tell: Callable[[str], None]) -> None:
        kept = 0 if files is None else max(KEPT, files // KEPT_SHARE)
        self.places = None if files is None else max(1, files - kept)
        self._over = kept // 2
        self._tell = tell
        self._full = False

    def has(self, connections: int) -> bool:
        """Whether there is room for the last of so many."""
        if self.places is None:
            return True
        if connections > self.places:
            if not self._full:
                self._full = True
                self._tell(
                    f"{self.places:,} connections are open, and new ones are refused: let the coordinator open more "
                    "files (ulimit -n, LimitNOFILE), or start another coordinator on the same database"
                )
            return False
        if self._full and connections <= AGAIN * self.places:
            self._full = False
            self._tell("")
        return True

    def answers(self, connections: int) -> bool:
        """Whether the last of so many, for which there is no room, can at least be told so."""
        return self.places is None or connections <= self.places + self._over


UNBOUNDED = Room(None, lambda _: None)
