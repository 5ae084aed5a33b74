"""`Onnx`: an ONNX model, or a part of one, as a layer with any number of inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import Generator

import ravop as R
from ravdl.neural_networks.layers.arguments import Shape
from ravdl.neural_networks.layers.layer import Layer, Moment, WeightSpec
from ravdl.neural_networks.symbols import FLOAT
from ravop.errors import ArgumentError, ShapeError, UnsupportedOnnxError
from ravop.graph import Graph, Op
from ravop.graph.dtypes import is_float
from ravop.graph.graph import current_graph_or_none, set_current_graph
from ravop.importing import OnnxModel, Port, read_model
from ravop.protocol.tensors import Array

_PROBE = 2
"""Samples of the batch with which the shapes of the outputs are found."""
_DRAWING = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)  # fmt: skip


class Onnx(Layer):
    """What an ONNX model computes, trained: the first axis of each of its inputs and outputs is the batch.

    In training BatchNormalization uses the batch's statistics and moves its running ones as PyTorch does, and Dropout draws
    from the training step. Parameters of other float dtypes than float32 are held, and trained, as float32, and are converted
    where they are used; outputs that are floats become float32.

    Weights: the model's parameters (see `ravop.importing.OnnxModel`) under their own names, also in the network; those of a
    second such layer begin with its name. They start as they are in the file.

    Args:
        model: the bytes of an ONNX file.
        fixed: names of parameters that are never trained.
    """

    takes_anything = True
    gives_names = True

    def __init__(self, model: bytes, fixed: Sequence[str] = (), input_shape: object = None) -> None:
        super().__init__(input_shape)
        if not isinstance(model, bytes):
            raise ArgumentError(
                "Onnx takes the bytes of a model", expected="bytes of an ONNX file", received=type(model).__name__,
                hint="load_onnx(model_file_path=…) makes a model of a file",
            )  # fmt: skip
        self.model = model
        self.fixed = tuple(fixed)
        unknown = set(self.fixed) - self.onnx.parameters.keys()
        if unknown:
            raise ArgumentError(
                "the model has no such parameter",
                expected=", ".join(self.onnx.parameters),
                received=", ".join(sorted(unknown)),
            )
        self.n_inputs = len(self.onnx.inputs)
        self.takes_integers = all(port.dtype.kind in "iu" for port in self.onnx.inputs)
        if self.declared_shape is None and self.n_inputs == 1:
            sample = sample_shape(self.onnx.inputs[0])
            self.declared_shape = sample or None

    @cached_property
    def onnx(self) -> OnnxModel:
        """What was read of the bytes."""
        return read_model(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("onnx", "_specs")}

    def __repr__(self) -> str:
        kinds = f"{len(self.model):,} bytes"
        return f"Onnx(<{kinds}>, fixed={list(self.fixed)})" if self.fixed else f"Onnx(<{kinds}>)"

    @property
    def mixes_examples(self) -> bool:
        return bool(self.onnx.statistics or self.onnx.operators & _DRAWING)

    def parameters(self) -> dict[str, Any]:
        return {"model": self.model, "fixed": self.fixed}

    @cached_property
    def _specs(self) -> tuple[WeightSpec, ...]:
        still = self.onnx.statistics | set(self.fixed)
        return tuple(
            WeightSpec(name, array.shape, _Given(array), name not in still)
            for name, array in self.onnx.parameters.items()
        )

    def weights(self) -> tuple[WeightSpec, ...]:
        return self._specs

    def weight_name(self, spec: WeightSpec) -> str:
        before, _, number = self.name.rpartition("Onnx_")
        return f"{before}{spec.name}" if number == "1" else super().weight_name(spec)

    def shapes_after(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        outer = current_graph_or_none()
        ports = self.onnx.inputs
        batch = next((p.shape[0] for p in ports if p.shape and isinstance(p.shape[0], int)), _PROBE)
        try:
            graph = Graph(name="shapes")
            xs = [graph.placeholder(p.dtype, (batch, *s)) for p, s in zip(ports, shapes, strict=True)]
            weights = {spec.name: graph.placeholder(FLOAT, spec.shape) for spec in self.weights()}
            outputs = self.call_all(xs, weights)
        finally:
            set_current_graph(outer)
        for port, output in zip(self.onnx.outputs, outputs, strict=True):
            _check_output(port.name, output, batch)
        return tuple(output.static_shape[1:] for output in outputs)

    def call_all(self, xs: Sequence[Op], weights: Mapping[str, Op]) -> tuple[Op, ...]:
        return self._applied(xs, weights, None)[0]

    def train_all(
        self, xs: Sequence[Op], weights: Mapping[str, Op], moment: Moment
    ) -> tuple[tuple[Op, ...], dict[str, Op]]:
        return self._applied(xs, weights, moment)

    def train_all_shards(
        self, xs: Sequence[Sequence[Op]], weights: Sequence[Mapping[str, Op]], moments: Sequence[Moment]
    ) -> tuple[list[tuple[Op, ...]], dict[str, Op]]:
        """The whole batch goes through the model, because any node of it may mix examples."""
        sizes = np.array([of_shard[0].static_shape[0] for of_shard in xs])
        whole = [R.concat(list(parts), axis=0) for parts in zip(*xs, strict=True)]
        shared = {name: _one([of_shard[name] for of_shard in weights]) for name in weights[0]}
        outputs, moved = self._applied(whole, shared, replace(moments[0], first=0, batch=None))
        cut = [y.graph.apply("Split", [y, y.graph.constant(sizes)], {"axis": 0}) for y in outputs]
        return [tuple(of_shard) for of_shard in zip(*cut, strict=True)], moved

    def _applied(
        self, xs: Sequence[Op], weights: Mapping[str, Op], moment: Moment | None
    ) -> tuple[tuple[Op, ...], dict[str, Op]]:
        given = [_as(x, port.dtype) for x, port in zip(xs, self.onnx.inputs, strict=True)]
        parameters = {name: _as(weights[name], array.dtype) for name, array in self.onnx.parameters.items()}
        if moment is None:
            applied = self.onnx.apply(given, parameters, training=False)
        else:
            shard = f"/{moment.first}" if moment.batch is not None else ""
            applied = self.onnx.apply(
                given, parameters, training=True, still=self.frozen,
                key=lambda node: moment.key(f"{self.name}/{node}{shard}"),
            )  # fmt: skip
        outputs = tuple(_as(y, FLOAT) if is_float(y.dtype) else y for y in applied.outputs)
        return outputs, {name: _as(value, FLOAT) for name, value in applied.moved.items()}


class _Given:
    """An initializer that gives these values."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def __call__(self, shape: Shape, generator: Generator) -> Array:
        return np.array(self.values, dtype=np.float32)


def sample_shape(port: Port) -> Shape | None:
    """Of one sample, where the model tells all of its sizes."""
    sizes = tuple(dim for dim in port.shape[1:] if isinstance(dim, int))
    return sizes if port.shape and len(sizes) == len(port.shape) - 1 else None


def _as(x: Op, dtype: np.dtype[Any]) -> Op:
    return x if x.dtype == dtype else R.astype(x, dtype)


def _one(same: Sequence[Op]) -> Op:
    """Ops of the same values as one of exactly these, from which a gradient goes to all of them."""
    first = same[0]
    found = first
    for other in same[1:]:
        found = found if other is first else found + (other - first)
    return found


def _check_output(name: str, output: Op, batch: object) -> None:
    if not output.ndim or output.shape[0] != batch:
        raise ShapeError(
            f"the first axis of the output {name!r} is not the batch",
            expected=f"({batch}, …) for {batch} samples",
            received=output.shape,
            hint="export the model with such outputs only, and with a dynamic first axis of its inputs",
        )
    if not all(isinstance(size, int) for size in output.shape):
        raise UnsupportedOnnxError(
            f"the sizes of the output {name!r} depend on values",
            expected="known sizes",
            received=output.shape,
        )
