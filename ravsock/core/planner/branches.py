"""The branches of a body: sets of nodes that are best left on one machine, found along the edges.

What reads from one branch belongs to it. What joins several is light, and then anybody's: who needs it runs
it, on what the branches give; or it is heavy, and begins a branch. So the shards of a batch are branches from their data to
their gradients, and the sum of these and the optimizer's update are anybody's. Linear clustering (Kim and Browne,
"A general approach to mapping of parallel computation upon multiprocessor architectures", 1988) that may repeat work.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping

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
    joined: dict[ir.Node, int] = {}
    """Nodes after a join that are anybody's → bytes from which a branch can make what they give."""
    homes: dict[ir.Value, set[int]] = {}
    """What nobody owns → the branches that read it."""
    count = 0
    for node in body.nodes:
        if node in walls or node in loose:
            continue
        sizes: dict[int, int] = {}
        """Bytes of what it reads, by branch."""
        common = -1
        for value in body.reads[node]:
            maker = body.maker[value]
            if maker in branch:
                sizes[branch[maker]] = sizes.get(branch[maker], 0) + nbytes(value)
            elif maker in joined:
                common = max(common, min(joined[maker], nbytes(value)))
        free = [value for value in body.reads[node] if body.maker[value] in loose]
        if not sizes and common >= 0:
            # Cheap ends of branches are nobody's: what such a value is mixed with a mean of goes where it is read.
            sizes = {number: size for number, size in _only_homes(free, homes) if size > common}
        # A mean that comes back to a branch is part of it; a branch that comes to a sum is one more addend.
        if len(sizes) == 1 and common < max(sizes.values()):
            branch[node] = next(iter(sizes))
        elif (sizes or common >= 0) and _is_light(body, line, node):
            joined[node] = max(common, *sizes.values()) if sizes else common
        else:
            branch[node] = count
            count += 1
        if node in branch:
            for value in free:
                homes.setdefault(value, set()).add(branch[node])
    return branch


def _only_homes(
    values: Iterable[ir.Value], homes: Mapping[ir.Value, Collection[int]]
) -> Iterator[tuple[int, int]]:
    """Of values that one branch alone reads so far: that branch, and their bytes."""
    for value in values:
        if len(readers := homes.get(value, ())) == 1:
            yield next(iter(readers)), nbytes(value)


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
