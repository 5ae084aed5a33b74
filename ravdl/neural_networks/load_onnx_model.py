"""`load_onnx`: an ONNX file as a `NeuralNetwork` that can be trained further.

Files exported from here and from PyTorch, whose nodes are in one row from input to output. Each node becomes a layer by the
table `_LAYERS`; what has no place there, or an attribute that our layers do not have, is named in one error, node by node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

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
from ravdl.neural_networks.loss_functions import Loss
from ravdl.neural_networks.model import NeuralNetwork
from ravdl.neural_networks.onnx_chain import Chain, Step, read_chain
from ravdl.neural_networks.optimizers import Optimizer
from ravop.errors import RavenError, UnsupportedOnnxError
from ravop.protocol.tensors import Array


def load_onnx(
    model_file_path: str | PathLike[str], optimizer: Optimizer, loss: type[Loss] | Loss, **options: Any
) -> NeuralNetwork:
    """The model in an ONNX file, with its weights, ready to `fit` or `predict`.

    Supported: Gemm, MatMul (and the Add after it), Conv (2-D), BatchNormalization, MaxPool (2-D), Dropout, Relu, Sigmoid, Tanh,
    Softmax over the last axis, Flatten, and a Reshape that flattens.

    Args:
        model_file_path: the file; float32, one input whose first axis is the batch, one output.
        optimizer, loss, options: as for `NeuralNetwork`.
    Raises:
        UnsupportedOnnxError: what cannot be imported, node by node.
        InvalidModelError: a file that is no ONNX model.
        FileNotFoundError: there is no such file.
    """
    chain = read_chain(Path(model_file_path))
    model = NeuralNetwork(optimizer, loss, **options)
    weights: list[Array] = []
    for number, part in enumerate(_parts(chain)):
        layer = part.make(**({"input_shape": chain.input_shape} if number == 0 else {}))
        model.add(layer)
        weights += [part.weights[spec.name] for spec in layer.weights()]
    model.set_weights(weights)
    return model


@dataclass(frozen=True)
class _Part:
    """A layer to make: its class, arguments and weights by their names within the layer."""

    kind: type[Layer]
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)

    @property
    def lacks_bias(self) -> bool:
        """Whether an Add of a constant that follows is the layer's bias."""
        return self.kind is Dense and "w0" not in self.weights

    def make(self, **more: Any) -> Layer:
        return self.kind(**self.arguments, **more)


class _CannotImport(Exception):  # noqa: N818 - collected, and told together
    """Why a node cannot become a layer."""


def _parts(chain: Chain) -> list[_Part]:
    parts: list[_Part] = []
    problems: list[str] = []
    steps = list(chain.steps)
    while steps:
        step = steps.pop(0)
        try:
            convert = _LAYERS.get(step.op_type)
            if convert is None:
                raise _CannotImport("this operator has no layer")
            part = convert(step)
            if part is not None and part.lacks_bias and steps and steps[0].op_type == "Add":
                part = _dense(part.weights["W"], _added(steps.pop(0)))
        except (_CannotImport, RavenError) as error:
            reason = error.problem.message if isinstance(error, RavenError) else str(error)
            problems.append(f"{step.name} ({step.op_type}): {reason}")
        else:
            if part is not None:
                parts.append(part)
    if not parts and not problems:
        problems.append("the model has no layers")
    if problems:
        raise UnsupportedOnnxError(
            f"{chain.path.name} has {len(problems)} node(s) that cannot be imported",
            expected=", ".join(sorted(_LAYERS)), received="; ".join(problems),
            hint="remove these nodes, or express them with the supported ones, before exporting",
        )  # fmt: skip
    return parts


# ── one function per operator ────────────────────────────────────────────────────────────────────────────────────────
def _dense(kernel: Array, bias: Array | None) -> _Part:
    if kernel.ndim != 2:
        raise _CannotImport(f"the weights must be a matrix, not of shape {kernel.shape}")
    weights = {"W": kernel}
    if bias is not None:
        if bias.size not in (1, kernel.shape[1]):
            raise _CannotImport(f"a bias of shape {bias.shape} does not fit {kernel.shape[1]} units")
        weights["w0"] = np.broadcast_to(bias.reshape(-1), kernel.shape[1:])
    return _Part(Dense, {"n_units": kernel.shape[1], "use_bias": bias is not None}, weights)


def _gemm(step: Step) -> _Part:
    """y = alpha * x @ W + beta * c; the factors go into the weights."""
    if step.attribute("transA", 0):
        raise _CannotImport("transA transposes the batch")
    kernel = step.constant(1, "weights")
    bias = step.optional(2)
    kernel = np.float32(step.attribute("alpha", 1.0)) * (kernel.T if step.attribute("transB", 0) else kernel)
    return _dense(kernel, None if bias is None else np.float32(step.attribute("beta", 1.0)) * bias)


def _matmul(step: Step) -> _Part:
    if step.data_position != 0:
        raise _CannotImport("the constant must be the second operand")
    return _dense(step.constant(1, "weights"), None)


def _added(step: Step) -> Array:
    return step.constant(1 - step.data_position, "second operand")


def _conv(step: Step) -> _Part:
    kernel = step.constant(1, "weights")
    if kernel.ndim != 4:
        raise _CannotImport(f"only 2-D convolutions, not filters of shape {kernel.shape}")
    bias = step.optional(2)
    weights = {"W": kernel} | ({} if bias is None else {"w0": bias})
    arguments = {
        "n_filters": kernel.shape[0], "filter_shape": kernel.shape[2:], "groups": step.attribute("group", 1),
        "use_bias": bias is not None,
    }  # fmt: skip
    return _Part(Conv2D, arguments | _geometry(step, kernel.shape[2:]), weights)


def _max_pool(step: Step) -> _Part:
    size = step.attribute("kernel_shape", ())
    if len(size) != 2:
        raise _CannotImport(f"only 2-D pooling, not windows of shape {tuple(size)}")
    if step.attribute("ceil_mode", 0):
        raise _CannotImport("ceil_mode is not supported")
    return _Part(MaxPooling2D, {"pool_shape": tuple(size), **_geometry(step, tuple(size))})


def _geometry(step: Step, size: tuple[int, ...]) -> dict[str, Any]:
    """Stride and padding of a window; ONNX's pads are (top, left, bottom, right)."""
    if any(d != 1 for d in step.attribute("dilations", (1, 1))):
        raise _CannotImport("dilations are not supported")
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


def _batch_normalization(step: Step) -> _Part:
    names = ("gamma", "beta", "running_mean", "running_var")
    return _Part(
        BatchNormalization,
        {"momentum": step.attribute("momentum", 0.9), "epsilon": step.attribute("epsilon", 1e-5)},
        {name: step.constant(position, name) for position, name in enumerate(names, 1)},
    )


def _dropout(step: Step) -> _Part:
    ratio = step.optional(1)
    return _Part(Dropout, {"p": float(step.attribute("ratio", 0.5) if ratio is None else ratio)})


def _softmax(step: Step) -> _Part:
    rank = 1 + len(step.input_shape)
    if step.attribute("axis", -1) % rank != rank - 1:
        raise _CannotImport("only over the last axis")
    return _Part(Activation, {"name": "softmax"})


def _flatten(step: Step) -> _Part:
    if step.attribute("axis", 1) not in (1, -len(step.input_shape)):
        raise _CannotImport("only from the first axis after the batch on")
    return _Part(Flatten)


def _reshape(step: Step) -> _Part:
    if step.output_shape != (math.prod(step.input_shape),):
        raise _CannotImport(f"only to flatten, not from {step.input_shape} to {step.output_shape}")
    return _Part(Flatten)


def _activation(name: str) -> Callable[[Step], _Part]:
    return lambda _: _Part(Activation, {"name": name})


_LAYERS: Mapping[str, Callable[[Step], _Part | None]] = {
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
