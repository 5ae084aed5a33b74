"""Which rank of a gang makes what: the nodes of a loop's body on n equal machines.

List scheduling by the longest way to the end, each node where it starts first, as in HEFT (Topcuoglu, Hariri, Wu,
"Performance-effective and low-complexity task scheduling for heterogeneous computing", 2002); of a branch
(`branches`), the first node decides. Every body is placed on its own. A loop in it is one node of one rank
(workers that train side by side), or its own body is placed on all ranks (epochs around batches), whichever ends
earlier. What is cheap with all that it depends on belongs to nobody: who needs it runs it.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from ravop.graph.cost import nbytes, scan_length
from ravsock.core.fleet import Line
from ravsock.core.planner.body import Body, can_travel
from ravsock.core.planner.branches import find_branches

ANYBODY = -1
"""The owner of what every rank makes itself when it needs it."""
_TRIFLE = 0.1
"""Nodes are anybody's that cost, with all before them, less than this share of one transfer of their results."""
_SPREAD_GAIN = 1.2


@dataclass
class Placed:
    """A body on n ranks."""

    body: Body
    seconds: float
    owner: dict[ir.Node, int]
    spread: dict[ir.Node, Placed] = field(default_factory=dict)
    """Loops whose bodies are placed on all ranks."""


def place(body: Body, ranks: int, line: Line, whole_branches: bool) -> Placed:
    """The body on `ranks` machines with `line` between them; branches left whole, or node by node."""
    alone = _schedule(body, ranks, line, {}, whole_branches)
    inner = {node: place(body.loop(node), ranks, line, whole_branches) for node in body.loops()}
    good = {n: p for n, p in inner.items() if p.seconds * _SPREAD_GAIN <= p.body.work}
    if not good:
        return alone
    spread = _schedule(body, ranks, line, good, whole_branches)
    return spread if spread.seconds * 1.05 < alone.seconds else alone


def count_branches(body: Body, line: Line) -> int:
    """How many branches the body has, or the body of a loop in it."""
    found = find_branches(body, line, _anybodys(body, line, {}).keys(), {})
    return max([len(set(found.values())), *(count_branches(body.loop(node), line) for node in body.loops())])


def _schedule(
    body: Body, ranks: int, line: Line, spread: Mapping[ir.Node, Placed], whole_branches: bool
) -> Placed:
    owner = _anybodys(body, line, spread)
    trifles = set(owner)
    branch: dict[ir.Node, int] = {}
    if whole_branches:
        branch = find_branches(body, line, owner, spread)
        owner |= {node: ANYBODY for node in body.nodes if node not in branch and node not in spread}
    state = _State(body, ranks, line, owner, branch)
    way = body.ways()
    position = {node: index for index, node in enumerate(body.nodes)}
    # All before a loop that is spread come before it, all that come after it after: it is a wall for every rank.
    wall, passed = dict.fromkeys(body.nodes, 0), 0
    for node in body.nodes:
        wall[node] = max((wall[body.maker[v]] for v in body.reads[node]), default=0)
        if node in spread:
            passed += 1
            wall[node] = passed
    order = sorted(
        (n for n in body.nodes if n in spread or owner.get(n) != ANYBODY),
        key=lambda n: (wall[n], n not in spread, -way[n], position[n]),
    )
    for node in order:
        if node in spread:
            state.all_run(node, spread[node].seconds * (scan_length(node) or 1))
        else:
            state.run(node)
    _settle(body, owner, trifles | spread.keys())
    return Placed(body, max(state.free), owner, dict(spread))


def _anybodys(body: Body, line: Line, spread: Mapping[ir.Node, Placed]) -> dict[ir.Node, int]:
    cost: dict[ir.Node, float] = {}
    owner: dict[ir.Node, int] = {}
    for node in body.nodes:
        cost[node] = body.seconds[node] + sum(
            cost[maker] for maker in dict.fromkeys(body.maker[value] for value in body.reads[node])
        )
        size = sum(map(nbytes, node.outputs))
        if node not in spread and cost[node] <= _TRIFLE * line.seconds(size):
            owner[node] = ANYBODY
    return owner


def _settle(body: Body, owner: dict[ir.Node, int], everywhere: Container[ir.Node]) -> None:
    """What joins values of one rank alone is of that rank: others may take the sum instead of the addends."""
    for node in body.nodes:
        if owner.get(node) == ANYBODY and node not in everywhere:
            makers = {body.maker[value] for value in body.reads[node]}
            homes = {owner[maker] for maker in makers if maker not in everywhere}
            if len(homes) == 1:
                owner[node] = homes.pop()


class _State:
    """When each rank is free, and when each value is where, while nodes are placed one by one."""

    def __init__(
        self, body: Body, ranks: int, line: Line, owner: dict[ir.Node, int], branch: Mapping[ir.Node, int]
    ) -> None:
        self._body = body
        self._line = line
        self._owner = owner
        self.free = [0.0] * ranks
        self._finish: dict[ir.Node, float] = {}
        self._everywhere: set[ir.Node] = set()
        self._branch = branch
        self._seat: dict[int, int] = {}
        """Branch → its rank."""
        self._work: dict[int, float] = {}
        """What is still to be done of a branch."""
        for node, number in branch.items():
            self._work[number] = self._work.get(number, 0.0) + body.seconds[node]
        self._ahead = [0.0] * ranks
        """What is still to be done of the branches that a rank has."""

    def run(self, node: ir.Node) -> None:
        """Place a node where it finishes first."""
        near: dict[int, float] = {}
        far: list[tuple[float, int]] = []
        base = 0.0
        for value in self._body.reads[node]:
            maker = self._body.maker[value]
            made = self._finish.get(maker, 0.0)
            home = self._owner.get(maker, ANYBODY)
            if home == ANYBODY or maker in self._everywhere:
                base = max(base, made)
            else:
                near[home] = max(near.get(home, 0.0), made)
                far.append((made + self._transfer(value), home))
        far.sort(reverse=True)
        number = self._branch.get(node)
        best = (math.inf, math.inf, False, 0)
        for rank in self._choice(number, near):
            away = next((moment for moment, home in far if home != rank), 0.0)
            start = max(base, self.free[rank], near.get(rank, 0.0), away)
            best = min(best, (start + self._ahead[rank], start, rank not in near, rank))
        _, start, _, rank = best
        if math.isinf(start):  # values of several ranks that cannot travel: they will be made twice
            rank = far[0][1] if number is None else rank
            start = max(self.free)
        if number is not None:
            if number not in self._seat:
                self._seat[number] = rank
                self._ahead[rank] += self._work[number]
            self._ahead[rank] -= self._body.seconds[node]
        self._owner[node] = rank
        self.free[rank] = self._finish[node] = start + self._body.seconds[node]

    def _choice(self, number: int | None, near: Mapping[int, float]) -> set[int]:
        """Ranks that may be the best for a node: ranks that have nothing that it reads differ in nothing else."""
        if number in self._seat:
            return {self._seat[number]}
        return {
            *near,
            min(range(len(self.free)), key=lambda rank: (self.free[rank] + self._ahead[rank], rank)),
        }

    def all_run(self, node: ir.Node, seconds: float) -> None:
        """Place a loop that all ranks run together."""
        end = max(self.free) + seconds
        self.free = [end] * len(self.free)
        self._finish[node] = end
        self._everywhere.add(node)

    def _transfer(self, value: ir.Value) -> float:
        return self._line.seconds(nbytes(value)) if can_travel(value) else math.inf
