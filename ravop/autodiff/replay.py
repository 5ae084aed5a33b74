"""Copies of nodes in the current scope, with other inputs: what inlines functions and recomputes the body of a loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from ravop.graph.graph import Graph
from ravop.graph.op import Op


def captures(node: ir.Node) -> list[ir.Value]:
    """The values that the bodies of a node read from around it, each once, in order of first use."""
    found: dict[ir.Value, None] = {}
    for body in bodies(node):
        inside: set[ir.Value] = {*body.inputs, *body.initializers.values()}
        for inner in body:
            for value in (*inner.inputs, *captures(inner)):
                if value is not None and value not in inside:
                    found[value] = None
            inside.update(inner.outputs)
        found.update(dict.fromkeys(value for value in body.outputs if value not in inside))
    return list(found)


def bodies(node: ir.Node) -> list[ir.Graph]:
    return [attr.as_graph() for attr in node.attributes.values() if attr.type == ir.AttributeType.GRAPH]


class Replay:
    """Makes copies of nodes in the current scope of `graph`; `mapping` tells which op stands for a copied value.

    A value without an entry stands for itself: an outer value that the copy reads too.
    """

    def __init__(self, graph: Graph, mapping: dict[ir.Value, Op]) -> None:
        self.graph = graph
        self.mapping = mapping

    def op(self, value: ir.Value) -> Op:
        found = self.mapping.get(value)
        return self.graph.op_of(value) if found is None else found

    def run(
        self, body: Iterable[ir.Node], outputs: Sequence[ir.Value], constants: Iterable[ir.Value] = ()
    ) -> list[Op]:
        """Copy the nodes and `constants` of a body. → the ops that stand for `outputs`."""
        for value in constants:
            if value.const_value is not None:
                self.mapping[value] = self.graph.constant(value.const_value.numpy())
        for node in body:
            self._copy(node)
        return [self.op(value) for value in outputs]

    def _copy(self, node: ir.Node) -> None:
        value = node.attributes.get("value")
        if node.op_type == "Constant" and node.domain == "" and value is not None:
            # As a constant of this scope, so that rules can read it.
            self.mapping[node.outputs[0]] = self.graph.constant(value.as_tensor().numpy())
            return
        attributes = {
            name: self._copy_body(attr.as_graph()) if attr.type == ir.AttributeType.GRAPH else attr.value
            for name, attr in node.attributes.items()
        }
        types = [(op.dtype, op.shape) for op in map(self.graph.op_of, node.outputs)]
        made = self.graph.apply(
            node.op_type, [None if value is None else self.op(value) for value in node.inputs], attributes,
            domain=node.domain, outputs=types,
        )  # fmt: skip
        copied = made[0].value.producer()
        if copied is not None and node.name in self.graph.node_lines:
            self.graph.node_lines[str(copied.name)] = self.graph.node_lines[node.name]
            copied.metadata_props.update(node.metadata_props)
        self.mapping.update(zip(node.outputs, made, strict=True))

    def _copy_body(self, body: ir.Graph) -> ir.Graph:
        with self.graph.body("body") as scope:
            for value in body.inputs:
                old = self.graph.op_of(value)
                self.mapping[value] = self.graph.placeholder(old.dtype, old.shape)
            outputs = self.run(body, body.outputs, body.initializers.values())
            scope.ir.outputs.extend(op.value for op in outputs)
        return scope.ir
