"""How long a plan takes on some machines, and how many machines it can use. Estimates from a plan's costs alone."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from ravsock.core.plan import Cost, Loop, Plan, Unit, inputs_of, outputs_of
from ravsock.core.planner.cluster import HOP_SECONDS, WIRE

MAX_SLOTS = 64
"""More are not looked at: hardly a plan can use them."""


def seconds_of(cost: Cost, gflops: float) -> float:
    return cost.flops / (gflops * 1e9) + cost.seconds_overhead


def single_seconds(plan: Plan, gflops: float) -> float:
    """Time on one machine, one unit after another."""
    return sum(_alone(unit, gflops) for unit in plan.units)


def fleet_seconds(plan: Plan, slots: Sequence[float]) -> float:
    """Time on these slots (GFLOP/s of each), by list scheduling: the ready unit with the longest way to the end goes to
    the slot where it finishes first (HEFT: Topcuoglu, Hariri, Wu, 2002). Iterations of a loop follow each other."""
    slots = sorted(slots, reverse=True)[:MAX_SLOTS]
    before = sources(plan)
    typical = slots[len(slots) // 2]
    spread = {
        index: fleet_seconds(unit.body, slots)
        for index, unit in enumerate(plan.units)
        if isinstance(unit, Loop) and unit.body
    }
    rank = _ranks(plan, before, typical)
    free = [0.0] * len(slots)
    finish = [0.0] * len(plan.units)
    place = [0] * len(plan.units)
    for index in sorted(range(len(plan.units)), key=lambda i: (-rank[i], i)):
        unit = plan.units[index]
        options = []
        for slot, gflops in enumerate(slots):
            arrived = max(
                (finish[p] + (0.0 if place[p] == slot else _hop(plan.units[p])) for p in before[index]),
                default=0.0,
            )
            took = (
                unit.length * spread[index]
                if index in spread and isinstance(unit, Loop)
                else _alone(unit, gflops)
            )
            options.append((max(arrived, free[slot]) + took, slot))
        finish[index], place[index] = min(options)
        free[place[index]] = finish[index]
    return max(finish, default=0.0)


def width(plan: Plan) -> int:
    """How many machines the plan keeps busy at once when each unit starts as soon as it can."""
    before, finish = sources(plan), [0.0] * len(plan.units)
    running: list[tuple[float, int]] = []
    for index, unit in enumerate(plan.units):
        start = max((finish[p] for p in before[index]), default=0.0)
        finish[index] = start + max(_alone(unit, 1.0), 1e-9)
        inner = width(unit.body) if isinstance(unit, Loop) and unit.body is not None else 1
        running.append((start, inner))
    ends: list[tuple[float, int]] = []
    busy = most = 0
    for (start, inner), end in sorted(zip(running, finish, strict=True)):
        while ends and ends[0][0] <= start:
            busy -= heapq.heappop(ends)[1]
        busy += inner
        heapq.heappush(ends, (end, inner))
        most = max(most, busy)
    return most


def sources(plan: Plan) -> list[list[int]]:
    """For each unit the units of the plan that it reads from."""
    maker = {value: index for index, unit in enumerate(plan.units) for value in outputs_of(unit)}
    return [sorted({maker[value] for value in inputs_of(unit) if value in maker}) for unit in plan.units]


def _alone(unit: Unit, gflops: float) -> float:
    return seconds_of(unit.cost, gflops) * (unit.length if isinstance(unit, Loop) else 1)


def _hop(unit: Unit) -> float:
    return HOP_SECONDS + unit.cost.bytes_out / WIRE


def _ranks(plan: Plan, before: Sequence[Sequence[int]], gflops: float) -> list[float]:
    """The longest way from each unit's start to the end of the plan."""
    beyond = [0.0] * len(plan.units)
    rank = [0.0] * len(plan.units)
    for index in reversed(range(len(plan.units))):
        rank[index] = _alone(plan.units[index], gflops) + beyond[index]
        for source in before[index]:
            beyond[source] = max(beyond[source], rank[index] + _hop(plan.units[source]))
    return rank
