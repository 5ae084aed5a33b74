"""A model as an ONNX file for inference: what `NeuralNetwork.get_onnx_model` writes.

The file has one input `input` of shape (batch, *input_shape) and one output `output`, for any batch size, and initializers that
bear the weights' names in the model. Dropout stays in it as ONNX's Dropout in inference mode, which passes its input
through, so that a later import can train on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ravdl.neural_networks.layers import Dropout, Layer
from ravop.graph import Graph, Op
from ravop.graph.check import Limits, check_model
from ravop.graph.graph import current_graph_or_none, set_current_graph
from ravop.graph.serde import IR_VERSION, PRODUCER, to_bytes
from ravop.protocol.tensors import Array

INPUT, OUTPUT, BATCH = "input", "output", "batch"
_FLOAT = np.dtype(np.float32)
_LIMITS = Limits(bytes=2**31 - 1)
"""An ONNX file cannot be larger than 2 GiB."""


def export(layers: Sequence[Layer], weights: Mapping[str, Array], path: Path) -> None:
    """Write the layers, with the weights given by their names in the model, to an ONNX file that passes `onnx.checker`.

    Raises `InvalidModelError` for a model of more than 2 GiB.
    """
    data = to_bytes(trace(layers, weights))
    check_model(data, _LIMITS)
    path.write_bytes(data)


def trace(layers: Sequence[Layer], weights: Mapping[str, Array]) -> ir.Model:
    """The layers in inference mode as an ONNX model; see the module. The current graph stays the current one."""
    outer = current_graph_or_none()
    try:
        graph = Graph(name="model")
    finally:
        set_current_graph(outer)
    source = output = graph.placeholder(_FLOAT, (BATCH, *layers[0].input_shape))
    parameters: dict[str, Op] = {}
    for layer in layers:
        own = {spec.name: graph.placeholder(_FLOAT, spec.shape) for spec in layer.weights()}
        parameters |= {layer.weight_name(spec): own[spec.name] for spec in layer.weights()}
        with graph.label(layer.name):
            output = _EXPORTED.get(type(layer), _call)(layer, output, own)
    if output is source:
        (output,) = graph.apply("Identity", [source])
    main = graph.main.ir
    for name, op in parameters.items():
        main.inputs.remove(op.value)
        op.value.name = name
        op.value.const_value = ir.Tensor(np.asarray(weights[name], _FLOAT), name=name)
        main.register_initializer(op.value)
    source.value.name, output.value.name = INPUT, OUTPUT
    main.outputs.append(output.value)
    return ir.Model(main, ir_version=IR_VERSION, producer_name=PRODUCER)


def _call(layer: Layer, x: Op, weights: Mapping[str, Op]) -> Op:
    return layer.call(x, weights)


def _dropout(layer: Layer, x: Op, weights: Mapping[str, Op]) -> Op:
    assert isinstance(layer, Dropout)
    (output,) = x.graph.apply("Dropout", [x, x.graph.constant(np.array(layer.p, _FLOAT))])
    return output


_EXPORTED: dict[type[Layer], Callable[[Layer, Op, Mapping[str, Op]], Op]] = {Dropout: _dropout}
"""Layers whose node in a file is not what they compute in inference."""
