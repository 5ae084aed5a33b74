"""The providers as the planner sees them: how fast, how much memory, how many at a time. Values only."""

from __future__ import annotations

import statistics

import msgspec

DEFAULT_GFLOPS = 20.0
"""One core of a plain machine; assumed while no provider is known."""


class Line(msgspec.Struct, frozen=True):
    """What lies between two providers, through the coordinator."""

    rate: float = 300e6
    """Bytes per second."""
    latency: float = 1e-3
    """Seconds that a message takes besides."""

    def seconds(self, size: float) -> float:
        return self.latency + size / self.rate


DEFAULT_LINE = Line()
"""Assumed while none was measured."""


class ProviderSpeed(msgspec.Struct, frozen=True):
    """`gflops` that one slot was measured to reach, bytes of `memory` that one subgraph may use."""

    gflops: float
    memory: int
    slots: int = 1
    line: Line | None = None
    """As measured."""


class Fleet(msgspec.Struct, frozen=True):
    providers: tuple[ProviderSpeed, ...] = ()

    @property
    def slots(self) -> tuple[float, ...]:
        """GFLOP/s of every slot, fastest first."""
        return tuple(
            sorted((p.gflops for p in self.providers for _ in range(p.slots) if p.gflops > 0), reverse=True)
        )

    @property
    def typical_gflops(self) -> float:
        """What a slot of this fleet does; the default speed when there is none."""
        return statistics.median(self.slots) if self.slots else DEFAULT_GFLOPS

    @property
    def typical_line(self) -> Line:
        """What lies between two providers of this fleet; the default where none was measured."""
        lines = [provider.line for provider in self.providers if provider.line is not None]
        if not lines:
            return DEFAULT_LINE
        return Line(
            statistics.median(line.rate for line in lines), statistics.median(line.latency for line in lines)
        )
