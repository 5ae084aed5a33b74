"""How long things may take: leases, chunks of loops, silence, and the rest of providers that fail.

Pure: seconds and counts in, seconds and counts out; the clock is the caller's. Used by `ravsock.server`.
Speeds are in GFLOPS (10⁹ floating-point operations a second) as providers measured them.
"""

from __future__ import annotations

import math

import msgspec

from ravsock.core.fleet import DEFAULT_GFLOPS
from ravsock.core.speeds import UNKNOWN, Spread

BEAT_SECONDS = 5.0
"""How often a provider says that it lives."""
BEATS_A_SECOND = 600
"""Of all providers of a coordinator together: where there are many, each is asked to beat less often."""
SILENT_SECONDS = 12.0
"""After so much silence a provider's leases are given to others; of one that beats less often, after as many beats more."""
GRACE_SECONDS = 4.0
"""After the coordinator started, or another one died: time for providers to come back to what they held. Later, they may
still deliver what nobody else was given meanwhile."""

HEARD_SECONDS = 2.0
"""How often a coordinator tells the others that it lives."""
DEAD_SECONDS = 6.0
"""A coordinator that was not heard for so long is dead."""

MIN_LEASE_SECONDS = 30.0
LEASE_FACTOR = 10.0
"""A task of which little was seen may take so many times its estimate: providers do other things too."""
MIN_KNOWN_LEASE_SECONDS = 10.0
SPREADS = 6.0
"""How many times the distance between the median and the slowest tenth of its runs a task may be late."""
MAX_LEASE_SECONDS = 1e10
SLOW_LINK = 1_000_000.0
"""Bytes a second that a provider's line carries at least."""

FIRST_CHUNK_SECONDS = 0.3
CHUNK_SECONDS = 3.0
GROWTH = 2
"""A chunk has at most so many times the iterations of the one before."""

MIN_GFLOPS = 1e-9
"""No provider is taken for slower, whatever it says: estimates must stay numbers."""

FIRST_REST_SECONDS = 1.0
MAX_REST_SECONDS = 300.0

KNOWN_SECONDS, KNOWN_SHARE = 1.0, 0.01
"""The speed of a graph is known when work of so many seconds is done, or so much of what there was to do."""


class Policy(msgspec.Struct, frozen=True):
    """What may be chosen: the coordinator takes these values, a simulation may compare others."""

    lease_factor: float = LEASE_FACTOR
    spreads: float = SPREADS
    chunk_seconds: float = CHUNK_SECONDS


COORDINATOR = Policy()


class Pace(msgspec.Struct, frozen=True):
    """What was measured of a subgraph: GFLOPS-seconds of one iteration (or run), and iterations of the last
    chunk.
    """

    work: float
    length: int = 1


class Effort(msgspec.Struct, frozen=True):
    """What a run costs on any provider: GFLOPS-seconds, and seconds that do not depend on its speed."""

    work: float
    overhead: float = 0.0

    def seconds(self, gflops: float) -> float:
        return self.work / gflops + self.overhead

    def times(self, count: int) -> Effort:
        return Effort(self.work * count, self.overhead * count)


def speed(matmul_gflops: float, conv_gflops: float) -> float:
    """One figure from a provider's two measurements: their geometric mean, or a default where they say
    nothing.
    """
    if matmul_gflops <= 0 or conv_gflops <= 0:
        found = max(matmul_gflops, conv_gflops) or DEFAULT_GFLOPS
    else:
        found = math.sqrt(matmul_gflops * conv_gflops)
    return max(found, MIN_GFLOPS)


def effort(flops: float, overhead: float = 0.0, pace: Pace | None = None) -> Effort:
    """Of one run or iteration: as measured, else from its `flops` and the seconds of `overhead` beside them."""
    return Effort(pace.work, 0.0) if pace is not None else Effort(flops / 1e9, overhead)


def lease_seconds(
    estimate: float,
    transfer: int = 0,
    attempt: int = 1,
    spread: Spread = UNKNOWN,
    policy: Policy = COORDINATOR,
) -> float:
    """Seconds until a task's lease ends, given the estimate for its run, the bytes to move, and how far runs of its
    subgraph were from their estimates.

    Each further attempt gets twice the time: an estimate that was too low must not keep a task from ever
    finishing.
    """
    if spread.known:
        factor = max(2.0, spread.median + policy.spreads * (spread.high - spread.median))
        least = MIN_KNOWN_LEASE_SECONDS
    else:
        factor, least = policy.lease_factor, MIN_LEASE_SECONDS
    seconds = max(least, factor * estimate + transfer / SLOW_LINK)
    return min(seconds, MAX_LEASE_SECONDS) * 2.0 ** min(max(attempt - 1, 0), 10)


def patience(estimate: float) -> float:
    """How long to wait for what should end after the `estimate`, with nothing known of it."""
    return LEASE_FACTOR * estimate


def chunk_length(
    left: int, estimate: float, pace: Pace | None = None, tries: int = 0, policy: Policy = COORDINATOR
) -> int:
    """How many of the `left` iterations the next chunk of a loop has; `estimate` is the seconds of one.

    The first chunk is short, so that something is seen soon; chunks grow until one is worth the policy's seconds. Each of the
    `tries` that came to nothing halves it, so that a loop gets on even where no provider stays for long.
    """
    if pace is None:
        length = iterations(left, estimate, FIRST_CHUNK_SECONDS)
    else:
        length = iterations(left, estimate, policy.chunk_seconds, GROWTH * pace.length)
    return max(1, length >> min(tries, 62))


def iterations(left: int, seconds: float, worth: float, most: int | None = None) -> int:
    """How many of the `left` iterations, of `seconds` each, are `worth` so many seconds: at least 1, at most `most`."""
    fitting = int(min(worth / seconds, left)) if seconds > 0 else left
    return max(1, min(fitting, left if most is None else most))


def rest_seconds(failures: int) -> float:
    """How long a provider gets no work after so many failures in a row."""
    if failures <= 0:
        return 0.0
    return min(FIRST_REST_SECONDS * 2.0 ** min(failures - 1, 20), MAX_REST_SECONDS)


def seconds_left(todo: float, done: float, elapsed: float) -> float | None:
    """Time until work of `todo` is done when `done` took `elapsed` seconds; None where that says too little.

    Work is in seconds of a reference machine.
    """
    if done <= 0 or done < min(KNOWN_SECONDS, KNOWN_SHARE * (todo + done)):
        return None
    return max(0.0, todo * elapsed / done)


def beat_seconds(connected: int) -> float:
    """How often the last of so many providers should say that it lives."""
    return max(BEAT_SECONDS, connected / BEATS_A_SECOND)


def silent(last_heard: float, now: float, beat: float = BEAT_SECONDS) -> bool:
    """Whether a provider that beats every `beat` seconds, and was last heard of at `last_heard`, counts as gone."""
    return now - last_heard > SILENT_SECONDS + 2 * (beat - BEAT_SECONDS)
