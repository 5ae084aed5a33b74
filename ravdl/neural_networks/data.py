"""Training data: checked once, when it is given, and cut into batches that a loop can walk along.

Nothing here computes: arrays become bound inputs of the graph, shipped once however many epochs read them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.arguments import Shape
from ravdl.neural_networks.loss_functions import Loss
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op
from ravop.graph.dtypes import as_array
from ravop.protocol.tensors import Array

ORDER = 0
"""Number of the draw that shuffles; those of layers are hashes of their names."""


class Batch(NamedTuple):
    """Inputs (samples, *input_shape) and targets (samples, …) as ops; many batches with one more axis."""

    x: Op
    y: Op


@dataclass(frozen=True)
class Samples:
    """Checked data of a model: inputs and targets of equal length, arrays or ops of a graph."""

    x: Array | Op
    y: Array | Op

    @property
    def count(self) -> int:
        return int(self.x.shape[0])  # type: ignore[arg-type]

    def slice(self, start: int, stop: int, shape: tuple[int, ...] = ()) -> Batch:
        """Samples `start` to `stop - 1` as ops; the axis of samples in another `shape`, if given."""
        return Batch(*(_part(values, start, stop, shape or (stop - start,)) for values in (self.x, self.y)))

    def within(self, count: int, size: int, start: int, stop: int) -> Batch:
        """Of the first `count` samples in rows of `size`, the columns from `start` to `stop - 1` of each row."""
        return Batch(*(_columns(values, count, size, start, stop) for values in (self.x, self.y)))


def _columns(values: Array | Op, count: int, size: int, start: int, stop: int) -> Op:
    shape = (count // size, size, *values.shape[1:])
    if isinstance(values, Op):
        part = values if count == values.shape[0] else values[:count]
        return R.reshape(part, shape)[:, start:stop]
    return R.t(values[:count].reshape(shape)[:, start:stop], values.dtype)


def _part(values: Array | Op, start: int, stop: int, shape: tuple[int, ...]) -> Op:
    if isinstance(values, Op):
        part = values if (start, stop) == (0, values.shape[0]) else values[start:stop]
        return R.reshape(part, (*shape, *values.shape[1:]))  # type: ignore[arg-type]
    return R.t(values[start:stop].reshape(*shape, *values.shape[1:]), values.dtype)


def checked_inputs(x: object, input_shape: Shape) -> Array | Op:
    """Inputs of a model. Floats become float32; bytes (of images) stay until the step converts them.

    NaN and infinities are data, and pass. Raises `ShapeError` for another shape than (samples, *input_shape),
    `ArgumentError` for no samples, `DTypeError`.
    """
    inputs = x if isinstance(x, Op) else as_array(x)
    if inputs.ndim != 1 + len(input_shape) or tuple(inputs.shape[1:]) != input_shape:
        raise ShapeError(
            "the inputs do not have the shape that the model takes",
            expected=f"(samples, {', '.join(map(str, input_shape))})",
            received=tuple(inputs.shape),
            hint=_shape_hint(tuple(inputs.shape), input_shape),
        )
    if not isinstance(inputs.shape[0], int):
        raise ShapeError("the number of samples must be known", expected="a number", received=inputs.shape[0])
    if inputs.shape[0] == 0:
        raise ArgumentError("there are no samples", expected="at least one", received=tuple(inputs.shape))
    if isinstance(inputs, Op) or inputs.dtype == np.float32 or inputs.dtype.itemsize == 1:
        return inputs
    return inputs.astype(np.float32)


def _shape_hint(received: tuple[object, ...], input_shape: Shape) -> str:
    if received == input_shape:
        return "this is one sample: add the batch axis, X[None]"
    return (
        f"reshape X to (-1, {', '.join(map(str, input_shape))}), or give the first layer another input_shape"
    )


def checked_samples(
    x: object, y: object, input_shape: Shape, output_shape: Shape, loss: Loss, activation: str
) -> Samples:
    """Inputs with their targets.

    Raises what `checked_inputs` and the loss raise, and `ArgumentError` for different lengths.
    """
    inputs = checked_inputs(x, input_shape)
    targets = loss.targets(y, output_shape, activation)
    if targets.shape[0] != inputs.shape[0]:
        raise ArgumentError(
            "X and y differ in length",
            expected=f"{inputs.shape[0]} targets, as many as there are samples",
            received=f"{targets.shape[0]} targets",
        )
    return Samples(inputs, targets)


def checked_pair(data: Any, what: str) -> tuple[object, object]:
    """(X, y). Raises `ArgumentError` for anything else."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise ArgumentError(f"{what} must be a pair", expected="(X, y)", received=type(data).__name__)
    return data[0], data[1]


B = TypeVar("B")


class Epoch(NamedTuple, Generic[B]):
    """The batches of one epoch: what a scan walks along, how an element of it becomes a batch, the last one."""

    xs: Any
    batch: Callable[[Any], B]
    last: B | None


class Batches(Protocol[B]):
    """Data cut into batches: `steps` of full size in an epoch, `sizes` of a full and of the last batch."""

    steps: int
    sizes: tuple[int, int]

    def epoch(self, step: Op) -> Epoch[B]:
        """The batches of the epoch that starts at this training step (int64 scalar)."""


class InOrder:
    """The same batches in each epoch, one after another as the data lies."""

    def __init__(self, samples: Samples, batch_size: int) -> None:
        self.steps, rest = divmod(samples.count, batch_size)
        self.sizes = (batch_size, rest)
        full = self.steps * batch_size
        self.full = samples.slice(0, full, (self.steps, batch_size))
        self.last = samples.slice(full, samples.count) if rest else None

    def epoch(self, step: Op) -> Epoch[Batch]:
        return Epoch(self.full, lambda batch: batch, self.last)


class Shuffled:
    """Other batches in each epoch: a random order of the samples, drawn from seed and training step."""

    def __init__(self, samples: Samples, batch_size: int, seed: int) -> None:
        self.steps, rest = divmod(samples.count, batch_size)
        self.sizes = (batch_size, rest)
        self._all = samples.slice(0, samples.count)
        self._seed = seed

    def epoch(self, step: Op) -> Epoch[Batch]:
        size, rest = self.sizes
        order = R.permutation(self.steps * size + rest, key=R.random_key(self._seed, ORDER, step))
        full = R.reshape(order[: self.steps * size], (self.steps, size))
        return Epoch(full, self._gather, self._gather(order[self.steps * size :]) if rest else None)

    def _gather(self, rows: Op) -> Batch:
        return Batch(*(R.gather(values, rows, axis=0) for values in self._all))


def cut(samples: Samples, batch_size: int, shuffle: bool, seed: int) -> Batches[Batch]:
    """The data in batches of `batch_size`, which `checked_size` has checked."""
    return Shuffled(samples, batch_size, seed) if shuffle else InOrder(samples, batch_size)


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
