"""Builds the model of one subgraph with canonical names, so that equal subgraphs are equal bytes.

Nodes are called `n0`, `n1`, … in the order they are copied, values `v…`, inputs `in…`, outputs `out…`, whatever
they are called in the graph. What depends on constants alone is copied in, everything else from outside is an input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from ravop.errors import InvalidModelError
from ravop.graph.cost import scan_length
from ravop.graph.dtypes import from_ir
from ravop.graph.serde import PRODUCER, to_bytes
from ravop.protocol.tensors import Array
from ravsock.core.plan import Port

DOMAIN = "ravop.local"


def needed_nodes(
    graph: Iterable[ir.Node], outputs: Iterable[ir.Value], reads: Callable[[ir.Node], Iterable[ir.Value]]
) -> list[ir.Node]:
    """The nodes that `outputs` depend on, in their order."""
    wanted = set(outputs)
    found = []
    for node in reversed(list(graph)):
        if not wanted.isdisjoint(node.outputs):
            found.append(node)
            wanted.update(reads(node))
    return found[::-1]


class ModelBuilder:
    """Copies nodes of `model` into a new model. Use `node` for each, then `output` for each result, then `finish`."""

    def __init__(
        self,
        model: ir.Model,
        is_constant: Callable[[ir.Value], bool],
        reads: Callable[[ir.Node], Iterable[ir.Value]],
    ) -> None:
        self._model = model
        self._is_constant = is_constant
        self._reads = reads
        self._copies: dict[ir.Value, ir.Value] = {}
        self._inputs: list[ir.Value] = []
        self._nodes: list[ir.Node] = []
        self._initializers: list[ir.Value] = []
        self._outputs: list[ir.Value] = []
        self._functions: dict[ir.OperatorIdentifier, ir.Function] = {}
        self._values = 0
        self._function_count = 0
        self.names: list[str] = []
        """The graph's name of each node of the new model."""
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []

    # ── what a model is made of ──────────────────────────────────────────────────────────────────────────────────────
    def input(self, name: str, dtype: ir.DataType | None, shape: ir.Shape | None) -> ir.Value:
        """A new input of the model, called `name` there."""
        value = ir.Value(name=name, type=None if dtype is None else ir.TensorType(dtype), shape=shape)
        self._inputs.append(value)
        return value

    def port(self, value: ir.Value, name: str) -> ir.Value:
        """A new input for `value`, which the plan calls `name`."""
        self.inputs.append(Port(f"in{len(self.inputs)}", name))
        return self.input(self.inputs[-1].name, value.dtype, copy_shape(value.shape))

    def take(self, value: ir.Value) -> str:
        """Let `value`, which the model will read, come from outside. → the port's name."""
        self._copies[value] = self.port(value, value.name or "")
        return self.inputs[-1].name

    def constant(self, array: Array) -> ir.Value:
        """A new constant of the main graph."""
        self._initializers.append(self._tensor(array))
        return self._initializers[-1]

    def add(self, op_type: str, inputs: Sequence[ir.Value | None], origin: str, outputs: int = 1, *,
            attributes: Iterable[ir.Attr] = (), domain: str = "", into: list[ir.Node] | None = None) -> ir.Node:  # fmt: skip
        """A new node that stands for the graph's node `origin`."""
        name = f"n{len(self.names)}"
        self.names.append(origin)
        return self._append(name, op_type, inputs, outputs, attributes, domain, into)

    def resolve(self, value: ir.Value) -> ir.Value:
        """The new model's counterpart of a value of the graph: a copy, a constant, or an input made for it."""
        found = self._copies.get(value)
        if found is not None:
            return found
        if not self._is_constant(value):
            self._copies[value] = self.port(value, value.name or "")
            return self._copies[value]
        for node in self._constant_chain(value):
            self.node(node)
        if value not in self._copies:
            self._copies[value] = self.constant(array_of(value))
        return self._copies[value]

    def output(self, value: ir.Value, name: str) -> None:
        """Make the new model's `value` an output, which the plan calls `name`."""
        port = Port(f"out{len(self.outputs)}", name)
        if value.producer() is None or any(value is other for other in self._outputs):
            (value,) = self._typed(self.add("Identity", [value], "").outputs, [value])
        value.name = port.name
        self.outputs.append(port)
        self._outputs.append(value)

    def node(self, node: ir.Node, into: list[ir.Node] | None = None) -> None:
        """Copy a node of the graph with its bodies; into the main graph, or a body's list of nodes."""
        if node.op_type == "Scan" and scan_length(node) == 0:
            self._no_iterations(node, into)
            return
        inputs = [None if value is None else self.resolve(value) for value in node.inputs]
        name = f"n{len(self.names)}"
        self.names.append(node.name or "")
        function = self._model.functions.get(node.op_identifier())
        op_type, domain = (node.op_type, "") if function is None else (self._function(function).name, DOMAIN)
        attributes = [self._attribute(attribute) for attribute in node.attributes.values()]
        copy = self._append(name, op_type, inputs, len(node.outputs), attributes, domain, into)
        self._typed(copy.outputs, node.outputs)
        self._copies.update(zip(node.outputs, copy.outputs, strict=True))

    def body(self, graph: ir.Graph, outputs: Sequence[ir.Value]) -> ir.Graph:
        """A copy of a body that gives only `outputs`, each by a node of its own."""
        inputs = [self._typed([ir.Value(name=self._fresh())], [value])[0] for value in graph.inputs]
        self._copies.update(zip(graph.inputs, inputs, strict=True))
        initializers: list[ir.Value] = []
        nodes: list[ir.Node] = []
        wanted = needed_nodes(graph, outputs, self._reads)
        used = {value for node in wanted for value in self._reads(node)} | set(outputs)
        for value in graph.initializers.values():
            if value in used:
                self._copies[value] = self._tensor(array_of(value))
                initializers.append(self._copies[value])
        for node in wanted:
            self.node(node, nodes)
        given: list[ir.Value] = []
        for value in outputs:
            copy = self.resolve(value)
            producer = value.producer()
            if producer is None or producer.graph is not graph or any(copy is other for other in given):
                (copy,) = self._typed(self.add("Identity", [copy], "", into=nodes).outputs, [copy])
            given.append(copy)
        return ir.Graph(inputs, given, nodes=nodes, initializers=initializers, name="body")

    def finish(self) -> bytes:
        """The bytes of the finished model, accepted by ONNX's checker."""
        opset = self._model.opset_imports[""]
        imports = {"": opset} | ({DOMAIN: 1} if self._functions else {})
        graph = ir.Graph(
            self._inputs,
            self._outputs,
            nodes=self._nodes,
            initializers=self._initializers,
            opset_imports=imports,
            name="subgraph",
        )
        model = ir.Model(
            graph,
            ir_version=self._model.ir_version,
            producer_name=PRODUCER,
            functions=tuple(self._functions.values()),
        )
        data = to_bytes(model)
        onnx.checker.check_model(data)
        return data

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _append(self, name: str, op_type: str, inputs: Sequence[ir.Value | None], outputs: int, attributes: Iterable[ir.Attr],
                domain: str, into: list[ir.Node] | None) -> ir.Node:  # fmt: skip
        node = ir.Node(domain, op_type, inputs, attributes, num_outputs=outputs, name=name)
        for value in node.outputs:
            value.name = self._fresh()
        (self._nodes if into is None else into).append(node)
        return node

    def _fresh(self) -> str:
        self._values += 1
        return f"v{self._values - 1}"

    def _tensor(self, array: Array) -> ir.Value:
        tensor = ir.Tensor(array, name=self._fresh())
        return ir.Value(
            name=tensor.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor
        )

    def _typed(self, copies: Sequence[ir.Value], values: Sequence[ir.Value]) -> Sequence[ir.Value]:
        for copy, value in zip(copies, values, strict=True):
            copy.type = value.type
            copy.shape = copy_shape(value.shape)
        return copies

    def _constant_chain(self, value: ir.Value) -> list[ir.Node]:
        """The nodes still to be copied for a constant value, in an order in which they can run."""
        found: dict[ir.Node, None] = {}
        pending = [(value, False)]
        while pending:
            current, ready = pending.pop()
            producer = current.producer()
            if producer is None or producer in found or current in self._copies:
                continue
            if ready:
                found[producer] = None
            else:
                pending.append((current, True))
                pending += [(read, False) for read in reversed(list(self._reads(producer)))]
        return list(found)

    def _attribute(self, attribute: ir.Attr) -> ir.Attr:
        if attribute.type == ir.AttributeType.GRAPH:
            graph = attribute.as_graph()
            return ir.AttrGraph(attribute.name, self.body(graph, graph.outputs))
        if attribute.type == ir.AttributeType.TENSOR:
            return ir.AttrTensor(attribute.name, ir.Tensor(attribute.as_tensor().numpy()))
        return attribute

    def _function(self, function: ir.Function) -> ir.Function:
        found = self._functions.get(function.identifier())
        if found is None:
            self._function_count += 1
            name = f"f{self._function_count}"
            graph = self.body(function.graph, function.outputs)
            graph.opset_imports.update({"": self._model.opset_imports[""], DOMAIN: 1})
            found = self._functions[function.identifier()] = ir.Function(
                DOMAIN, name, graph=graph, attributes=()
            )
        return found

    def _no_iterations(self, node: ir.Node, into: list[ir.Node] | None) -> None:
        """A loop over nothing, which ONNX Runtime refuses: carries pass, and what it stacks is empty."""
        carries = len(node.inputs) - node.attributes["num_scan_inputs"].as_int()
        for value, output in zip(node.inputs[:carries], node.outputs[:carries], strict=True):
            if value is not None:
                self._copies[output] = self.add(
                    "Identity", [self.resolve(value)], node.name or "", into=into
                ).outputs[0]
        for output in node.outputs[carries:]:
            dims = [dim if isinstance(dim, int) else 0 for dim in (output.shape or ())]
            fill = ir.AttrTensor("value", ir.Tensor(np.zeros(1, from_ir(output.dtype or ir.DataType.FLOAT))))
            shape = self.constant(np.array([0, *dims[1:]], np.int64))
            copy = self.add("ConstantOfShape", [shape], node.name or "", attributes=[fill], into=into)
            self._copies[output] = copy.outputs[0]
        self._typed([self._copies[output] for output in node.outputs], node.outputs)


def array_of(value: ir.Value) -> Array:
    """The data of an initializer. Raises `InvalidModelError` for one without."""
    if value.const_value is None:
        raise InvalidModelError("a constant without data", received=value.name)
    return value.const_value.numpy()


def copy_shape(shape: ir.Shape | None) -> ir.Shape | None:
    return None if shape is None else ir.Shape(shape.dims)
