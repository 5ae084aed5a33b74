"""The order of nodes: producers before consumers. ONNX asks for it, and some exporters do not keep it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, MutableSequence
from typing import Any

from onnx import GraphProto, NodeProto

from ravop.errors import InvalidModelError


def in_order(nodes: MutableSequence[NodeProto] | Any, where: str) -> None:
    """Put `nodes` in order, in place, those of their bodies too. Raises `InvalidModelError` for a cycle, naming its nodes."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                in_order(attribute.g.node, node.name or node.op_type)
    makers = {name: position for position, node in enumerate(nodes) for name in node.output if name}
    needs = [sorted({makers[name] for name in reads(node) if name in makers}) for node in nodes]
    if all(not made or made[-1] < position for position, made in enumerate(needs)):
        return
    order = _sorted(needs)
    if len(order) < len(needs):
        placed = set(order)
        cycle = [
            f"{node.name or node.output[0]} ({node.op_type})"
            for position, node in enumerate(nodes)
            if position not in placed
        ]
        raise InvalidModelError("nodes of the model wait for each other: it has a cycle", expected="a graph without cycles",
                                received=", ".join(cycle[:20]), op=where)  # fmt: skip
    copies = [NodeProto.FromString(nodes[position].SerializeToString()) for position in order]
    del nodes[:]
    nodes.extend(copies)


def _sorted(needs: list[list[int]]) -> list[int]:
    """Positions, each after those that it needs; those on a cycle or behind one are left out."""
    waiting = [len(made) for made in needs]
    users: list[list[int]] = [[] for _ in needs]
    for position, made in enumerate(needs):
        for maker in made:
            users[maker].append(position)
    ready = deque(position for position, count in enumerate(waiting) if not count)
    order: list[int] = []
    while ready:
        position = ready.popleft()
        order.append(position)
        for user in users[position]:
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    return order


def reads(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, those that its bodies take from around them included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from _outer(attribute.g)


def _outer(graph: GraphProto) -> Iterator[str]:
    own = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        own.update(node.output)
    for node in graph.node:
        yield from (name for name in reads(node) if name not in own)
    yield from (output.name for output in graph.output if output.name not in own)
