"""Learning rates that change as training goes: what an optimizer takes as `learning_rate`.

A schedule is a function of the updates done so far (an int64 scalar op, 0 in the first update) whose value is an op; any
function of ops will do. Those here are values, which `model.save()` keeps. Pure arithmetic, in float64.

After its last step a decay stays at its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.arguments import (
    above_zero,
    flag,
    fraction,
    not_negative,
    positive,
)
from ravop.errors import ArgumentError
from ravop.graph import Op

_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "initial": above_zero,
    "peak": above_zero,
    "end": not_negative,
    "alpha": not_negative,
    "decay_rate": above_zero,
    "power": above_zero,
    "scale": above_zero,
    "start_factor": fraction,
    "rise": fraction,
    "start_divisor": above_zero,
    "end_divisor": above_zero,
    "period_factor": above_zero,
    "peak_factor": above_zero,
    "staircase": flag,
    "cycle": flag,
    "steps": positive,
    "warmup_steps": positive,
    "n_units": positive,
}


class Schedule:
    """Base of all schedules, which are frozen dataclasses: their fields are checked and are their `config()`."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            if field.name in _CHECKS:
                object.__setattr__(
                    self, field.name, _CHECKS[field.name](getattr(self, field.name), field.name)
                )

    def __call__(self, step: Op) -> Op:
        """The learning rate, a float64 scalar, after `step` updates (int64 scalar)."""
        return self.at(R.astype(step, np.float64))

    def at(self, step: Op) -> Op:
        """As a call; `step` is float64."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


def _cosine(share: Op) -> Op:
    """From 1 at 0 to 0 at 1."""
    return (R.cos(share * math.pi) + 1.0) * 0.5


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """initial decay_rate^(step / steps), as Keras' ExponentialDecay; in whole numbers of `steps` with `staircase`
    (`torch.optim.lr_scheduler.StepLR`).
    """

    initial: float
    steps: int
    decay_rate: float
    staircase: bool = False

    def at(self, step: Op) -> Op:
        share = step / self.steps
        return R.pow(self.decay_rate, R.floor(share) if self.staircase else share) * self.initial


@dataclass(frozen=True)
class InverseTimeDecay(Schedule):
    """initial / (1 + decay_rate step / steps), as Keras' InverseTimeDecay."""

    initial: float
    steps: int
    decay_rate: float
    staircase: bool = False

    def at(self, step: Op) -> Op:
        share = step / self.steps
        return self.initial / (1 + (R.floor(share) if self.staircase else share) * self.decay_rate)


@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """(initial - end) (1 - step / steps)^power + end, as Keras' PolynomialDecay. With `cycle`, `steps` grows to the next
    multiple of itself each time it is reached.
    """

    initial: float
    steps: int
    end: float = 0.0001
    power: float = 1.0
    cycle: bool = False

    def at(self, step: Op) -> Op:
        if self.cycle:
            share = step / (R.maximum(R.ceil(step / self.steps), 1.0) * self.steps)
        else:
            share = R.minimum(step / self.steps, 1.0)
        return R.pow(1.0 - share, self.power) * (self.initial - self.end) + self.end


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """From initial to alpha initial along half a cosine, in `steps` (Loshchilov & Hutter 2017;
    `torch.optim.lr_scheduler.CosineAnnealingLR`).
    """

    initial: float
    steps: int
    alpha: float = 0.0

    def at(self, step: Op) -> Op:
        falling = _cosine(R.minimum(step / self.steps, 1.0))
        return (falling * (1 - self.alpha) + self.alpha) * self.initial


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Cosine decays one after another, each `period_factor` times as long as the one before, from a start `peak_factor` times
    as high, as Keras' CosineDecayRestarts (Loshchilov & Hutter 2017; `torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`).
    """

    initial: float
    steps: int
    """Of the first decay."""
    period_factor: float = 2.0
    peak_factor: float = 1.0
    alpha: float = 0.0

    def at(self, step: Op) -> Op:
        share, factor = step / self.steps, self.period_factor
        if factor == 1:
            number = R.floor(share)
            within = share - number
        else:
            # A rounding error just below a restart would count it to the decay before.
            number = R.floor(R.natlog(1.0 - share * (1 - factor)) * (1 / math.log(factor)) + 1e-9)
            length = R.pow(factor, number)
            within = R.maximum((share - (1.0 - length) * (1 / (1 - factor))) / length, 0.0)
        peak = R.pow(self.peak_factor, number)
        return (_cosine(within) * peak * (1 - self.alpha) + self.alpha) * self.initial


@dataclass(frozen=True)
class PiecewiseConstant(Schedule):
    """`values[0]` up to and with step `boundaries[0]`, and so on, as Keras' PiecewiseConstantDecay; one value more than
    boundaries.
    """

    boundaries: Sequence[int]
    values: Sequence[float]

    def __post_init__(self) -> None:
        for name in ("boundaries", "values"):
            if not isinstance(getattr(self, name), list | tuple | np.ndarray):
                raise ArgumentError(
                    f"{name} is a list", expected="such as [1000, 2000]", received=repr(getattr(self, name))
                )
        edges = tuple(positive(edge, "a boundary") for edge in self.boundaries)
        if len(self.values) != len(edges) + 1 or list(edges) != sorted(set(edges)):
            raise ArgumentError(
                "boundaries and values do not fit each other",
                expected="rising boundaries, and one value more",
                received=f"boundaries={list(self.boundaries)}, values={list(self.values)}",
            )
        object.__setattr__(self, "boundaries", edges)
        object.__setattr__(self, "values", tuple(above_zero(value, "a value") for value in self.values))

    def at(self, step: Op) -> Op:
        passed = R.sum(R.astype(np.array(self.boundaries, np.float64) < step, np.int64))
        return R.gather(R.t(np.array(self.values), np.float64), passed)


Given = float | Schedule | Callable[[Op], Any]


@dataclass(frozen=True)
class LinearWarmup(Schedule):
    """From start_factor times the first rate to it in `steps`, along a line; then `after`, whose step 0 is there.

    Args:
        after: the rate, or a schedule of it.
    """

    after: Given
    steps: int
    start_factor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.after):
            above_zero(self.after, "after")

    def at(self, step: Op) -> Op:
        warm = R.minimum(step / self.steps, 1.0) * (1 - self.start_factor) + self.start_factor
        if not callable(self.after):
            return warm * self.after
        later = R.maximum(R.astype(step, np.int64) - self.steps, 0)
        return warm * R.astype(R.t(self.after(later)), np.float64)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """From peak / start_divisor up to peak in the first `rise` of `steps`, then down to the start / end_divisor, both along half
    a cosine, as `torch.optim.lr_scheduler.OneCycleLR` (Smith & Topin 2018).
    """

    peak: float
    steps: int
    rise: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4

    def at(self, step: Op) -> Op:
        top, last = self.rise * self.steps - 1, self.steps - 1
        low = self.peak / self.start_divisor
        step = R.minimum(step, float(last))
        down = _cosine((step - top) * (1 / max(last - top, 1.0))) * (self.peak - low / self.end_divisor)
        down = down + low / self.end_divisor
        if top <= 0:
            return down
        up = self.peak - _cosine(step * (1 / top)) * (self.peak - low)
        return R.where(step <= top, up, down)


@dataclass(frozen=True)
class NoamDecay(Schedule):
    """scale n_units^-½ min(s^-½, s warmup_steps^-1½), where s is 1 in the first update (Vaswani et al. 2017, 5.3)."""

    n_units: int
    warmup_steps: int = 4000
    scale: float = 1.0

    def at(self, step: Op) -> Op:
        number = step + 1.0
        rate = R.minimum(1 / R.sqrt(number), number * self.warmup_steps**-1.5)
        return rate * (self.scale / math.sqrt(self.n_units))


SCHEDULES: dict[str, type[Schedule]] = {
    kind.__name__: kind
    for kind in (
        CosineDecay,
        CosineRestarts,
        ExponentialDecay,
        InverseTimeDecay,
        LinearWarmup,
        NoamDecay,
        OneCycle,
        PiecewiseConstant,
        PolynomialDecay,
    )
}
"""By class name, as saved models name them."""
