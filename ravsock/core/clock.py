"""The coordinator's time: pure; both clocks are read by the caller.

Deadlines are seconds since 1970, since they outlive the process. The clock that tells these may jump: it is set, or the
machine slept. So they are counted by the steady clock from one reading of both, and a jump is found by comparing the two.
"""

from __future__ import annotations

import msgspec

JUMP_SECONDS = 2.0
"""Less is no jump: both clocks are corrected a little all the time."""


class Clock(msgspec.Struct, frozen=True):
    """One reading of the wall clock and of the steady one."""

    wall: float
    steady: float

    def at(self, steady: float) -> float:
        """Seconds since 1970 by the steady clock."""
        return self.wall + (steady - self.steady)

    def jump(self, wall: float, steady: float) -> float:
        """By how many seconds the wall clock has jumped since; 0 where it has not."""
        ahead = wall - self.at(steady)
        return ahead if abs(ahead) > JUMP_SECONDS else 0.0
