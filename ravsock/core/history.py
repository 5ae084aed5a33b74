"""What was measured of providers, their lines and subgraphs, for as long as this object lives.

Pure: times are the caller's. The coordinator and the simulation learn by it; for one thread only.
"""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ravsock.core import deadlines, speeds
from ravsock.core.deadlines import Effort, Pace
from ravsock.core.fleet import DEFAULT_GFLOPS
from ravsock.core.recent import MANY, Recent
from ravsock.core.speeds import Spread

LAST_RATIOS, LAST_PACES = 50, 9
PROVIDERS = 200_000
"""Providers that are remembered: more than can be connected, since one that is forgotten has no speed."""


@dataclass(frozen=True)
class Run:
    """One accepted result: a subgraph that ran `iterations` times (or once) somewhere."""

    model: str
    effort: Effort
    """The estimate for one iteration, from the plan."""
    iterations: int
    seconds: float
    """What the provider says it computed."""
    expected: float = 0.0
    """What it was expected to take when it was handed out; 0 where nothing was."""


@dataclass
class _Subgraph:
    runs: deque[tuple[str, float]] = field(default_factory=lambda: deque(maxlen=LAST_PACES))
    """Who ran it, and seconds of one iteration."""
    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=LAST_RATIOS))
    length: int = 1
    pace: Pace | None = None
    """As computed for `version` of the speeds."""
    version: int = -1
    spread: Spread | None = None

    def add(self, provider_id: str, runs: Sequence[Run], seconds: float) -> None:
        """A provider took so long for all of `runs`."""
        self.runs.append((provider_id, seconds / sum(run.iterations for run in runs)))
        self.length, self.pace, self.spread = runs[-1].iterations, None, None
        if (expected := sum(run.expected for run in runs)) > 0:
            self.ratios.append(seconds / expected)


@dataclass
class _Speed:
    claimed: float = 0.0
    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=speeds.LAST_RUNS))
    slowness: float = 1.0
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=speeds.LAST_TRANSFERS))
    trips: deque[float] = field(default_factory=lambda: deque(maxlen=speeds.LAST_TRANSFERS))
    link: float = 0.0
    """The median of `rates`: it is asked for much more often than there is a new one."""
    latency: float = 0.0
    """The median of `trips`."""


class History:
    def __init__(self) -> None:
        self._subgraphs: Recent[str, _Subgraph] = Recent(MANY, _Subgraph)
        self._speeds: Recent[str, _Speed] = Recent(PROVIDERS, _Speed)
        self._version = 0

    # ── providers ─────────────────────────────────────────────────────────────────────────────────
    def claim(self, provider_id: str, gflops: float) -> None:
        """What a provider says of itself."""
        known = self._speeds[provider_id]
        if known.claimed and known.claimed != gflops:  # what was measured stays true
            scaled = [ratio * gflops / known.claimed for ratio in known.ratios]
            known.ratios.clear()
            known.ratios.extend(scaled)
            known.slowness = speeds.slowness(scaled)
            self._version += 1
        known.claimed = gflops

    def gflops(self, provider_id: str) -> float:
        """As measured, else as claimed."""
        known = self._speeds[provider_id]
        return max(known.claimed / known.slowness, deadlines.MIN_GFLOPS)

    def moved(self, provider_id: str, size: int, seconds: float) -> None:
        """So many bytes went over its line."""
        if size >= speeds.LEAST_TRANSFER:
            known = self._speeds[provider_id]
            known.rates.append(speeds.rate(size, seconds))
            known.link = statistics.median(known.rates)

    def answered(self, provider_id: str, seconds: float) -> None:
        """It acknowledged a small message after so long."""
        known = self._speeds[provider_id]
        known.trips.append(seconds)
        known.latency = statistics.median(known.trips)

    def link(self, provider_id: str) -> float:
        """Bytes a second of its line; 0 where nothing was seen of it."""
        return self._speeds[provider_id].link

    def latency(self, provider_id: str) -> float:
        """Seconds there and back; 0 where nothing is known."""
        return self._speeds[provider_id].latency

    # ── subgraphs ─────────────────────────────────────────────────────────────────────────────────
    def pace(self, model: str) -> Pace | None:
        """What was measured of the subgraph, None for nothing."""
        known = self._subgraphs.get(model)
        if known is None or not known.runs:
            return None
        if known.pace is None or known.version != self._version:
            works = [seconds * self.gflops(name) for name, seconds in known.runs]
            known.pace, known.version = Pace(statistics.median(works), known.length), self._version
        return known.pace

    def spread(self, model: str) -> Spread:
        """How far its runs were from what was expected of them."""
        known = self._subgraphs.get(model)
        if known is None:
            return speeds.UNKNOWN
        if known.spread is None:
            known.spread = speeds.spread(known.ratios)
        return known.spread

    def learn(self, provider_id: str, runs: Sequence[Run], service: float, moving: float = 0.0) -> None:
        """A provider reports runs of one batch, for which it had `service` seconds, some of them for `moving` data."""
        reported = sum(run.seconds for run in runs)
        taken = speeds.believed(reported, service, moving)
        scale = taken / reported if 0 < reported < float("inf") else 0.0
        groups: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            groups[run.model].append(run)
        claimed = self._speeds[provider_id].claimed or deadlines.MIN_GFLOPS
        expected, plainly = (
            sum(self._should(some, provider_id, gflops) for some in groups.values())
            for gflops in (claimed, DEFAULT_GFLOPS)
        )
        ratio = speeds.slower(taken, expected, plainly)
        if ratio is not None:
            known = self._speeds[provider_id]
            known.ratios.append(ratio)
            known.slowness = speeds.slowness(known.ratios)
            self._version += 1
        for model, some in groups.items():
            seconds = scale * sum(run.seconds for run in some) if scale else taken * len(some) / len(runs)
            self._subgraphs[model].add(provider_id, some, seconds)

    def _should(self, runs: Sequence[Run], provider_id: str, gflops: float) -> float:
        """Seconds that runs of one subgraph should take at a speed: what it took others, else as estimated."""
        known, iterations = self._subgraphs.get(runs[0].model), sum(run.iterations for run in runs)
        others = [s * self.gflops(name) for name, s in known.runs if name != provider_id] if known else []
        one = statistics.median(others) / gflops if others else runs[0].effort.seconds(gflops)
        return one * iterations
