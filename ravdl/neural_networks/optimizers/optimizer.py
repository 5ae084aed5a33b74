"""What every optimizer is: how a gradient moves a weight. Each is a description; its running state (slots) is
held by the model, and `ravdl.neural_networks.descent` applies it.

The formulas are element-wise where they do not say otherwise, so the training step may apply them to one weight or to
many packed into one tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict, Unpack

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.arguments import Shape, above_zero, flag, not_negative, positive
from ravdl.neural_networks.signatures import Checked
from ravop.errors import ArgumentError
from ravop.graph import Op

Number = float | Op
"""A number, known when the graph is defined, or a scalar op."""

Rate = float | Callable[[Op], Any]
"""A learning rate: a number, or a function of the updates done so far (int64 scalar op, 0 in the first one)."""

Slots = tuple[Op, ...]

LEAST_RATE = 1e-30
"""A scheduled rate is at least this, so that formulas may divide by it."""

ACCUMULATED = "accumulated"
"""The slot in which gradients are added up."""


class Options(TypedDict, total=False):
    """Arguments that all optimizers take.

    weight_decay: what is subtracted of a weight in each update, see the optimizer; 0 by default, at least 0.
    decay_vectors: whether weights of one axis decay too: biases, and the scales of norms; True by default, as in PyTorch.
    clip_value: each element of a gradient is cut to at most this magnitude.
    clip_norm: each weight's gradient is scaled down to at most this Euclidean norm.
    global_clip_norm: all gradients are scaled down together, to at most this norm of all as one vector
        (`torch.nn.utils.clip_grad_norm_`).
    accumulate: update once in so many steps, with the mean of their gradients: for equal batches as one batch so many times
        larger would. What is not used at the end of a run is used by the next.
    """

    weight_decay: float
    decay_vectors: bool
    clip_value: float | None
    clip_norm: float | None
    global_clip_norm: float | None
    accumulate: int


@dataclass(frozen=True)
class Part:
    """What is moved as one: a weight, or many joined."""

    gradient: Op
    weights: Callable[[], Op]
    """Joins them, which takes a pass: only for those who need them."""
    decays: bool


class Optimizer(Checked):
    """Base of all optimizers. `slots` names what is remembered for each element of each weight, starting at
    zero.

    A class of its own overrides `change`, and `factors` where the weights share something in an update.

    Args:
        learning_rate: above 0, or a schedule: an object of `schedules`, or any function of ops, see `Rate`.
        options: see `Options`.
    """

    slots: tuple[str, ...] = ()
    alone: ClassVar[bool] = False
    """Whether the formula is of a weight as a whole, so that weights cannot be moved together."""
    decoupled: ClassVar[bool] = False
    """Whether weight decay is beside the gradient step (Loshchilov & Hutter 2019), else it is added to the gradient."""

    learning_rate: Rate = 1.0
    weight_decay: float = 0.0
    decay_vectors: bool = True
    clip_value: float | None = None
    clip_norm: float | None = None
    global_clip_norm: float | None = None
    accumulate: int = 1

    def __init__(self, learning_rate: Rate = 1.0, **options: Unpack[Options]) -> None:
        self.learning_rate = (
            learning_rate if callable(learning_rate) else above_zero(learning_rate, "learning_rate")
        )
        for name, value in options.items():
            if name not in _CHECKS:
                raise ArgumentError(
                    f"{type(self).__name__} has no argument {name!r}",
                    expected=f"its own, and {', '.join(_CHECKS)}",
                    received=f"{name}={value!r}",
                )
            if value != getattr(type(self), name):
                setattr(self, name, None if value is None else _CHECKS[name](value, name))

    # ── the formula ───────────────────────────────────────────────────────────────────────────────
    def scales(self) -> tuple[float, ...]:
        """What each slot is multiplied by to be the quantity of its name, as it is stored between runs."""
        return (1.0,) * len(self.slots)

    def factors(self, step: Op, rate: Number) -> tuple[Number, ...]:
        """Scalars (float32) that all weights share in one update. `step`: int64 scalar, 1 in the first update; `rate`: the
        learning rate, float64 where it is an op.
        """
        return ()

    def change(self, gradient: Op, slots: Slots, factors: tuple[Number, ...]) -> tuple[Op, Slots]:
        """What to subtract from the weight, and the new slots; all of the gradient's shape."""
        raise NotImplementedError

    def move(self, part: Part, slots: Slots, factors: tuple[Number, ...], rate: Number) -> tuple[Op, Slots]:
        """`change`, with weight decay."""
        decay = self.weight_decay if part.decays else 0.0
        gradient = part.gradient
        if decay and not self.decoupled:
            gradient = gradient + part.weights() * decay
        change, slots = self.change(gradient, slots, factors)
        if decay and self.decoupled:
            change = change + part.weights() * single(rate * decay)
        return change, slots

    # ── what the training step asks ───────────────────────────────────────────────────────────────
    @property
    def kept(self) -> list[tuple[str, float]]:
        """All slots with their scales, that of accumulated gradients last."""
        own = list(zip(self.slots, self.scales(), strict=True))
        return own if self.accumulate == 1 else [*own, (ACCUMULATED, 1.0)]

    def rate(self, step: Op, scale: Op | None) -> Number:
        """The learning rate of an update. `step`: see `factors`; `scale`: what callbacks multiply it by."""
        rate: Number
        if not callable(self.learning_rate):
            rate = self.learning_rate
        else:
            given = R.astype(R.t(self.learning_rate(step - 1)), np.float64)
            if given.shape:
                raise ArgumentError(
                    "a learning rate is a scalar",
                    expected="a function from a scalar op to one",
                    received=given.shape,
                )
            rate = R.maximum(given, LEAST_RATE)
        return rate if scale is None else R.maximum(R.astype(scale, np.float64) * rate, LEAST_RATE)

    def decays(self, shape: Shape) -> bool:
        """Whether a weight of this shape decays."""
        return self.weight_decay > 0 and (self.decay_vectors or len(shape) > 1)

    def group(self, shape: Shape) -> Hashable | None:
        """Weights of equal groups may be moved together; one without a group is moved alone."""
        return None if self.alone or self.clip_norm is not None else self.decays(shape)

    # ── description ───────────────────────────────────────────────────────────────────────────────
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, but for `Options` that have their default."""
        return dict(vars(self))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in self.config().items())})"
        )


def single(value: Number) -> Number:
    """As a float32 scalar, where it is an op."""
    return R.astype(value, np.float32) if isinstance(value, Op) else value


_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "weight_decay": not_negative,
    "decay_vectors": flag,
    "clip_value": above_zero,
    "clip_norm": above_zero,
    "global_clip_norm": above_zero,
    "accumulate": positive,
}
