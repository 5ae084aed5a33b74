"""Loops without carries: their iterations know nothing of each other, so several units may share them."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import onnx_ir as ir

from ravop.graph.cost import scan_length
from ravsock.core.plan import Loop
from ravsock.core.planner.body import carry_count
from ravsock.core.planner.context import Context
from ravsock.core.planner.schedule import seconds_of

SPLIT_UNITS = 2.0
"""A loop without carries that is worth as many units is split."""
MAX_RANGES = 64


def is_shared(node: ir.Node, context: Context) -> bool:
    """Whether the iterations of a loop are independent, and worth being shared among units."""
    worth = context.seconds(node) >= SPLIT_UNITS * context.unit_seconds
    return worth and carry_count(node) == 0 and (scan_length(node) or 0) > 1


def in_ranges(loop: Loop, context: Context) -> tuple[Loop, ...]:
    """A chunked loop without carries as units of about one unit of work each, which share its model; any other as it is."""
    seconds = seconds_of(loop.cost, context.gflops) * loop.length
    if loop.carries or loop.chunk is None or loop.gangs or seconds < SPLIT_UNITS * context.unit_seconds:
        return (loop,)
    units = seconds / context.unit_seconds if context.unit_seconds else MAX_RANGES
    count = int(min(units, loop.length, MAX_RANGES))
    bounds = [loop.length * number // count for number in range(count + 1)]
    return tuple(
        msgspec.structs.replace(loop, first=first, length=stop - first) for first, stop in pairwise(bounds)
    )
