"""What people see of a plan: its units, what it costs, how many providers it can use, how long it may take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ravop.protocol.messages import PlanSummary, UnitSummary
from ravsock.core.fleet import DEFAULT_GFLOPS, Fleet
from ravsock.core.plan import Loop, Plan, Subgraph, Unit
from ravsock.core.planner.schedule import (
    best_gang,
    fleet_seconds,
    gang_seconds,
    seconds_of,
    single_seconds,
    width,
)

MAX_UNITS = 500


def summarise(plan: Plan, flops: float, steps: int, fleet: Fleet) -> PlanSummary:
    units = [_line(ranges) for ranges in _rows(plan)]
    slots = fleet.slots
    alone = single_seconds(plan, slots[0]) if slots else None
    together = (
        min(fleet_seconds(plan, slots, fleet.typical_line), alone) if slots and alone is not None else None
    )
    useful = width(plan, fleet.typical_gflops, fleet.typical_line)
    return PlanSummary(
        units=tuple(units[:MAX_UNITS]),
        flops=flops,
        steps=steps,
        useful_providers=useful,
        fleet_seconds=together,
        single_seconds=alone,
        notes=(*_notes(units, useful, together, alone, fleet), *_slow_lines(plan, fleet)),
    )


def _flatten(plan: Plan, iterations: int) -> Iterator[tuple[Unit, int]]:
    for unit in plan.units:
        times = iterations * (unit.length if isinstance(unit, Loop) else 1)
        yield unit, times
        if isinstance(unit, Loop) and unit.body is not None:
            yield from _flatten(unit.body, times)


def _rows(plan: Plan) -> list[list[tuple[Unit, int]]]:
    """What is one line for people, with the iterations of each: a unit, or the ranges of a loop."""
    rows: list[list[tuple[Unit, int]]] = []
    for unit, iterations in _flatten(plan, 1):
        if isinstance(unit, Loop) and unit.first:
            rows[-1].append((unit, iterations))
        else:
            rows.append([(unit, iterations)])
    return rows


def _line(ranges: Sequence[tuple[Unit, int]]) -> UnitSummary:
    unit = ranges[0][0]
    iterations = sum(count for _, count in ranges)
    shipped = unit if isinstance(unit, Subgraph) else unit.chunk
    return UnitSummary(
        label=unit.label, kind=_kind(unit, len(ranges)), nodes=0 if shipped is None else len(shipped.nodes),
        flops=unit.cost.flops * iterations, bytes_in=unit.cost.bytes_in, bytes_out=unit.cost.bytes_out,
        peak_memory=unit.cost.peak_memory, iterations=iterations,
    )  # fmt: skip


def _kind(unit: Unit, ranges: int) -> str:
    if isinstance(unit, Subgraph):
        return "subgraph"
    if ranges > 1:
        return f"loop (in {ranges} ranges)"
    if unit.chunk is None:
        return "loop (opened)"
    widest = max((len(gang.parts) for gang in unit.gangs), default=1)
    return "loop (chunked)" if widest == 1 else f"loop (chunked, up to {widest} side by side)"


def _slow_lines(plan: Plan, fleet: Fleet) -> Iterator[str]:
    """Loops that several providers could run if there were more between them."""
    gflops, line = fleet.typical_gflops, fleet.typical_line
    ganged = [unit for unit, _ in _flatten(plan, 1) if isinstance(unit, Loop) and unit.gangs]
    for loop in ganged:
        if best_gang(loop, [gflops] * len(loop.gangs[-1].parts), line)[0] is not None:
            continue
        alone = seconds_of(loop.cost, gflops)
        gang = min(loop.gangs, key=lambda gang: gang_seconds(loop, gang, gflops, line))
        seconds = gang_seconds(loop, gang, gflops, line)
        yield (
            f"{loop.label}: one machine alone is faster: {len(gang.parts)} side by side would take {seconds:.3g} s an iteration, "
            f"one {alone:.3g} s; the line between providers ({line.rate / 1e6:.3g} MB/s, {line.latency * 1e3:.3g} ms) "
            f"is too slow by {seconds / alone:.1f} times"
        )


def _notes(
    units: list[UnitSummary], useful: int, together: float | None, alone: float | None, fleet: Fleet
) -> Iterator[str]:
    if len(units) > MAX_UNITS:
        yield f"{len(units) - MAX_UNITS:,} more units are not listed"
    if not fleet.providers:
        yield f"no provider is known yet: planned for machines of {DEFAULT_GFLOPS:g} GFLOP/s"
    elif useful <= 1:
        why = "there is one subgraph" if len(units) == 1 else "too little can be computed side by side"
        yield f"one machine alone would be as fast: {why}"
    elif len(fleet.slots) > 1 and together is not None and alone is not None and together > 0.95 * alone:
        yield "one machine alone would be as fast: moving the values costs what the others save"
    largest = max((unit.peak_memory for unit in units), default=0)
    if fleet.providers and largest > max(provider.memory for provider in fleet.providers):
        yield f"no provider known yet offers the {largest / 1e9:.1f} GB that the largest unit needs"
