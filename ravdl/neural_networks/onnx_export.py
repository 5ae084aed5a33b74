"""A model as an ONNX file for inference: what `NeuralNetwork.get_onnx_model` writes.

The file has inputs of shape (batch, *shape) and outputs, for any batch size, and initializers that bear the weights' names in
the model. A model of one input and one output calls them `input` and `output`, unless the input has a name. Dropout stays in
it as ONNX's Dropout in inference mode, which passes its input through, so that a later import can train on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ravdl.neural_networks.layers import Dropout, Layer
from ravdl.neural_networks.network import Call, Network
from ravdl.neural_networks.symbols import FLOAT
from ravop.errors import InvalidModelError
from ravop.graph import Graph, Op
from ravop.graph.check import Limits, check_model
from ravop.graph.graph import current_graph_or_none, set_current_graph
from ravop.graph.serde import IR_VERSION, PRODUCER, to_bytes
from ravop.protocol.tensors import Array

BATCH = "batch"
_LIMITS = Limits(bytes=2**31 - 1)
"""An ONNX file cannot be larger than 2 GiB."""


def export(network: Network, weights: Mapping[str, Array], path: Path) -> None:
    """Write the network, with the weights given by their names in the model, to an ONNX file that passes `onnx.checker`.

    Raises `InvalidModelError` for a model of more than 2 GiB.
    """
    size = sum(array.nbytes for array in weights.values())
    if size > _LIMITS.bytes:
        raise InvalidModelError(
            "the model is too large for one ONNX file", expected=f"weights of at most {_LIMITS.bytes:,} bytes",
            received=f"{size:,} bytes", hint="save it by model.save(path), which has no such limit",
        )  # fmt: skip
    data = to_bytes(trace(network, weights))
    check_model(data, _LIMITS)
    path.write_bytes(data)


def trace(network: Network, weights: Mapping[str, Array]) -> ir.Model:
    """The network in inference mode as an ONNX model; see the module. The current graph stays the current one."""
    outer = current_graph_or_none()
    try:
        graph = Graph(name="model")
    finally:
        set_current_graph(outer)
    sources = [graph.placeholder(port.dtype, (BATCH, *port.shape)) for port in network.inputs]
    parameters = {name: graph.placeholder(FLOAT, spec.shape) for name, spec in network.weights().items()}
    values = list(sources)
    for call in network.calls:
        with graph.label(call.layer.name):
            values += _EXPORTED.get(type(call.layer), _call)(
                call, _given(call, values), _own(call.layer, parameters)
            )
    main = graph.main.ir
    for name, op in parameters.items():
        main.inputs.remove(op.value)
        op.value.name = name
        op.value.const_value = ir.Tensor(np.asarray(weights[name], FLOAT), name=name)
        main.register_initializer(op.value)
    for port, source in zip(network.inputs, sources, strict=True):
        source.value.name = port.name
    taken = {port.name for port in network.inputs} | set(parameters)
    for name, number in zip(network.output_names, network.outputs, strict=True):
        output = values[number]
        if output.value.is_graph_input() or output.value in main.outputs:
            (output,) = graph.apply("Identity", [output])
        output.value.name = f"{name}_output" if name in taken else name
        main.outputs.append(output.value)
    for name, value in list(main.initializers.items()):
        if name not in parameters:
            _constant_node(main, value)
    return ir.Model(main, ir_version=IR_VERSION, producer_name=PRODUCER)


def _constant_node(main: ir.Graph, value: ir.Value) -> None:
    """A node in place of an initializer: only weights are initializers, which imports take for what can be trained."""
    assert value.const_value is not None
    assert value.name is not None
    del main.initializers[value.name]
    node = ir.node("Constant", [], {"value": value.const_value})
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = value.name, value.type, value.shape
    value.replace_all_uses_with(node.outputs[0])
    main.insert_before(main[0], node)


def _given(call: Call, values: Sequence[Op]) -> list[Op]:
    given = [values[number] for number in call.inputs]
    if call.layer.takes_integers or call.layer.takes_anything:
        return given
    return [
        x if x.dtype == FLOAT else x.graph.apply("Cast", [x], {"to": int(ir.DataType.FLOAT)})[0]
        for x in given
    ]


def _own(layer: Layer, parameters: Mapping[str, Op]) -> dict[str, Op]:
    return {spec.name: parameters[layer.weight_name(spec)] for spec in layer.weights()}


def _call(call: Call, xs: Sequence[Op], weights: Mapping[str, Op]) -> Sequence[Op]:
    return call.layer.call_all(xs, weights)


def _dropout(call: Call, xs: Sequence[Op], weights: Mapping[str, Op]) -> Sequence[Op]:
    assert isinstance(call.layer, Dropout)
    (x,) = xs
    return x.graph.apply("Dropout", [x, x.graph.constant(np.array(call.layer.p, FLOAT))])[:1]


_EXPORTED: dict[type[Layer], Callable[[Call, Sequence[Op], Mapping[str, Op]], Sequence[Op]]] = {
    Dropout: _dropout
}
"""Layers whose node in a file is not what they compute in inference."""
