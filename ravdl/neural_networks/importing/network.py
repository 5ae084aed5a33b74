"""An ONNX model between symbols: its last nodes as layers where they are some, and all before them as one `Onnx` layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from ravdl.neural_networks.functional import Input
from ravdl.neural_networks.importing.analysis import Analysis
from ravdl.neural_networks.importing.batches import for_any_batch
from ravdl.neural_networks.importing.conversion import Tail, Weight, tail
from ravdl.neural_networks.importing.cut import MAX_BYTES, cut
from ravdl.neural_networks.layers.arguments import Shape
from ravdl.neural_networks.layers.layer import Layer
from ravdl.neural_networks.layers.onnx import Onnx, sample_shape
from ravdl.neural_networks.network import Origin
from ravdl.neural_networks.symbols import Symbol, proper_name
from ravop.errors import ArgumentError, InvalidModelError, RavenError, UnsupportedOnnxError
from ravop.graph.dtypes import is_float, is_integer
from ravop.importing import OnnxModel, Port, read_model
from ravop.protocol.tensors import Array


@dataclass
class Imported:
    """A model between symbols, and the layers that it is made of."""

    inputs: list[Symbol]
    outputs: Any
    """As `NeuralNetwork` takes them: a dict by name where the names are proper ones, else a list."""
    weights: list[tuple[Layer, str, Weight]]
    """Of layers that were nodes: the layer, the weight's name within it, and what it was."""
    body: Onnx | None

    def origins(self) -> tuple[Origin, ...]:
        """Of the weights, once the layers have their names."""
        found = []
        if self.body is not None:
            found = [Origin(spec.name, self.body.weight_name(spec)) for spec in self.body.weights()]
        for layer, name, weight in self.weights:
            if weight.parameter is not None:
                found.append(
                    Origin(weight.parameter.name, f"{layer.name}_{name}", weight.parameter.transposed)
                )
        return tuple(found)

    def values(self) -> dict[str, Array]:
        """Of the weights of layers that were nodes, by their names."""
        return {f"{layer.name}_{name}": weight.values for layer, name, weight in self.weights}


def imported(
    proto: onnx.ModelProto,
    name: str,
    input_shapes: object = None,
    *,
    named: bool = False,
    fixed: Sequence[str] = (),
) -> Imported:
    """Args:
        proto: with its weights inside.
        name: what the model is called in errors.
        input_shapes: of one sample, for inputs with sizes that the model does not tell: one, a list, or a dict by name.
        named: whether weights of layers that were nodes must be parameters of the model as they stand.
        fixed: parameters that are never trained.
    Raises:
        InvalidModelError, UnsupportedOnnxError: a model that cannot be imported, or used as a network.
        ArgumentError, ShapeError: `input_shapes` that do not fit.
    """
    model = read_model(proto)
    shapes = _shapes(model, name, input_shapes)
    free = for_any_batch(proto, model, name, shapes)
    proto, model = free, model if free is proto else read_model(free)
    analysis = Analysis(proto, model, shapes)
    tails = [tail(analysis, output, named) for output in analysis.outputs]
    _check_outputs(model, name, tails)
    ports = {port.name: port for port in model.inputs}
    names = list(dict.fromkeys(t.value.name for t in tails if t.value.name not in ports))
    kinds = {each.value.name: each.value.dtype for each in tails}
    sources = {
        port.name: Input(shapes[port.name], _kind(port, name), _proper(port.name)) for port in model.inputs
    }
    found: dict[str | None, Symbol] = {port: symbol for port, symbol in sources.items()}  # noqa: C416 - its keys' type is wider
    body = None
    if names:
        part = cut(proto, {each or "": int(kinds[each] or 0) for each in names})
        if part.ByteSize() > MAX_BYTES:
            raise InvalidModelError(
                f"{name} is too large for one file",
                expected=f"at most {MAX_BYTES:,} bytes",
                received=f"{part.ByteSize():,} bytes",
            )
        body = _body(part.SerializeToString(), fixed)
        made = body([sources[port.name] for port in body.onnx.inputs])
        found |= zip(names, made if isinstance(made, list) else [made], strict=True)
    weights: list[tuple[Layer, str, Weight]] = []
    outputs: list[Symbol] = []
    for each in tails:
        symbol = found[each.value.name]
        for piece in each.parts:
            layer = piece.make()
            symbol = layer(symbol)
            weights += [(layer, key, weight) for key, weight in piece.weights.items()]
        outputs.append(symbol)
    used = _used(outputs)
    return Imported([s for s in sources.values() if s in used], _outputs(model, outputs), weights, body)


def _body(data: bytes, fixed: Sequence[str]) -> Onnx:
    body = Onnx(data)
    known = tuple(name for name in fixed if name in body.onnx.parameters)
    body = Onnx(data, known) if known else body
    if not body.onnx.inputs:
        raise UnsupportedOnnxError(
            "no output of the model depends on an input", expected="outputs computed from inputs"
        )
    body.declared_shape = None  # its inputs are declared by symbols
    return body


def _used(outputs: Sequence[Symbol]) -> set[Symbol]:
    found, todo = set(outputs), list(outputs)
    while todo:
        call = todo.pop().call
        new = [symbol for symbol in (call.inputs if call else ()) if symbol not in found]
        found.update(new)
        todo += new
    return found


def _outputs(model: OnnxModel, symbols: list[Symbol]) -> Any:
    names = [_proper(port.name) for port in model.outputs]
    if None in names or len(set(names)) < len(names):
        return symbols
    return dict(zip(names, symbols, strict=True))


def _check_outputs(model: OnnxModel, name: str, tails: Sequence[Tail]) -> None:
    for port, each in zip(model.outputs, tails, strict=True):
        if port.kind != "tensor":
            raise UnsupportedOnnxError(
                f"the output {port.name!r} of {name} is no tensor", expected="tensors", received=port.kind
            )
        if not each.parts and each.value.is_graph_input():
            raise UnsupportedOnnxError(
                f"{name} has no layers between an input and {port.name!r}", expected="nodes that compute"
            )


def _shapes(model: OnnxModel, name: str, given: object) -> dict[str, Shape]:
    """Of one sample of each input."""
    names = [port.name for port in model.inputs]
    if isinstance(given, Mapping):
        chosen = dict(given)
    elif given is None:
        chosen = {}
    else:
        listed = [given] if len(names) == 1 and not _nested(given) else list(given)  # type: ignore[call-overload]
        chosen = dict(zip(names, listed, strict=False))
        if len(listed) != len(names):
            raise ArgumentError(
                "input_shapes has another length",
                expected=f"one for each of {', '.join(names)}",
                received=len(listed),
            )
    unknown = [each for each in chosen if each not in names]
    if unknown:
        raise ArgumentError(
            "input_shapes names an input that is not there",
            expected=", ".join(names),
            received=str(unknown[0]),
        )
    return {port.name: _shape(port, name, chosen.get(port.name)) for port in model.inputs}


def _nested(value: object) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(each, list | tuple) for each in value)


def _shape(port: Port, name: str, given: object) -> Shape:
    known = sample_shape(port)
    if port.kind != "tensor" or not (
        is_float(port.dtype) or is_integer(port.dtype) or port.dtype.kind == "b"
    ):
        raise UnsupportedOnnxError(
            f"the input {port.name!r} of {name} is no tensor", expected="tensors", received=port.kind
        )
    if given is None and known is not None:
        return known
    told = f"input {port.name!r} of [{', '.join('?' if dim is None else str(dim) for dim in port.shape)}]"
    if given is None:
        raise UnsupportedOnnxError(
            f"{name} does not tell the shape of a sample",
            expected="an input of shape (batch, …) whose other sizes are known",
            received=told,
            hint=f"load_onnx(..., input_shapes={{{port.name!r}: (…)}}) tells them",
        )
    sizes = tuple(given) if isinstance(given, list | tuple) else (given,)
    proper = all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes)
    dims = port.shape[1:] if port.ranked and port.shape else (None,) * len(sizes)
    fits = len(dims) == len(sizes) and all(
        not isinstance(d, int) or d == s for d, s in zip(dims, sizes, strict=False)
    )
    if not proper or not fits:
        raise ArgumentError(
            "a shape of input_shapes does not fit the model",
            expected=told + ", without the batch",
            received=repr(given),
        )
    return sizes


def _kind(port: Port, name: str) -> str:
    if port.dtype.kind == "b":
        return "bool"
    return "float32" if is_float(port.dtype) else "int64"


def _proper(name: str) -> str | None:
    try:
        return proper_name(name, "an input or output")
    except RavenError:
        return None
