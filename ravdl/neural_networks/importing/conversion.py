"""Nodes as layers: one function per operator, and `tail`, which goes back from an output as long as nodes are layers.

A node is a layer where our layer computes the same, and has its weights to itself: parameters that are used in several places
(tied ones), or computed from others, stay with the nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from ravdl.neural_networks.importing.analysis import Analysis, Parameter, Step
from ravdl.neural_networks.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPooling2D,
)
from ravdl.neural_networks.symbols import FLOAT
from ravop.errors import RavenError
from ravop.protocol.tensors import Array

MAX_LAYERS = 256
"""Of one output: what is before them stays nodes, so that a file of many nodes costs no more as layers."""


@dataclass(frozen=True)
class Weight:
    """A layer's weight to be."""

    values: Array
    parameter: Parameter | None
    """What it is in the model; None where it was computed from that."""


@dataclass(frozen=True)
class Part:
    """A layer to make: its class, arguments and weights by their names within the layer."""

    kind: type[Layer]
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Weight] = field(default_factory=dict)

    def make(self) -> Layer:
        return self.kind(**self.arguments)


@dataclass(frozen=True)
class Tail:
    """The layers before an output, in order, and the value that goes into the first of them."""

    value: ir.Value
    parts: tuple[Part, ...]


class _NoLayer(Exception):  # noqa: N818 - an answer
    """Why a node is no layer."""


def tail(model: Analysis, output: ir.Value, named: bool) -> Tail:
    """As many layers as there are before this output. `named`: only those whose weights are parameters as they stand."""
    value, cut = output, output
    if not model.sound:
        return Tail(output, ())
    parts: list[Part] = []
    found: list[Part] = []
    uses = 1 if sum(other is output for other in model.outputs) == 1 else 2
    while True:
        steps = _steps(model, value, uses)
        part = None if steps is None else _part(steps, named)
        if steps is None or isinstance(part, bool) or len(parts) == MAX_LAYERS:
            return Tail(cut, tuple(found[::-1]))
        if part is not None:
            parts.append(part)
        value, uses = steps[0].data, 0
        if value.is_graph_input() or value.name in model.names:
            cut, found = value, list(parts)


def _steps(model: Analysis, value: ir.Value, free: int) -> list[Step] | None:
    """The node that gives this value to one place only, and before an Add of a bias the product; None where there is none."""
    last = _step(model, value, free)
    if last is None or last.op_type != "Add":
        return None if last is None else [last]
    product = _step(model, last.data, 0)
    return [product, last] if product is not None and product.op_type == "MatMul" else None


def _step(model: Analysis, value: ir.Value, free: int) -> Step | None:
    node = value.producer()
    alone = len(value.uses()) + value.is_graph_output() == 1 and (free < 2)
    if (
        node is None
        or not alone
        or value is not node.outputs[0]
        or node.op_type not in _LAYERS
        or node.domain
    ):
        return None
    if any(other.uses() or other.is_graph_output() for other in node.outputs[1:]):
        return None
    flowing = [place for place, given in enumerate(node.inputs) if not model.is_constant(given)]
    if node.op_type == "Reshape":
        flowing = flowing[:1]  # its second input may be computed from the batch's size
    if len(flowing) != 1 or (node.op_type != "Add" and flowing[0] != 0):
        return None
    return Step(node, model, flowing[0])


def _part(steps: Sequence[Step], named: bool) -> Part | Literal[False] | None:
    """The layer; None where the node does nothing; False where it is no layer."""
    try:
        found = _LAYERS[steps[0].op_type](*steps)
    except (_NoLayer, RavenError):
        return False
    weights = {} if found is None else found.weights
    if any(w.values.dtype != FLOAT for w in weights.values()):
        return False
    return False if named and any(w.parameter is None for w in weights.values()) else found


# ── one function per operator ────────────────────────────────────────────────────────────────────────────────────────
def _weight(step: Step, position: int, transposed: bool = False, factor: float = 1.0) -> Weight:
    values, parameter = step.constant(position), step.parameter(position)
    if parameter is None:
        value = step.node.inputs[position]
        assert value is not None
        if len(value.uses()) > 1 or (value.producer() is not None):
            raise _NoLayer("its weights are used elsewhere, or computed")
    if transposed:
        values = values.T
        parameter = None if parameter is None else Parameter(parameter.name, not parameter.transposed)
    if factor != 1:
        values, parameter = values.dtype.type(factor) * values, None
    return Weight(values, parameter)


def _dense(kernel: Weight, bias: Weight | None) -> Part:
    if kernel.values.ndim != 2:
        raise _NoLayer(f"the weights must be a matrix, not of shape {kernel.values.shape}")
    units = kernel.values.shape[1]
    weights = {"W": kernel}
    if bias is not None:
        if bias.values.size not in (1, units):
            raise _NoLayer(f"a bias of shape {bias.values.shape} does not fit {units} units")
        same = bias.values.shape == (units,)
        values = np.broadcast_to(bias.values.reshape(-1), (units,))
        weights["w0"] = bias if same else Weight(values, None)
    return Part(Dense, {"n_units": units, "use_bias": bias is not None}, weights)


def _gemm(step: Step) -> Part:
    """y = alpha * x @ W + beta * c; the factors go into the weights."""
    if step.attribute("transA", 0):
        raise _NoLayer("transA transposes the batch")
    kernel = _weight(step, 1, bool(step.attribute("transB", 0)), step.attribute("alpha", 1.0))
    return _dense(kernel, _weight(step, 2, factor=step.attribute("beta", 1.0)) if step.has(2) else None)


def _matmul(step: Step, added: Step | None = None) -> Part:
    if len(step.input_shape) not in (1, 2):
        raise _NoLayer("Dense takes flat samples and series")
    return _dense(_weight(step, 1), None if added is None else _weight(added, 1 - added.data_position))


def _conv(step: Step) -> Part:
    kernel = _weight(step, 1)
    if kernel.values.ndim != 4:
        raise _NoLayer(f"only 2-D convolutions, not filters of shape {kernel.values.shape}")
    weights = {"W": kernel} | ({"w0": _weight(step, 2)} if step.has(2) else {})
    size = kernel.values.shape[2:]
    arguments = {
        "n_filters": kernel.values.shape[0], "filter_shape": size, "groups": step.attribute("group", 1),
        "use_bias": step.has(2),
    }  # fmt: skip
    return Part(Conv2D, arguments | _geometry(step, size), weights)


def _max_pool(step: Step) -> Part:
    size = step.attribute("kernel_shape", ())
    if len(size) != 2:
        raise _NoLayer(f"only 2-D pooling, not windows of shape {tuple(size)}")
    if step.attribute("ceil_mode", 0):
        raise _NoLayer("ceil_mode is not supported")
    return Part(MaxPooling2D, {"pool_shape": tuple(size), **_geometry(step, tuple(size))})


def _geometry(step: Step, size: tuple[int, ...]) -> dict[str, Any]:
    """Stride and padding of a window; ONNX's pads are (top, left, bottom, right)."""
    if any(d != 1 for d in step.attribute("dilations", (1, 1))):
        raise _NoLayer("dilations are not supported")
    stride = tuple(step.attribute("strides", (1, 1)))
    return {"stride": stride, "padding": _PADDINGS[step.attribute("auto_pad", "NOTSET")](step, size, stride)}


def _explicit(step: Step, size: Sequence[int], stride: Sequence[int]) -> Any:
    top, left, bottom, right = step.attribute("pads", (0, 0, 0, 0))
    return (top, bottom), (left, right)


def _same_lower(step: Step, size: Sequence[int], stride: Sequence[int]) -> Any:
    """As many positions as `same`, with the odd row or column of padding at the beginning."""
    totals = [
        max((-(-length // s) - 1) * s + k - length, 0)
        for length, k, s in zip(step.input_shape[1:], size, stride, strict=True)
    ]
    return tuple((total - total // 2, total // 2) for total in totals)


_PADDINGS: dict[str, Callable[[Step, Sequence[int], Sequence[int]], Any]] = {
    "NOTSET": _explicit,
    "VALID": lambda *_: "valid",
    "SAME_UPPER": lambda *_: "same",
    "SAME_LOWER": _same_lower,
}


def _batch_normalization(step: Step) -> Part:
    if len(step.input_shape) == 2 or not step.attribute("spatial", 1):
        raise _NoLayer("series have their channels last here")
    names = ("gamma", "beta", "running_mean", "running_var")
    return Part(
        BatchNormalization,
        {"momentum": step.attribute("momentum", 0.9), "epsilon": step.attribute("epsilon", 1e-5)},
        {name: _weight(step, position) for position, name in enumerate(names, 1)},
    )


def _dropout(step: Step) -> Part:
    ratio = np.ravel(step.constant(1) if step.has(1) else step.attribute("ratio", 0.5))
    if ratio.size != 1 or not 0 <= ratio[0] < 1:
        raise _NoLayer
    return Part(Dropout, {"p": float(ratio[0])})


def _softmax(step: Step) -> Part:
    rank = 1 + len(step.input_shape)
    axis = step.attribute("axis", -1 if step.model.opset >= 13 else 1)
    if axis % rank != rank - 1:
        raise _NoLayer("only over the last axis")
    return Part(Activation, {"name": "softmax"})


def _flatten(step: Step) -> Part:
    if step.attribute("axis", 1) not in (1, -len(step.input_shape)):
        raise _NoLayer("only from the first axis after the batch on")
    return Part(Flatten)


def _reshape(step: Step) -> Part:
    if step.output_shape != (math.prod(step.input_shape),):
        raise _NoLayer(f"only to flatten, not from {step.input_shape} to {step.output_shape}")
    return Part(Flatten)


def _activation(name: str) -> Callable[[Step], Part]:
    return lambda _: Part(Activation, {"name": name})


def _no_product(*_: Step) -> Part:
    raise _NoLayer("an Add is a bias only after a product")


_LAYERS: Mapping[str, Callable[..., Part | None]] = {
    "Add": _no_product,
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "Identity": lambda _: None,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Relu": _activation("relu"),
    "Reshape": _reshape,
    "Sigmoid": _activation("sigmoid"),
    "Softmax": _softmax,
    "Tanh": _activation("tanh"),
}
"""Operator → the layer it becomes; None where it does nothing."""
