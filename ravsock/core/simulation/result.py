"""What a simulation shows: computing time that counted and time that did not, weighted by speed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from ravsock.core.simulation.coordinator import Counts
from ravsock.core.simulation.machines import HOUR, Machine
from ravsock.core.simulation.options import Options

Spans = npt.NDArray[np.float64]
"""Rows of begin, end and GFLOPS."""


class Result(msgspec.Struct, frozen=True):
    """Shares are of the computing time that connected providers offered, each weighted by its speed."""

    utilisation: float
    """Spent on results that counted, while more was ready than there was room for."""
    utilisation_whole: float
    """The same until the last task was done."""
    wasted: Mapping[str, float]
    """Spent on what did not count, until the end, by reason: the provider left (`lost`), the lease ended (`expired`), a
    copy was faster (`copied`, `late`), the run `failed`, or its result was `doubted`."""
    saturated_hours: float
    """For how long more was ready than there was room for."""
    hours: float
    """Until the last task was done."""
    bound_hours: float
    """What the providers that were there could have done it in at best, all of them at work without a pause."""
    unfinished: bool
    tasks: int
    attempts: int
    expired: int
    copies: int
    copies_won: int
    failed: int
    given_up: int
    doubted: int
    wrong: int
    deepest_queue: int
    rounds: int
    placed: int
    placing_seconds: float
    """Of real time, in `placement.assign`; 0 without a stopwatch."""


class Ledger:
    def __init__(self, work: float) -> None:
        self._work = work
        """GFLOPS-seconds to be done."""
        self._online: list[tuple[float, float, float]] = []
        self._counted: list[tuple[float, float, float]] = []
        self._wasted: dict[str, float] = defaultdict(float)

    def online(self, machine: Machine, begin: float, end: float) -> None:
        self._online.append((begin, end, machine.power))

    def spent(self, machine: Machine, begin: float, end: float, why: str, share: float) -> None:
        """A slot was busy from `begin` to `end`; `share` of that counted."""
        if end > begin:
            self._counted.append((begin, end, machine.gflops * share))
            self._wasted[why] += (end - begin) * machine.gflops * (1 - share)

    def result(self, options: Options, counts: Counts, now: float) -> Result:
        online, counted = _spans(self._online), _spans(self._counted)
        whole = _within(online, now) or 1.0
        saturated = min(counts.saturated, now)
        return Result(
            utilisation=_within(counted, saturated) / (_within(online, saturated) or 1.0),
            utilisation_whole=_within(counted, now) / whole,
            wasted={why: time / whole for why, time in sorted(self._wasted.items())},
            saturated_hours=saturated / HOUR,
            hours=now / HOUR,
            bound_hours=_reached(online, self._work) / HOUR,
            unfinished=now > options.most_hours * HOUR,
            tasks=counts.done,
            attempts=counts.attempts,
            expired=counts.expired,
            copies=counts.copies,
            copies_won=counts.copies_won,
            failed=counts.failed,
            given_up=counts.given_up,
            doubted=counts.doubted,
            wrong=counts.wrong,
            deepest_queue=counts.deepest,
            rounds=counts.rounds,
            placed=counts.placed,
            placing_seconds=counts.seconds,
        )


def _spans(rows: list[tuple[float, float, float]]) -> Spans:
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _within(spans: Spans, end: float) -> float:
    """GFLOPS-seconds of the spans until `end`."""
    seconds = np.clip(np.minimum(spans[:, 1], end) - spans[:, 0], 0.0, None)
    return float(seconds @ spans[:, 2])


def _reached(spans: Spans, work: float) -> float:
    """When the spans together have had so many GFLOPS-seconds; the end of the last, where they never had."""
    times = np.concatenate([spans[:, 0], spans[:, 1]])
    order = np.argsort(times, kind="stable")
    power = np.cumsum(np.concatenate([spans[:, 2], -spans[:, 2]])[order])
    times = times[order]
    had = np.concatenate([[0.0], np.cumsum(np.diff(times) * power[:-1])])
    return float(np.interp(work, had, times))
