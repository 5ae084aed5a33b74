"""The branches of a body: sets of nodes that are best left on one machine, found along the edges.

What reads from one branch belongs to it. What joins several is light, and then anybody's: who needs it runs
it, on what the branches give; or it is heavy, and begins a branch. So the shards of a batch are branches from their data to
their gradients, and the sum of these and the optimizer's update are anybody's. Linear clustering (Kim and Browne,
"A general approach to mapping of parallel computation upon multiprocessor architectures", 1988) that may repeat work.
"""

from __future__ import annotations

from collections.abc import Collection, Container

import onnx_ir as ir

from ravop.graph.cost import nbytes
from ravsock.core.fleet import Line
from ravsock.core.planner.body import Body

_LIGHT = 0.5
"""Repeated where that costs less than this share of sending it."""
_ROUNDS = 3


def find_branches(
    body: Body, line: Line, anybodys: Collection[ir.Node], walls: Container[ir.Node]
) -> dict[ir.Node, int]:
    """Node → the number of its branch; nodes that are in none are anybody's. `walls` are in none either."""
    loose = set(anybodys)
    for _ in range(_ROUNDS):
        found = _label(body, line, loose, walls)
        trifles = _trifles(body, line, found)
        if not trifles:
            break
        loose |= {node for node, branch in found.items() if branch in trifles}
    return found


def _label(
    body: Body, line: Line, loose: Container[ir.Node], walls: Container[ir.Node]
) -> dict[ir.Node, int]:
    branch: dict[ir.Node, int] = {}
    joined: set[ir.Node] = set()
    """Nodes after a join that are anybody's."""
    count = 0
    for node in body.nodes:
        if node in walls or node in loose:
            continue
        makers = dict.fromkeys(body.maker[value] for value in body.reads[node])
        near = {branch[maker] for maker in makers if maker in branch}
        if len(near) == 1:
            branch[node] = next(iter(near))
        elif (near or not joined.isdisjoint(makers)) and _is_light(body, line, node):
            joined.add(node)
        else:
            branch[node] = count
            count += 1
    return branch


def _is_light(body: Body, line: Line, node: ir.Node) -> bool:
    size = max([*map(nbytes, body.reads[node]), *map(nbytes, node.outputs)])
    return body.seconds[node] <= _LIGHT * line.seconds(size)


def _trifles(body: Body, line: Line, branch: dict[ir.Node, int]) -> set[int]:
    """Branches that cost less than sending what leaves them."""
    work: dict[int, float] = {}
    leaving: dict[int, dict[ir.Value, None]] = {}
    for node, number in branch.items():
        work[number] = work.get(number, 0.0) + body.seconds[node]
    for node in body.nodes:
        for value in body.reads[node]:
            home = branch.get(body.maker[value])
            if home is not None and home != branch.get(node):
                leaving.setdefault(home, {})[value] = None
    return {
        number
        for number, seconds in work.items()
        if seconds <= _LIGHT * line.seconds(sum(map(nbytes, leaving.get(number, ()))))
    }
