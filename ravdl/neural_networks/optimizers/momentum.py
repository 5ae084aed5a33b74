"""Optimizers that walk along the gradient, or its mean over time: SGD, RMSprop, Lion."""

from __future__ import annotations

import math
from typing import Any, Unpack

import ravop as R
from ravdl.neural_networks.layers.arguments import above_zero, flag, fraction
from ravdl.neural_networks.optimizers.optimizer import Number, Optimizer, Options, Rate, Slots, single
from ravop.errors import ArgumentError
from ravop.graph import Op


class SGD(Optimizer):
    """w ← w - learning_rate g; with momentum v ← momentum v + g;  w ← w - learning_rate v, and with Nesterov's
    w ← w - learning_rate (g + momentum v). Equal to `torch.optim.SGD` (Sutskever et al. 2013).

    Weight decay adds weight_decay w to g.

    Args:
        learning_rate: above 0, or a schedule.
        momentum: from 0 to below 1.
        nesterov: look ahead; needs momentum.
        options: see `Options`.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum = fraction(momentum, "momentum")
        self.nesterov = flag(nesterov, "nesterov")
        if self.nesterov and not self.momentum:
            raise ArgumentError(
                "Nesterov's step needs momentum", expected="momentum above 0", received="momentum=0"
            )

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("velocity",) if self.momentum else ()

    def factors(self, step: Op, rate: Number) -> tuple[Number, ...]:
        return (single(rate),)

    def change(self, gradient: Op, slots: Slots, factors: tuple[Number, ...]) -> tuple[Op, Slots]:
        (rate,) = factors
        if not self.momentum:
            return gradient * rate, ()
        velocity = slots[0] * self.momentum + gradient
        ahead = gradient + velocity * self.momentum if self.nesterov else velocity
        return ahead * rate, (velocity,)


class RMSprop(Optimizer):
    """v ← rho v + (1 - rho) g²;  w ← w - learning_rate g / (√v + epsilon), as `torch.optim.RMSprop` (Hinton
    2012). Centered, √(v - a²) takes the place of √v, with a ← rho a + (1 - rho) g. With momentum
    b ← momentum b + g / (√v + epsilon);  w ← w - learning_rate b.

    While training, the slot holds v / (1 - rho), which saves a pass over the weights. Weight decay adds weight_decay w to g.

    Args:
        learning_rate: above 0, or a schedule.
        rho: memory of the squared gradient, from 0 to below 1 (PyTorch's alpha).
        epsilon: above 0, added outside of the root.
        momentum: from 0 to below 1.
        centered: whether the mean gradient is taken off.
        options: see `Options`.
    """

    momentum: float = 0.0
    centered: bool = False

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        rho: float = 0.9,
        epsilon: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = fraction(rho, "rho")
        self.epsilon = above_zero(epsilon, "epsilon")
        self.momentum = fraction(momentum, "momentum")
        self.centered = flag(centered, "centered")

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("v", *(["mean"] if self.centered else []), *(["velocity"] if self.momentum else []))

    def scales(self) -> tuple[float, ...]:
        return tuple(1.0 if slot == "velocity" else 1 - self.rho for slot in self.slots)

    def factors(self, step: Op, rate: Number) -> tuple[Number, ...]:
        scale = math.sqrt(1 - self.rho)
        return single(scale / rate), single(self.epsilon / rate), single(rate)

    def change(self, gradient: Op, slots: Slots, factors: tuple[Number, ...]) -> tuple[Op, Slots]:
        known = dict(zip(self.slots, slots, strict=True))
        slope, shift, rate = factors
        known["v"] = spread = known["v"] * self.rho + gradient * gradient
        if self.centered:
            mean = known["mean"] = known["mean"] * self.rho + gradient
            # Rounding may take it below zero where a gradient hardly varies; PyTorch gives NaN there.
            spread = R.maximum(spread - mean * mean * (1 - self.rho), 0.0)
        if not self.momentum:
            return gradient / R.affine(R.sqrt(spread), slope, shift), tuple(known.values())
        scaled = gradient / R.affine(R.sqrt(spread), math.sqrt(1 - self.rho), self.epsilon)
        known["velocity"] = known["velocity"] * self.momentum + scaled
        return known["velocity"] * rate, tuple(known.values())


class Lion(Optimizer):
    """w ← w - learning_rate (sign(b1 m + (1 - b1) g) + weight_decay w);  m ← b2 m + (1 - b2) g (Chen et al. 2023,
    algorithm 2).

    Args:
        learning_rate: above 0, or a schedule; a third to a tenth of what suits Adam.
        b1, b2: memory of the gradient in the step, and in what is remembered; from 0 to below 1.
        options: see `Options`.
    """

    slots = ("m",)
    decoupled = True

    def __init__(
        self, learning_rate: Rate = 1e-4, b1: float = 0.9, b2: float = 0.99, **options: Unpack[Options]
    ) -> None:
        super().__init__(learning_rate, **options)
        self.b1 = fraction(b1, "b1")
        self.b2 = fraction(b2, "b2")

    def factors(self, step: Op, rate: Number) -> tuple[Number, ...]:
        return (single(rate),)

    def change(self, gradient: Op, slots: Slots, factors: tuple[Number, ...]) -> tuple[Op, Slots]:
        (m,) = slots
        towards: Any = R.sign(m * self.b1 + gradient * (1 - self.b1))
        return towards * factors[0], (m * self.b2 + gradient * (1 - self.b2),)
