"""What each rank of a gang runs and what it takes from others, given who owns what (`placing`).

It begins with what must be given and works backwards: a value that a rank needs is made by it when it owns the maker, or
anybody does; a loop's state needs its next value; anything else is taken from its owner, or made here as well, whatever
costs less in all. That choice is a cheapest cut, as in rematerialisation (Chen et al., "Training deep nets with
sublinear memory cost", 2016, choose what to store; Picard, "Maximal closure of a graph", 1976, solves such choices by
flows); duplicating tasks to save transfers goes back to Ahmad and Kwok, "On exploiting task duplication in parallel
program scheduling", 1998. So large things are reduced before they travel and small ones are expanded after.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ravsock.core.planner.mincut import SINK, SOURCE, Network
from ravsock.core.planner.placing import ANYBODY
from ravsock.core.planner.web import Item, Web

_REPEATED = 2.0
"""What a second of repeated work counts: it is sure to cost, what it saves is an estimate."""
_REGION = 1500
"""Items looked at by one rank when it decides what to make itself."""


@dataclass
class Shares:
    """Per rank: the values that it has, and those of them that it takes from another: value → from whom."""

    have: list[set[ir.Value]]
    takes: list[dict[ir.Value, int]]
    givers: dict[ir.Value, int]
    """Who gives each wanted value: the lowest rank that has it anyway."""


def share(web: Web, wanted: Sequence[ir.Value], ranks: int) -> Shares:
    """Who runs and who takes what, so that each of `wanted` is given by somebody."""
    solver = _Solver(web, ranks)
    owned = [value for value in wanted if web.owner(value) != ANYBODY]
    for value in owned:
        solver.demand(value, web.owner(value))
    solver.settle()
    rest = [value for value in wanted if web.owner(value) == ANYBODY and not web.context.is_constant(value)]
    for value in rest:
        solver.demand(value, next((r for r in range(ranks) if value in solver.made[r]), 0))
    solver.settle()
    first = solver.walk({value: max(web.owner(value), 0) for value in wanted})
    givers = {v: next((r for r in range(ranks) if v in first.have[r]), 0) for v in wanted}
    return solver.walk(givers)


class _Solver:
    def __init__(self, web: Web, ranks: int) -> None:
        self._web = web
        self._roots: list[dict[ir.Value, None]] = [{} for _ in range(ranks)]
        self._dirty: dict[int, None] = {}
        self.made: list[set[ir.Value]] = [set() for _ in range(ranks)]
        """Values that a rank has without taking them."""

    def demand(self, value: ir.Value, rank: int) -> None:
        if value not in self._roots[rank]:
            self._roots[rank][value] = None
            if value not in self.made[rank]:
                self._dirty[rank] = None

    def settle(self) -> None:
        while self._dirty:
            rank = next(iter(self._dirty))
            del self._dirty[rank]
            for value in self._solve(rank):
                self.demand(value, self._web.owner(value))

    def walk(self, givers: Mapping[ir.Value, int]) -> Shares:
        """What is left when only that is done which somebody needs, by the choices of the last solution."""
        web, ranks = self._web, len(self._roots)
        have: list[set[ir.Value]] = [set() for _ in range(ranks)]
        takes: list[dict[ir.Value, int]] = [{} for _ in range(ranks)]
        pending = list(givers.items())
        while pending:
            value, rank = pending.pop()
            if value in have[rank]:
                continue
            have[rank].add(value)
            maker = web.makers.get(value)
            if maker is None:
                continue
            if value in self.made[rank] or self._must_make(value, rank):
                pending += [(read, rank) for read in maker.reads]
            else:
                takes[rank][value] = web.owner(value)
                pending.append((value, web.owner(value)))
        return Shares(have, takes, dict(givers))

    # ── one rank ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _must_make(self, value: ir.Value, rank: int) -> bool:
        return not self._web.travels(value) or self._web.owner(value) in (ANYBODY, rank)

    def _solve(self, rank: int) -> list[ir.Value]:
        """Decide anew what the rank makes. → what it takes."""
        web = self._web
        made: set[ir.Value] = set()
        foreign: dict[ir.Value, None] = {}
        pending = list(self._roots[rank])
        while pending:
            value = pending.pop()
            if value in made or value in foreign or value not in web.makers:
                continue
            if self._must_make(value, rank):
                made.add(value)
                pending += web.makers[value].reads
            else:
                foreign[value] = None
        self.made[rank] = made
        if not foreign:
            return []
        region = self._region(foreign, made, rank)
        taken = self._cut(foreign, region, made, rank)
        return [value for value in taken if value not in made]

    def _region(self, foreign: Iterable[ir.Value], made: set[ir.Value], rank: int) -> dict[Item, None]:
        """Items that could be worth running here instead of taking `foreign`: no more can flow into an item than
        what it would save."""
        web = self._web
        flow: dict[Item, float] = {}
        queue: list[tuple[int, Item]] = []
        found: dict[Item, None] = {}

        def reach(value: ir.Value, most: float) -> None:
            item = web.makers.get(value)
            if item is None or value in made or item in found:
                return
            limit = math.inf if self._must_make(value, rank) else web.transfer(value)
            if item not in flow:
                heapq.heappush(queue, (-item.order, item))
            flow[item] = flow.get(item, 0.0) + min(most, limit)
            if math.isinf(limit):
                forced.add(item)

        forced: set[Item] = set()
        for value in foreign:
            reach(value, math.inf)
        while queue:
            _, item = heapq.heappop(queue)
            left = flow.pop(item) - _REPEATED * item.seconds
            if item in found or (item not in forced and (left <= 0 or len(found) > _REGION)):
                continue
            found[item] = None
            for value in item.reads:
                reach(value, max(left, 0.0))
        return found

    def _cut(
        self, foreign: dict[ir.Value, None], region: dict[Item, None], made: set[ir.Value], rank: int
    ) -> list[ir.Value]:
        """Choose between taking and running; what is made goes into `made`. → what is taken."""
        web, network = self._web, Network()
        network.vertex(), network.vertex()
        runs: dict[Item, int] = {}
        haves: dict[ir.Value, int] = {}

        def have(value: ir.Value) -> int:
            if value not in haves:
                haves[value] = network.vertex()
                pending.append(value)
            return haves[value]

        pending: list[ir.Value] = []
        for value in foreign:
            network.edge(SOURCE, have(value), math.inf)
        while pending:
            value = pending.pop()
            item = web.makers[value]
            must = self._must_make(value, rank)
            if item not in region and not must:
                network.edge(haves[value], SINK, web.transfer(value))
                continue
            fresh = item not in runs
            if fresh:
                runs[item] = network.vertex()
            network.edge(haves[value], runs[item], math.inf if must else web.transfer(value))
            if fresh:
                network.edge(runs[item], SINK, _REPEATED * item.seconds)
                for read in item.reads:
                    if read in web.makers and read not in made:
                        network.edge(runs[item], have(read), math.inf)
        near = network.source_side()
        taken = []
        for value, vertex in haves.items():
            if vertex in near:
                item = web.makers[value]
                if item in runs and runs[item] in near:
                    made.add(value)
                else:
                    taken.append(value)
        return taken
