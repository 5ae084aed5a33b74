"""The loops around the training step: epochs over batches, validation, and inference over large inputs.

A training run is one outer `scan` over epochs whose body is an inner `scan` over the full batches, one more
step for the last, smaller batch, and the validation; so the graph does not grow with the epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import ravop as R
from ravdl.neural_networks.callbacks.steering import Steering
from ravdl.neural_networks.data import Batch, Batches, InOrder, Samples
from ravdl.neural_networks.steered import steer
from ravdl.neural_networks.training import Measures, State
from ravop.graph import Op
from ravop.graph.tree import Tree


class Weighty(Protocol):
    """What a run carries from epoch to epoch: a tree of ops, the model's weights among them."""

    @property
    def weights(self) -> dict[str, Op]: ...


B = TypeVar("B")
S = TypeVar("S", bound=Weighty)

Step = Callable[[State, B], tuple[State, Measures]]
Pass = Callable[[S], tuple[S, Measures, Measures]]
"""One pass over the data. → the state after it, what was measured in each full batch, stacked, and in the
smaller last one; empty without one.
"""
Measure = Callable[[dict[str, Op], Batch], Measures]

INFERENCE_BATCH = 256
"""Samples that go through the layers together when nothing is learned from them; bounds the memory."""


@dataclass(frozen=True)
class Trained(Generic[S]):
    """What a run gives: the state after it, and what was measured on the way, stacked over the epochs."""

    state: S
    batches: Measures
    """(epochs, full batches)."""
    last: Measures
    """(epochs,), of the smaller last batch; empty without one."""
    epochs: Measures
    """(epochs,): the mean over the samples of each epoch, in training (`loss`, …) and after it in validation
    (`val_loss`, …).
    """
    ran: Op | None = None
    """(epochs,), of a run that callbacks may stop: 1 for each epoch before that, 0 after."""
    memories: tuple[Tree, ...] = ()
    """What its callbacks remember."""


def train(
    one_pass: Pass[S],
    state: S,
    sizes: tuple[int, int],
    n_epochs: int,
    validate: Callable[[dict[str, Op]], Measures] | None,
    steering: Sequence[Steering] = (),
    names: Sequence[str] = (),
    lazy: bool = False,
    learning_rate: float | None = None,
) -> Trained[S]:
    """Pass over the data `n_epochs` times. `sizes`: samples in a full batch and in the smaller last one; `names`: of what a
    step measures; the others: see `steer`.
    """

    def epoch(state: S, _: None = None) -> tuple[S, tuple[Measures, Measures, Measures]]:
        state, measured, last = one_pass(state)
        means = _means(measured, last, sizes)
        if validate is not None:
            means |= {f"val_{name}": value for name, value in validate(state.weights).items()}
        return state, (measured, last, means)

    if steering:
        names = [*names, *([] if validate is None else [f"val_{name}" for name in names])]
        ended = steer(epoch, state, steering, n_epochs, names, lazy, learning_rate)
        ran = ended.ran if any(each.stops for each in steering) else None
        return Trained(ended.state, *ended.measured, ran, ended.memories)
    final, (measured, last, means) = R.scan(epoch, state, length=n_epochs)
    return Trained(final, measured, last, means)


def in_batches(step: Step[B], batches: Batches[B]) -> Pass[State]:
    """Run `step` over all batches, one after another."""

    def one_pass(state: State) -> tuple[State, Measures, Measures]:
        of_epoch = batches.epoch(state.step)
        state, measured = R.scan(lambda s, x: step(s, of_epoch.batch(x)), state, of_epoch.xs)
        last: Measures = {}
        if of_epoch.last is not None:
            state, last = step(state, of_epoch.last)
        return state, measured, last

    return one_pass


def _means(measured: Measures, last: Measures, sizes: tuple[int, int]) -> Measures:
    """Means over the samples, of means over the full batches and over the last one."""
    means = {name: R.mean(value) for name, value in measured.items()}
    if not last:
        return means
    full = next(iter(measured.values())).static_shape[0] * sizes[0]
    share = full / (full + sizes[1])
    return {name: mean * share + last[name] * (1 - share) for name, mean in means.items()}


def evaluation(measure: Measure, samples: Samples) -> Callable[[dict[str, Op]], Measures]:
    """A function of weights that measures all samples. The data is bound now, not where it is called."""
    if samples.count <= INFERENCE_BATCH:
        whole = samples.slice(0, samples.count)
        return lambda weights: measure(weights, whole)
    batches = InOrder(samples, INFERENCE_BATCH)

    def evaluate(weights: dict[str, Op]) -> Measures:
        _, measured = R.scan(lambda _, batch: (None, measure(weights, batch)), None, batches.full)
        return _means(
            measured, measure(weights, batches.last) if batches.last is not None else {}, batches.sizes
        )

    return evaluate


def infer(predict: Callable[[tuple[Op, ...]], tuple[Op, ...]], xs: tuple[Op, ...]) -> tuple[Op, ...]:
    """`predict` over the rows of `xs`, a part at a time when there are many. → (rows, …) each."""
    rows = xs[0].static_shape[0]
    steps, rest = divmod(rows, INFERENCE_BATCH)
    if steps == 0 or (steps, rest) == (1, 0):
        return predict(xs)
    full = steps * INFERENCE_BATCH
    parts = tuple(
        R.reshape(x[:full] if rest else x, (steps, INFERENCE_BATCH, *x.static_shape[1:])) for x in xs
    )
    _, outputs = R.scan(lambda _, part: (None, predict(part)), None, parts)
    done = tuple(R.reshape(output, (full, *output.static_shape[2:])) for output in outputs)
    if not rest:
        return done
    last = predict(tuple(x[full:] for x in xs))
    return tuple(R.concat(pair, axis=0) for pair in zip(done, last, strict=True))
