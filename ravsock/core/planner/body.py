"""The body of a loop as gangs see it: its nodes, what they cost and read, and how wide it is."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ravop.graph.cost import bodies_of, scan_length
from ravop.graph.dtypes import from_ir
from ravop.protocol.parts import DTYPE_NAMES
from ravsock.core.planner.build import needed_nodes
from ravsock.core.planner.context import Context

_WORTH = 0.1
"""Loops below this share of their scope's time stay on one rank."""
_USED = 0.05
"""A width counts that lasts for this share of the critical path."""


def carry_count(node: ir.Node) -> int:
    """How many of a `Scan`'s inputs, and outputs, are carries."""
    return len(node.inputs) - node.attributes["num_scan_inputs"].as_int()


def is_plain_scan(node: ir.Node) -> bool:
    """Whether the node is a loop over first axes, forwards, of known length."""
    if node.op_type != "Scan" or node.domain or not scan_length(node):
        return False
    return not any(any(a.as_ints()) for name, a in node.attributes.items() if name.startswith("scan_"))


def can_travel(value: ir.Value) -> bool:
    """Whether ranks can exchange the value: its dtype and whole shape are known."""
    if value.shape is None or value.dtype is None or not all(isinstance(dim, int) for dim in value.shape):
        return False
    return value.dtype != ir.DataType.UNDEFINED and str(from_ir(value.dtype)) in DTYPE_NAMES


class Body:
    """The nodes of one body that are needed for `outputs`, what they cost, and what they read."""

    def __init__(self, graph: ir.Graph, outputs: Sequence[ir.Value], context: Context) -> None:
        self.graph = graph
        self.outputs = outputs
        self._context = context
        wanted = needed_nodes(graph, outputs, context.reads)
        context.mark_constants(wanted)
        self.nodes = [node for node in wanted if not context.is_constant_node(node)]
        self.seconds = {node: context.seconds(node) for node in self.nodes}
        self.maker = {value: node for node in self.nodes for value in node.outputs}
        self.reads = {
            node: tuple(value for value in context.reads(node) if value in self.maker) for node in self.nodes
        }
        """Only values made in this body."""
        self.work = sum(self.seconds.values())
        self._loops: dict[ir.Node, Body] = {}

    def loop(self, node: ir.Node) -> Body:
        """The body of a loop in this one."""
        found = self._loops.get(node)
        if found is None:
            (graph,) = bodies_of(node)
            read = {value for other in self.nodes for value in self._context.reads(other)} | set(self.outputs)
            carries = carry_count(node)
            kept = [i for i, value in enumerate(node.outputs) if i < carries or value in read]
            found = self._loops[node] = Body(graph, [graph.outputs[i] for i in kept], self._context)
        return found

    def loops(self) -> list[ir.Node]:
        """Loops that are worth a look inside, the bodies of which are all there is to it."""
        return [n for n in self.nodes if is_plain_scan(n) and self.seconds[n] >= _WORTH * self.work]

    def ways(self) -> dict[ir.Node, float]:
        """The longest way from each node's start to the end of the body."""
        way: dict[ir.Node, float] = {}
        beyond: dict[ir.Node, float] = {}
        for node in reversed(self.nodes):
            way[node] = self.seconds[node] + beyond.get(node, 0.0)
            for value in self.reads[node]:
                maker = self.maker[value]
                beyond[maker] = max(beyond.get(maker, 0.0), way[node])
        return way

    def width(self) -> int:
        """How many machines it keeps busy for a while when each node starts as soon as it can; loops may be
        wider inside."""
        finish: dict[ir.Node, float] = {}
        events: list[tuple[float, int]] = []
        for node in self.nodes:
            start = max((finish[self.maker[value]] for value in self.reads[node]), default=0.0)
            finish[node] = start + self.seconds[node]
            events += [(start, 1), (finish[node], -1)]
        span = max(finish.values(), default=0.0)
        lasting: dict[int, float] = {}
        busy, since = 0, 0.0
        for moment, change in sorted(events):
            lasting[busy] = lasting.get(busy, 0.0) + moment - since
            busy, since = busy + change, moment
        total, found = 0.0, 1
        for count in sorted(lasting, reverse=True):
            total += lasting[count]
            if total >= _USED * span:
                found = max(count, 1)
                break
        return max([found, *(self.loop(node).width() for node in self.loops())])
