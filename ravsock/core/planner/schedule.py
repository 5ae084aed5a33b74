"""How long a plan takes on some machines, and how many machines it can use. Estimates from a plan's costs alone."""

from __future__ import annotations

from collections.abc import Sequence

from ravsock.core.fleet import DEFAULT_GFLOPS, DEFAULT_LINE, Line
from ravsock.core.plan import Cost, Gang, Loop, Plan, Unit, inputs_of, outputs_of
from ravsock.core.planner.cluster import HOP_SECONDS, WIRE

MAX_SLOTS = 64
"""More are not looked at: hardly a plan can use them."""
_A_WHILE = 0.01
"""As a share of the time that the plan takes on as many machines as it can use."""


def seconds_of(cost: Cost, gflops: float) -> float:
    return cost.flops / (gflops * 1e9) + cost.seconds_overhead


def single_seconds(plan: Plan, gflops: float) -> float:
    """Time on one machine, one unit after another."""
    return sum(_alone(unit, gflops) for unit in plan.units)


def gang_seconds(loop: Loop, gang: Gang, gflops: float, line: Line) -> float:
    """One iteration by a gang whose slowest machine reaches `gflops`. What a rank gets from the others is the most that
    passes one way."""
    ranks = len(gang.parts)
    passing = gang.bytes * (ranks - 1) / ranks
    share = gang.seconds / max(seconds_of(loop.cost, DEFAULT_GFLOPS), 1e-12)
    return share * seconds_of(loop.cost, gflops) + gang.exchanges * line.latency + passing / line.rate


def best_gang(loop: Loop, slots: Sequence[float], line: Line) -> tuple[Gang | None, float]:
    """What runs an iteration of a chunked loop fastest on these slots, fastest first, and how long that takes. None
    is one machine."""
    best: tuple[Gang | None, float] = None, seconds_of(loop.cost, slots[0])
    for gang in loop.gangs:
        if len(gang.parts) <= len(slots):
            seconds = gang_seconds(loop, gang, slots[len(gang.parts) - 1], line)
            if seconds < best[1]:
                best = gang, seconds
    return best


def fleet_seconds(plan: Plan, slots: Sequence[float], line: Line = DEFAULT_LINE) -> float:
    """Time on these slots (GFLOP/s of each), by list scheduling: the ready unit with the longest way to the end goes to
    the slot where it finishes first (HEFT: Topcuoglu, Hariri, Wu, 2002). Iterations of a loop follow each other."""
    slots = sorted(slots, reverse=True)[:MAX_SLOTS]
    before = sources(plan)
    typical = slots[len(slots) // 2]
    spread = {
        index: fleet_seconds(unit.body, slots, line)
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
            options.append((max(arrived, free[slot]) + took, slot, 1))
        if isinstance(unit, Loop) and unit.gangs:
            gang, seconds = best_gang(unit, slots, line)
            if gang is not None:
                ranks = len(gang.parts)
                start = max([*free[:ranks], *(finish[p] + _hop(plan.units[p]) for p in before[index])])
                options.append((start + unit.length * seconds, 0, ranks))
        finish[index], place[index], ranks = min(options)
        for slot in range(place[index], place[index] + ranks):
            free[slot] = finish[index]
    return max(finish, default=0.0)


def width(plan: Plan, gflops: float = DEFAULT_GFLOPS, line: Line = DEFAULT_LINE) -> int:
    """How many machines of this speed the plan keeps busy at once, for a while, when each unit starts as soon as it
    can."""
    before, finish = sources(plan), [0.0] * len(plan.units)
    events: list[tuple[float, int]] = []
    for index, unit in enumerate(plan.units):
        start = max((finish[p] for p in before[index]), default=0.0)
        finish[index] = start + max(_alone(unit, 1.0), 1e-9)
        inner = width(unit.body, gflops, line) if isinstance(unit, Loop) and unit.body is not None else 1
        if isinstance(unit, Loop) and unit.gangs:
            gang, _ = best_gang(unit, [gflops] * MAX_SLOTS, line)
            inner = 1 if gang is None else len(gang.parts)
        events += [(start, inner), (finish[index], -inner)]
    lasting: dict[int, float] = {}
    busy, since = 0, 0.0
    for moment, change in sorted(events):
        lasting[busy] = lasting.get(busy, 0.0) + moment - since
        busy, since = busy + change, moment
    total = 0.0
    for count in sorted(lasting, reverse=True):
        total += lasting[count]
        if total >= _A_WHILE * since:
            return count
    return 0


def sources(plan: Plan) -> list[list[int]]:
    """For each unit the units of the plan that it reads from."""
    makers: dict[str, list[int]] = {}
    for index, unit in enumerate(plan.units):
        for value in outputs_of(unit):
            makers.setdefault(value, []).append(index)
    return [
        sorted({maker for value in inputs_of(unit) for maker in makers.get(value, ())}) for unit in plan.units
    ]


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
