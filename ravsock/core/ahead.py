"""Which waiting units of a scope may run ahead: in one batch with all that they still wait for.

Pure; used by the store. Units are indexes into the plan of one scope. Only small subgraphs run ahead, no loops: what is
worth a provider of its own must not queue behind others in a batch.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from ravsock.core.fleet import DEFAULT_GFLOPS
from ravsock.core.plan import Subgraph, Unit
from ravsock.core.program import Scope

SMALL_SECONDS = 0.01
"""What a unit takes at most on a reference machine, as estimated, to run ahead."""
SMALL_BYTES = 1024 * 1024
"""What it reads and gives at most."""


def candidates(scope: Scope, units: Iterable[int], most: int) -> list[int]:
    """The first `most` small subgraphs of the plan that read what `units` give, or what such subgraphs give."""
    found: list[int] = []
    seen = set(units)
    heap = [reader for unit in seen for reader in _readers(scope, unit)]
    heapq.heapify(heap)
    while heap and len(found) < most:
        unit = heapq.heappop(heap)
        if unit in seen:
            continue
        seen.add(unit)
        found.append(unit)
        for reader in _readers(scope, unit):
            heapq.heappush(heap, reader)
    return found


def followers(scope: Scope, units: Iterable[int], waiting: Mapping[int, int], most: int) -> list[int]:
    """Those of `waiting` (with the number of inputs each waits for) that wait for nothing but what `units` and the
    followers before them give; at most so many, in an order in which they can run."""
    given = given_by(scope, units)
    found: list[int] = []
    for unit in sorted(waiting):
        if len(found) >= most:
            break
        if given[unit] == waiting[unit]:
            found.append(unit)
            given.update(given_by(scope, [unit]))
    return found


def given_by(scope: Scope, units: Iterable[int]) -> Counter[int]:
    """How many of the inputs that a unit waits for `units` give."""
    given: Counter[int] = Counter()
    for unit in units:
        for reader, count in scope.readers[unit]:
            given[reader] += count
    return given


def dependants(scope: Scope, units: Iterable[int], among: Collection[int]) -> set[int]:
    """Those of `among` that read what `units` give, or what such dependants give."""
    found: set[int] = set()
    pending = list(units)
    while pending:
        for reader, _ in scope.readers[pending.pop()]:
            if reader in among and reader not in found:
                found.add(reader)
                pending.append(reader)
    return found


def _readers(scope: Scope, unit: int) -> list[int]:
    return [reader for reader, _ in scope.readers[unit] if _small(scope.plan.units[reader])]


def _small(unit: Unit) -> bool:
    cost = unit.cost
    seconds = cost.flops / (DEFAULT_GFLOPS * 1e9) + cost.seconds_overhead
    few = cost.bytes_in + cost.bytes_out <= SMALL_BYTES
    return isinstance(unit, Subgraph) and few and seconds <= SMALL_SECONDS
