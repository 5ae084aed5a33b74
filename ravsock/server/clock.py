"""The time that this process goes by: see `ravsock.core.clock`. Where several share a database, `peers` corrects it by the
database's clock.
"""

from __future__ import annotations

import time

from ravsock.core.clock import Clock

_clock = Clock(time.time(), time.monotonic())


def now() -> float:
    """Seconds since 1970, without jumps until `follow`."""
    return _clock.at(time.monotonic())


def at(steady: float) -> float:
    """Seconds since 1970 when `time.monotonic` says, or said, `steady`."""
    return _clock.at(steady)


def jump() -> float:
    """By how many seconds the wall clock has jumped; 0 where it has not."""
    return _clock.jump(time.time(), time.monotonic())


def follow(seconds: float) -> None:
    """Jump too: what was written down is moved by as much."""
    global _clock
    _clock = Clock(_clock.wall + seconds, _clock.steady)
