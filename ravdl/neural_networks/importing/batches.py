"""Files of one batch size: taken for any, where the model then computes for each sample what it did before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

import ravop as R
from ravdl.neural_networks.layers.arguments import Shape
from ravop.errors import RavenError, UnsupportedOnnxError
from ravop.graph import Graph, Op
from ravop.graph.dtypes import is_float
from ravop.graph.graph import current_graph_or_none, set_current_graph
from ravop.importing import OnnxModel, Port, read_model
from ravop.protocol.tensors import Array

_OTHER_SIZES = (1, 3)
"""Batches for which the shapes must come out right; for twice the file's own, the values must."""
_HINT = (
    "export it with a dynamic first axis: torch.onnx.export(..., dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)), "
    "or with dynamo=False dynamic_axes={'input': {0: 'batch'}}"
)


def for_any_batch(
    proto: onnx.ModelProto, model: OnnxModel, name: str, shapes: Mapping[str, Shape]
) -> onnx.ModelProto:
    """The model with a symbolic first axis of its inputs and outputs; itself where there is no input with a fixed one.

    Args:
        model: what was read of `proto`.
        name: what the model is called in errors.
        shapes: of one sample of each input.
    Raises:
        UnsupportedOnnxError: the nodes hold the batch's size, or mix samples.
    """
    fixed = [port for port in model.inputs if port.shape and isinstance(port.shape[0], int)]
    sizes = {port.shape[0] for port in fixed}
    if not fixed:
        return proto
    told = ", ".join(f"{port.name!r} of {list(port.shape)}" for port in fixed)
    count = fixed[0].shape[0]
    if len(sizes) > 1 or not isinstance(count, int) or count < 1:
        raise _refused(name, told, "different sizes")
    draws = [_drawn(model.inputs, shapes, count, seed) for seed in (1, 2)]
    try:
        before = [_computed(model, xs) for xs in draws]
    except RavenError:
        return proto  # what is made of the whole model tells what is wrong
    found = _freed(proto)
    try:
        free = read_model(found)
        for size in _OTHER_SIZES:
            _check_sizes(_outputs(free, _drawn(model.inputs, shapes, size, 1)), size)
        after = _computed(free, [np.concatenate(pair) for pair in zip(*draws, strict=True)])
    except RavenError as error:
        reason = " ".join(str(error).split())
        raise _refused(name, told, f"for another number of samples: {reason}") from error
    for first, second, both in zip(*before, after, strict=True):
        if not _same(np.concatenate([first, second]), both):
            raise _refused(name, told, "a sample's output depends on the others of its batch")
    return found


def _refused(name: str, told: str, reason: str) -> UnsupportedOnnxError:
    return UnsupportedOnnxError(
        f"{name} was exported for one batch size only",
        expected="inputs whose first axis, the batch, may have any size",
        received=f"{told}; {reason}",
        hint=_HINT,
    )


def _freed(proto: onnx.ModelProto) -> onnx.ModelProto:
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    del found.graph.value_info[:]  # of the one size
    constants = {tensor.name for tensor in found.graph.initializer}
    for value in (*found.graph.input, *found.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) and value.name not in constants:
            dims[0].dim_param = "batch"
    return found


def _drawn(ports: Sequence[Port], shapes: Mapping[str, Shape], count: int, seed: int) -> list[Array]:
    """Numbers that a model may take: indices are 0 and 1, which tables have."""
    generator = np.random.default_rng(seed)
    found: list[Array] = []
    for port in ports:
        shape = (count, *shapes[port.name])
        drawn: Array = (
            generator.standard_normal(shape) if is_float(port.dtype) else generator.integers(0, 2, shape)
        )
        found.append(drawn.astype(port.dtype))
    return found


def _outputs(model: OnnxModel, arrays: Sequence[Array]) -> tuple[Op, ...]:
    """In a graph of their own."""
    outer = current_graph_or_none()
    try:
        Graph(name="batches")
        xs = [R.t(array, array.dtype) for array in arrays]
        return model.apply(xs, training=False).outputs
    finally:
        set_current_graph(outer)


def _computed(model: OnnxModel, arrays: Sequence[Array]) -> list[Array]:
    outputs = _outputs(model, arrays)
    _check_sizes(outputs, len(arrays[0]))
    for number, output in enumerate(outputs):
        output.persist_op(name=f"output {number}")
    values: Any = R.run_local(outputs[0].graph)
    return [np.asarray(values[f"output {number}"]) for number in range(len(outputs))]


def _check_sizes(outputs: Sequence[Op], size: int) -> None:
    for output in outputs:
        if not output.ndim or output.shape[0] != size:
            raise UnsupportedOnnxError(
                "the first axis of an output is not the batch", expected=size, received=output.shape
            )


def _same(expected: Array, found: Array) -> bool:
    if expected.shape != found.shape:
        return False
    a, b = expected.astype(np.float64), found.astype(np.float64)
    scale = float(np.max(np.abs(a[np.isfinite(a)]), initial=0.0))
    return bool(np.allclose(a, b, rtol=1e-3, atol=1e-4 * scale, equal_nan=True))
