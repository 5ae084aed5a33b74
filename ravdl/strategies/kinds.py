"""The strategies as a script names them: what each does, and its arguments, checked. How they are carried out is in
the modules beside this one.

Imports nothing of `ravdl.neural_networks`, which imports this.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ravdl.strategies.compression import TRANSFERS
from ravop.errors import ArgumentError
from ravop.graph import Op

BATCH_NORMS = ("synchronized", "per_shard")
AUTO = "auto"


@dataclass(frozen=True)
class Sequential:
    """One batch after another, each on one machine: exact minibatch training."""


@dataclass(frozen=True)
class DataParallel:
    """Each batch is cut in `shards`, whose gradients may be computed by as many machines at once; their sum, weighted
    by examples, makes one step. The result is that of `Sequential`, but for rounding.

    A weight whose true gradient is 0, such as a bias before batch normalization, gets rounding noise only, which Adam and
    its kin scale up to full steps: such a bias and the running mean may differ, and predictions while running statistics
    lag behind. SGD, or use_bias=False, is unaffected.

    Args:
        shards: of a batch; their sizes differ by one example at most.
        batch_norm: `"synchronized"`: mean and variance are those of the whole batch, for which the machines exchange
            sums. `"per_shard"`: each shard's own, as if it were the batch, and running statistics are the mean over the
            examples; less to exchange, and another result than `Sequential`.
    """

    shards: int
    batch_norm: str = "synchronized"

    def __post_init__(self) -> None:
        _at_least_one(self.shards, "shards")
        _one_of(self.batch_norm, BATCH_NORMS, "batch_norm")


@dataclass(frozen=True)
class Nesterov:
    """Outer optimizer of DiLoCo: v ← momentum v + d;  w ← w - learning_rate (d + momentum v), where d is the mean
    difference between the weights that a round began and ended with (as `torch.optim.SGD(nesterov=True)`).
    """

    learning_rate: float = 0.7
    momentum: float = 0.9

    def __post_init__(self) -> None:
        _number(self.learning_rate, "learning_rate", "a finite number above 0", lambda v: 0 < v < math.inf)
        _number(self.momentum, "momentum", "a number from 0 to below 1", lambda v: 0 <= v < 1)

    def change(self, difference: Op, memory: Op | None) -> tuple[Op, Op | None]:
        """What to subtract from the weights, and what to remember; `memory` is None only for `Average`."""
        assert memory is not None
        memory = memory * self.momentum + difference
        return (difference + memory * self.momentum) * self.learning_rate, memory


@dataclass(frozen=True)
class Average:
    """Outer optimizer that takes the mean of the workers' weights (local SGD; Stich 2019)."""

    def change(self, difference: Op, memory: Op | None) -> tuple[Op, Op | None]:
        return difference, None


@dataclass(frozen=True)
class LocalSGD:
    """DiLoCo (Douillard et al. 2023): each of `workers` trains on its own share of the samples; after `sync_every`
    steps the shared weights are moved by the mean of what the workers changed, and all start from them.

    Machines talk once in `sync_every` steps, so it suits slow lines. It is another training than `Sequential`: a step of all
    workers uses `workers * batch_size` samples, and an epoch has as many times fewer steps.

    Args:
        workers: each has its own optimizer memory.
        sync_every: steps between two exchanges; the last round of an epoch may be shorter.
        outer: `Nesterov(0.7, 0.9)` or `Average()`.
        transfer: how the differences travel: `"float32"`, `"float16"`, or `"int8"` by blocks of 1024; what rounding
            loses is sent with the next (error feedback).
    """

    workers: int
    sync_every: int
    outer: Nesterov | Average = field(default_factory=Nesterov)
    transfer: str = "float32"

    def __post_init__(self) -> None:
        _at_least_one(self.workers, "workers")
        _at_least_one(self.sync_every, "sync_every")
        _one_of(self.transfer, tuple(TRANSFERS), "transfer")
        if not isinstance(self.outer, Nesterov | Average):
            raise ArgumentError(
                "this is no outer optimizer",
                expected="Nesterov(0.7, 0.9) or Average()",
                received=repr(self.outer),
            )


Strategy = Sequential | DataParallel | LocalSGD


def checked_strategy(strategy: object) -> Strategy | None:
    """`strategy`, None for "auto". Raises `ArgumentError`."""
    if isinstance(strategy, Strategy):
        return strategy
    if strategy is Sequential:
        return Sequential()
    if isinstance(strategy, str) and strategy == AUTO:
        return None
    raise ArgumentError(
        "unknown strategy",
        expected='"auto", Sequential(), DataParallel(shards=2) or LocalSGD(workers=2, sync_every=100)',
        received=repr(strategy),
        hint="import them from ravdl.strategies",
    )


def _at_least_one(value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f"{what} must be a positive integer", expected="1, 2, 3, …", received=repr(value))


def _one_of(value: object, names: tuple[str, ...], what: str) -> None:
    if not isinstance(value, str) or value not in names:
        raise ArgumentError(f"unknown {what}", expected=" or ".join(map(repr, names)), received=repr(value))


def _number(value: object, what: str, expected: str, fits: Callable[[float], bool]) -> None:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not fits(float(value)):  # type: ignore[arg-type]
        raise ArgumentError(f"{what} is out of range", expected=expected, received=repr(value))
