"""Checks of the data that a model is given; each returns it in the one form in which training takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ravdl.neural_networks.data import Samples, Values
from ravdl.neural_networks.layers.arguments import Shape, not_negative
from ravdl.neural_networks.network import Network, Port
from ravdl.neural_networks.symbols import FLOAT
from ravdl.neural_networks.training import Head
from ravop.errors import ArgumentError, DTypeError, ShapeError
from ravop.graph import Op
from ravop.graph.dtypes import BOOL, as_array, is_float


def checked_inputs(x: object, network: Network) -> tuple[Values, ...]:
    """Inputs of a model: one array or op, or for several inputs a tuple, list or dict of them by name.

    Floats become float32; bytes (of images) stay until the step converts them; where a model takes integers they become
    int64. NaN and infinities are data, and pass. Raises `ShapeError` for another shape than (samples, *shape),
    `ArgumentError` for no samples or inputs of different lengths, `DTypeError`.
    """
    ports = network.inputs
    given = _each(x, [port.name for port in ports], "X", "inputs")
    found = tuple(_checked_input(each, port) for each, port in zip(given, ports, strict=True))
    _check_indices(found, network)
    counts = {values.shape[0] for values in found}
    if len(counts) > 1:
        raise ArgumentError(
            "the inputs differ in length",
            expected="as many samples in each",
            received=", ".join(
                f"{port.name}: {values.shape[0]}" for port, values in zip(ports, found, strict=True)
            ),
        )
    return found


def _check_indices(inputs: Sequence[Values], network: Network) -> None:
    """Raises `ArgumentError` for an index that a layer's table does not have; what ops hold is not known here."""
    for call in network.calls:
        limit = call.layer.index_limit
        if limit is None:
            continue
        for indices in (inputs[value] for value in call.inputs if value < len(inputs)):
            if isinstance(indices, Op) or not indices.size:
                continue
            lowest, highest = int(indices.min()), int(indices.max())
            if lowest < 0 or highest >= limit:
                raise ArgumentError(
                    f"an index is out of the range of {call.layer.name}",
                    expected=f"0 to {limit - 1}",
                    received=f"{lowest} to {highest}",
                )


def _each(given: object, names: Sequence[str], what: str, kind: str) -> list[object]:
    """One for each name."""
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise ArgumentError(
                f"{what} does not name the model's {kind}",
                expected=", ".join(names),
                received=", ".join(map(str, given)),
            )
        return [given[name] for name in names]
    if len(names) == 1:
        return [given]
    if not isinstance(given, tuple | list) or len(given) != len(names):
        raise ArgumentError(
            f"the model has {len(names)} {kind}",
            expected=f"a tuple of {len(names)}, or a dict: {', '.join(names)}",
            received=f"{len(given)} of them" if isinstance(given, tuple | list) else type(given).__name__,
        )
    return list(given)


def _checked_input(x: object, port: Port) -> Values:
    inputs = x if isinstance(x, Op) else as_array(x)
    if inputs.ndim != 1 + len(port.shape) or tuple(inputs.shape[1:]) != port.shape:
        raise ShapeError(
            "the inputs do not have the shape that the model takes",
            expected=f"(samples, {', '.join(map(str, port.shape))})" if port.shape else "(samples,)",
            received=tuple(inputs.shape),
            hint=_shape_hint(tuple(inputs.shape), port.shape),
        )
    if not isinstance(inputs.shape[0], int):
        raise ShapeError("the number of samples must be known", expected="a number", received=inputs.shape[0])
    if inputs.shape[0] == 0:
        raise ArgumentError("there are no samples", expected="at least one", received=tuple(inputs.shape))
    if port.dtype != FLOAT:
        return _whole(inputs, port)
    if isinstance(inputs, Op) or inputs.dtype == np.float32 or inputs.dtype.itemsize == 1:
        return inputs
    return inputs.astype(np.float32)


def _whole(inputs: Values, port: Port) -> Values:
    truth = port.dtype == BOOL
    if inputs.dtype != BOOL if truth else is_float(inputs.dtype):
        raise DTypeError(
            f"the model's {port.name} takes {'truth values' if truth else 'integers'}",
            expected=port.dtype.name,
            received=inputs.dtype.name,
            hint=f"if they are: X.astype('{port.dtype.name}')",
        )
    return inputs if isinstance(inputs, Op) else inputs.astype(port.dtype)


def _shape_hint(received: tuple[object, ...], input_shape: Shape) -> str:
    if received == input_shape:
        return "this is one sample: add the batch axis, X[None]"
    sizes = ", ".join(map(str, (-1, *input_shape)))
    return f"reshape X to ({sizes}), or give the first layer another input_shape"


def checked_samples(
    x: object,
    y: object,
    network: Network,
    heads: Sequence[Head],
    sample_weight: object = None,
    class_weight: Mapping[int, float] | None = None,
) -> Samples:
    """Inputs with their targets.

    Raises what `checked_inputs` and the losses raise, and `ArgumentError` for different lengths or weights that do not fit.
    """
    inputs = checked_inputs(x, network)
    given = _each(y, network.output_names, "y", "outputs")
    shapes = network.output_shapes
    targets = tuple(
        head.loss.targets(each, shapes[at], network.activation(at))
        for at, (each, head) in enumerate(zip(given, heads, strict=True))
    )
    for each in targets:
        if each.shape[0] != inputs[0].shape[0]:
            raise ArgumentError(
                "X and y differ in length",
                expected=f"{inputs[0].shape[0]} targets, as many as there are samples",
                received=f"{each.shape[0]} targets",
            )
    rows = len(shapes[0]) == 1 and targets[0].ndim == 2
    return Samples(inputs, targets, _weights(targets, shapes[0], rows, heads, sample_weight, class_weight))


def _weights(
    targets: tuple[Values, ...],
    shape: Shape,
    rows: bool,
    heads: Sequence[Head],
    sample_weight: object,
    class_weight: Mapping[int, float] | None,
) -> tuple[Values, ...]:
    if sample_weight is None and class_weight is None:
        return ()
    for head in heads:
        if not head.loss.weighs:
            raise ArgumentError(
                "this loss cannot weigh samples",
                expected="a loss that overrides `elements`",
                received=repr(head.loss),
            )
    count = targets[0].shape[0]
    if isinstance(sample_weight, Op):
        raise ArgumentError(
            "sample_weight is data", expected="an array of (samples,)", received=repr(sample_weight)
        )
    weights = np.ones(count, np.float32) if sample_weight is None else as_array(sample_weight, np.float32)  # type: ignore[arg-type]
    if weights.ndim == 0 or weights.shape[0] != count:
        raise ShapeError(
            "sample_weight has one number a sample, or one a step",
            expected=f"({count},) or ({count}, time)",
            received=weights.shape,
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ArgumentError(
            "a weight is out of range", expected="finite numbers of at least 0", received="others"
        )
    if class_weight is None:
        return (weights,)
    of_classes = _of_classes(targets, shape, rows, class_weight)
    return (weights * of_classes.reshape(-1, *(1,) * (weights.ndim - 1)),)


def _of_classes(
    targets: tuple[Values, ...], shape: Shape, rows: bool, class_weight: Mapping[int, float]
) -> Any:
    """The weight of each sample's class; 1 for a class that is not named."""
    labels = targets[0]
    if len(targets) != 1 or isinstance(labels, Op):
        raise ArgumentError(
            "class_weight needs labels that are known",
            expected="a model of one output, and y as an array",
            received=f"{len(targets)} outputs" if len(targets) > 1 else "an op",
        )
    if rows and labels.shape[1] > 1:
        labels = labels.argmax(axis=1)
    labels = labels.reshape((labels.shape[0], -1))
    if labels.shape[1] != 1:
        raise ArgumentError(
            "class_weight needs one class a sample",
            expected="labels (samples,)",
            received=tuple(targets[0].shape),
        )
    if not isinstance(class_weight, Mapping):
        raise ArgumentError("class_weight is a dict", expected="{class: weight}", received=repr(class_weight))
    found = np.ones(len(labels), np.float32)
    classes = range(shape[-1]) if shape and shape[-1] > 1 else {-1, 0, 1, *labels[:, 0].tolist()}
    for label, weight in class_weight.items():
        if isinstance(label, bool) or label not in classes:
            raise ArgumentError(
                "class_weight names a class that there is not",
                expected=f"labels of {min(classes):g} to {max(classes):g}",
                received=repr(label),
            )
        found[labels[:, 0] == label] = not_negative(weight, f"the weight of class {label!r}")
    return found


def checked_pair(data: Any, what: str) -> tuple[object, object]:
    """(X, y). Raises `ArgumentError` for anything else."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ArgumentError(f"{what} must be a pair", expected="(X, y)", received=type(data).__name__)
    return data[0], data[1]


def checked_size(samples: Samples, batch_size: object) -> int:
    """Samples in a batch. Raises `ArgumentError` when there are fewer samples than that."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ArgumentError(
            "batch_size must be a positive integer", expected="1, 2, 3, …", received=repr(batch_size)
        )
    if batch_size > samples.count:
        raise ArgumentError(
            "the batch is larger than the data",
            expected=f"batch_size of at most {samples.count}",
            received=batch_size,
            hint=f"use batch_size={samples.count} to train on all samples at once",
        )
    return int(batch_size)
