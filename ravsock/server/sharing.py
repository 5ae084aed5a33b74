"""Which ready tasks a coordinator leaves to others, whose providers have nothing to do: else its own would keep one more each
waiting than they compute. Used by `dispatcher`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ravsock.server.elsewhere import Elsewhere
from ravsock.server.leases import Leases
from ravsock.store import ReadyTask

LEAVE_SECONDS = 0.05
"""So long tasks are left to others, who hear of them at once."""
PAUSE_SECONDS = 0.5
"""After that, so long none are: what the others did not take, they cannot take."""


class Sharing:
    """For the event loop's thread only."""

    def __init__(self, elsewhere: Elsewhere, leases: Leases) -> None:
        self.leaves = False
        """Whether some were left the last time."""
        self._elsewhere = elsewhere
        self._leases = leases
        self._until = -PAUSE_SECONDS

    async def mine(self, ready: Sequence[ReadyTask], idle: int) -> Sequence[ReadyTask]:
        """Of all that is ready, what those here may get, `idle` of whose slots have nothing to do: a fair share, the first
        time."""
        await self._elsewhere.refresh()
        now, there = time.monotonic(), self._elsewhere.idle
        count = -(-len(ready) * idle // (idle + there)) if there else len(ready)
        self.leaves = count < len(ready) and not self._until <= now < self._until + PAUSE_SECONDS
        if not self.leaves:
            return ready
        if now >= self._until:
            self._until = now + LEAVE_SECONDS
            self._leases.wake_after(LEAVE_SECONDS)
        return ready[:count]
