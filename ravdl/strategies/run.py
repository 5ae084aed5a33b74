"""From a strategy to the run of a `fit`: the data is cut first, then the loops are traced.

One function a strategy, in `RUNS`; each takes what does not depend on the state, and gives a function that trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ravdl.neural_networks.callbacks.steering import Steering
from ravdl.neural_networks.data import Samples, cut
from ravdl.neural_networks.layers import Layer
from ravdl.neural_networks.loop import Pass, Trained, in_batches, train
from ravdl.neural_networks.training import Measures, Recipe, State
from ravdl.strategies.choice import Machine, chosen, is_trifle, refuses_shards, step_cost, told
from ravdl.strategies.kinds import DataParallel, LocalSGD, Nesterov, Sequential, Strategy
from ravdl.strategies.local import LocalTraining
from ravdl.strategies.parallel import step_in_shards
from ravdl.strategies.shards import cut_in_shards
from ravdl.strategies.workers import Worker, schedule
from ravop.client.api import connected, fleet
from ravop.errors import ArgumentError, RavenError
from ravop.graph import Op

LOOPBACK = 300e6
"""Bytes per second to a coordinator on the same machine, where nothing was measured yet."""


@dataclass(frozen=True)
class Start:
    """What a run begins with."""

    state: State
    frozen: dict[str, Op]
    """The weights that are not in the state."""
    known: Callable[[str], Op | None]
    """What earlier runs left, by flat name."""
    n_epochs: int
    validate: Callable[[dict[str, Op]], Measures] | None
    """From weights to measures of held-out data."""
    steering: tuple[Steering, ...] = ()
    """Callbacks that are part of the run."""


@dataclass(frozen=True)
class Finished:
    """What a run gives."""

    trained: Trained[Any]
    tensors: dict[str, Op]
    """All that it moved, by flat names."""
    full_batches: int
    """In an epoch; of one worker, where several train side by side."""
    last_batch: bool
    """Whether a smaller one follows."""


Run = Callable[[Start], Finished]


def _train(
    one_pass: Pass[Any], state: Any, sizes: tuple[int, int], start: Start, recipe: Recipe, lazy: bool = False
) -> Trained[Any]:
    """`lazy`: epochs after the end of a run are left out, for which each is one branch on one machine."""
    given = recipe.optimizer.learning_rate
    rate = None if callable(given) else given
    names = recipe.measured
    return train(one_pass, state, sizes, start.n_epochs, start.validate, start.steering, names, lazy, rate)


def prepared(strategy: Strategy, recipe: Recipe, samples: Samples, batch_size: int, shuffle: bool) -> Run:
    """A run of this strategy over these samples. Raises `ArgumentError` where they do not fit each other."""
    return RUNS[type(strategy)](strategy, recipe, samples, batch_size, shuffle)


def _sequential(how: Sequential, recipe: Recipe, samples: Samples, size: int, shuffle: bool) -> Run:
    batches = cut(samples, size, shuffle, recipe.seed)

    def run(start: Start) -> Finished:
        one_pass = in_batches(lambda state, batch: recipe.step(state, start.frozen, batch), batches)
        trained = _train(one_pass, start.state, batches.sizes, start, recipe, lazy=True)
        return Finished(trained, recipe.tensors(trained.state), batches.steps, bool(batches.sizes[1]))

    return run


def _data_parallel(how: DataParallel, recipe: Recipe, samples: Samples, size: int, shuffle: bool) -> Run:
    mixed = how.batch_norm == "synchronized"
    if mixed:
        _check_shards(recipe.layers)
    batches = cut_in_shards(samples, size, how.shards, shuffle, recipe.seed)

    def run(start: Start) -> Finished:
        one_pass = in_batches(
            lambda state, batch: step_in_shards(recipe, state, start.frozen, batch, mixed), batches
        )
        trained = _train(one_pass, start.state, batches.sizes, start, recipe)
        return Finished(trained, recipe.tensors(trained.state), batches.steps, bool(batches.sizes[1]))

    return run


def _check_shards(layers: tuple[Layer, ...]) -> None:
    layer = refuses_shards(layers)
    if layer is not None:
        raise ArgumentError(
            f"{layer.name} may mix the examples of a batch, so the batch cannot be cut",
            expected=f"{type(layer).__name__}.train_shards, or mixes_examples = False in that class",
            received=repr(layer),
            hint="DataParallel(..., batch_norm='per_shard') lets it see each shard alone; Sequential() cuts nothing",
        )


def _local_sgd(how: LocalSGD, recipe: Recipe, samples: Samples, size: int, shuffle: bool) -> Run:
    plan = schedule(samples.count, size, how.workers, how.sync_every)
    workers = tuple(
        Worker(samples, plan, index, how.workers, shuffle, recipe.seed) for index in range(how.workers)
    )

    def run(start: Start) -> Finished:
        local = LocalTraining(how, recipe, start.frozen, plan, workers)
        state = local.state(start.state, start.known)
        trained = _train(local.one_pass, state, local.sizes, start, recipe)
        return Finished(trained, local.tensors(trained.state), plan.steps, any(plan.rests))

    return run


def decided(
    asked: Strategy | None, recipe: Recipe, samples: Samples, batch_size: int
) -> tuple[Strategy, str]:
    """The strategy of a fit, None being "auto", and what to say of it. Asks the coordinator, when there is one, who is
    connected; but not for a trifle.
    """
    if isinstance(asked, Sequential):
        return asked, ""
    if not connected():
        alone = "Sequential(): no coordinator was connected when fit was called"
        return (Sequential(), alone) if asked is None else (asked, "")
    try:
        step = step_cost(recipe, samples, batch_size)
    except RavenError:  # weights that are no floats; or what will be told when the step itself is traced
        return asked or Sequential(), ""
    if asked is not None:
        said = (
            told(asked, step, _machines()),
            _short_epochs(asked, samples.count, batch_size),
            _running_statistics(asked, recipe.layers),
        )
        return asked, ". ".join(filter(None, said))
    return chosen(step, [] if is_trifle(step) else _machines(), recipe.layers)


def _short_epochs(how: Strategy, samples: int, batch_size: int) -> str:
    """Says so where workers meet more often than they were asked to."""
    if not isinstance(how, LocalSGD):
        return ""
    steps = samples // (batch_size * how.workers)
    return "" if steps >= how.sync_every else f"Workers meet after each epoch, that is every {steps} steps"


def _running_statistics(how: Strategy, layers: Sequence[Layer]) -> str:
    """Says so where what is averaged does not belong to the weights that result."""
    keepers = [layer.name for layer in layers if any(not spec.trainable for spec in layer.weights())]
    if not isinstance(how, LocalSGD) or not isinstance(how.outer, Nesterov) or not keepers:
        return ""
    return (
        f"The running statistics of {keepers[0]} are those of the workers' weights, which Nesterov moves on from: "
        "outer=Average() predicts better with such layers"
    )


def _machines() -> list[Machine]:
    found = fleet()
    unknown = LOOPBACK if found.local else 0.0
    return [
        Machine(provider.gflops, provider.link or unknown, found.round_trip)
        for provider in found.providers
        if provider.gflops > 0 and not provider.resting
    ]


RUNS: dict[type[Strategy], Callable[[Any, Recipe, Samples, int, bool], Run]] = {
    Sequential: _sequential,
    DataParallel: _data_parallel,
    LocalSGD: _local_sgd,
}
