"""What all scopes of one plan share: costs, the values that are constants, fresh names, and the models made so far."""

from __future__ import annotations

import onnx_ir as ir

from ravop.graph.cost import NodeCost, function_costs, nbytes, node_cost, read_by
from ravop.protocol.tensors import sha256
from ravsock.core.fleet import Line
from ravsock.core.planner.cluster import WIRE

CHEAP_SECONDS = 1e-3
DEAREST_COPY = 0.25
"""Seconds of computing that are rather repeated than shipped, however large the result."""


class Context:
    """One per call of `plan_graph`; grows while scopes are planned, outer ones first."""

    def __init__(self, model: ir.Model, gflops: float, unit_seconds: float, line: Line) -> None:
        self.model = model
        self.gflops = gflops
        self.unit_seconds = unit_seconds
        self.line = line
        """Between the ranks of a gang."""
        self.functions = function_costs(model)
        self.models: dict[str, bytes] = {}
        self._costs: dict[ir.Node, NodeCost] = {}
        self._reads: dict[ir.Node, tuple[ir.Value, ...]] = {}
        self._constant: dict[ir.Node, float] = {}
        self._names = {value.name for value in _all_values(model.graph)}
        self._givers = {value.name or "": model.graph for value in model.graph.outputs}

    def cost(self, node: ir.Node) -> NodeCost:
        found = self._costs.get(node)
        if found is None:
            found = self._costs[node] = node_cost(node, self.functions)
        return found

    def seconds(self, node: ir.Node) -> float:
        return self.cost(node).seconds(self.gflops)

    def reads(self, node: ir.Node) -> tuple[ir.Value, ...]:
        """All values that the node or its bodies read from its scope or outer ones."""
        found = self._reads.get(node)
        if found is None:
            found = self._reads[node] = tuple(read_by(node))
        return found

    def mark_constants(self, nodes: list[ir.Node]) -> None:
        """Find the nodes, in their order, whose results are rather computed again where needed than shipped: they
        depend on constants alone and are cheap, all that they depend on included."""
        for node in nodes:
            if all(self.is_constant(value) for value in self.reads(node)):
                producers = {value.producer() for value in self.reads(node)} - {None}
                seconds = self.seconds(node) + sum(self._constant[p] for p in producers if p is not None)
                size = sum(map(nbytes, node.outputs))
                if seconds <= max(CHEAP_SECONDS, min(size / WIRE, DEAREST_COPY)):
                    self._constant[node] = seconds

    def is_constant(self, value: ir.Value) -> bool:
        """Whether units embed what makes the value instead of receiving it."""
        producer = value.producer()
        return value.is_initializer() if producer is None else producer in self._constant

    def is_constant_node(self, node: ir.Node) -> bool:
        return node in self._constant

    def fresh(self, name: str | None) -> str:
        """A name for a value that the graph does not have, derived from `name`."""
        stem, number = name or "unnamed", 1
        while f"{stem}#{number}" in self._names:
            number += 1
        self._names.add(f"{stem}#{number}")
        return f"{stem}#{number}"

    def claim(self, name: str, scope: ir.Graph) -> bool:
        """Whether a unit of this scope may give a constant under its own `name`: no other scope does."""
        return self._givers.setdefault(name, scope) is scope

    def ship(self, data: bytes) -> str:
        """Keep a model's bytes. → its hash."""
        sha = sha256(data)
        self.models[sha] = data
        return sha


def _all_values(graph: ir.Graph) -> list[ir.Value]:
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph.all_nodes():
        values += node.outputs
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                body = attribute.as_graph()
                values += [*body.inputs, *body.initializers.values()]
    return values
