"""How fast providers and their lines are, from what was seen of them: pure.

Speeds are measured, not claimed. A provider's claim is divided by its *slowness*: the median of how much longer its
last runs took than they should have at the speed it claims. What a run should have taken is what the same subgraph
took others, else its estimate. Used by `ravsock.core.history`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

import msgspec

LAST_RUNS = 7
"""So many runs, and no older ones, say how fast a provider is."""
NOTICEABLE_SECONDS = 0.02
"""Shorter runs say nothing about speed: starting them costs as much."""
LEAST_SECONDS = 0.001
"""Work of less says nothing either: what such a run takes is loading, or moving memory."""
MAX_FACTOR = 1e12
"""No claim is further off than that: estimates must stay numbers."""
PART_BELIEVED = 0.25
SLACK_SECONDS = 0.25

LAST_TRANSFERS = 7
LEAST_TRANSFER = 192 * 1024
"""Bytes of a transfer, after those that came first, that say something about a line."""
MIN_LINK, MAX_LINK = 1e3, 1e11

FEW_RUNS = 8
"""With fewer, nothing is said about how far runs spread."""


def believed(reported: float, service: float, moving: float = 0.0) -> float:
    """The seconds that a provider computed which says so much, and had so long for it.

    It cannot have taken longer than the `service` seconds between getting the work and reporting it, nor much less,
    beside the `moving` seconds that its line needs for the data.
    """
    least = (service - moving) * PART_BELIEVED - SLACK_SECONDS
    if not 0 <= reported <= service:
        return service
    return max(reported, least)


def slower(taken: float, expected: float, plainly: float) -> float | None:
    """How many times slower than expected a run was; None where it was too short to tell, or little to compute:
    `plainly` is what a plain machine should need, whatever this one claims.
    """
    if max(taken, expected) < NOTICEABLE_SECONDS or plainly < LEAST_SECONDS:
        return None
    return min(max(max(taken, 1e-12) / max(expected, 1e-12), 1 / MAX_FACTOR), MAX_FACTOR)


def slowness(ratios: Iterable[float]) -> float:
    """By how much to divide a provider's claim. Its claim counts as one run."""
    last = list(ratios)[-LAST_RUNS:]
    return statistics.median([*last, 1.0]) if len(last) < LAST_RUNS else statistics.median(last)


def rate(size: int, seconds: float) -> float:
    """Bytes a second of a transfer."""
    return min(max(size / max(seconds, 1e-6), MIN_LINK), MAX_LINK)


class Spread(msgspec.Struct, frozen=True):
    """How long runs take against their estimates: the median of actual / estimate, and what nine in ten stay below."""

    seen: int = 0
    median: float = 1.0
    high: float = 1.0

    @property
    def known(self) -> bool:
        return self.seen >= FEW_RUNS


UNKNOWN = Spread()


def spread(ratios: Sequence[float]) -> Spread:
    """Of the ratios actual / estimate of runs."""
    if not ratios:
        return UNKNOWN
    ordered = sorted(ratios)
    return Spread(
        len(ordered), statistics.median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)]
    )
