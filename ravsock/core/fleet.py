"""The providers as the planner sees them: how fast, how much memory, how many at a time. Values only."""

from __future__ import annotations

import statistics

import msgspec

DEFAULT_GFLOPS = 20.0
"""One core of a plain machine; assumed while no provider is known."""


class ProviderSpeed(msgspec.Struct, frozen=True):
    """`gflops` that one slot was measured to reach, bytes of `memory` that one subgraph may use."""

    gflops: float
    memory: int
    slots: int = 1


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
