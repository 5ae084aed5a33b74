"""Optimizers whose step shrinks where gradients were large: Adagrad, Adadelta."""

from __future__ import annotations

from typing import Unpack

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.arguments import above_zero, fraction, not_negative
from ravdl.neural_networks.optimizers.optimizer import Number, Optimizer, Options, Rate, Slots, single
from ravop.graph import Op


class Adagrad(Optimizer):
    """v ← v + g²;  w ← w - learning_rate / (1 + (t - 1) rate_decay) g / (√(v + initial) + epsilon), as `torch.optim.Adagrad`
    (Duchi et al. 2011). Weight decay adds weight_decay w to g.

    Args:
        learning_rate: above 0, or a schedule.
        rate_decay: at least 0 (PyTorch's lr_decay).
        initial: of the sum of squares, at least 0; the slot holds what was added.
        epsilon: above 0.
        options: see `Options`.
    """

    slots = ("v",)

    def __init__(
        self,
        learning_rate: Rate = 0.01,
        rate_decay: float = 0.0,
        initial: float = 0.0,
        epsilon: float = 1e-10,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rate_decay = not_negative(rate_decay, "rate_decay")
        self.initial = not_negative(initial, "initial")
        self.epsilon = above_zero(epsilon, "epsilon")

    def factors(self, step: Op, rate: Number) -> tuple[Number, ...]:
        if self.rate_decay:
            rate = rate / (1 + R.astype(step - 1, np.float64) * self.rate_decay)
        return single(1 / rate), single(self.epsilon / rate)

    def change(self, gradient: Op, slots: Slots, factors: tuple[Number, ...]) -> tuple[Op, Slots]:
        v = slots[0] + gradient * gradient
        whole = v + self.initial if self.initial else v
        return gradient / R.affine(R.sqrt(whole), *factors), (v,)


class Adadelta(Optimizer):
    """v ← rho v + (1 - rho) g²;  d = √(u + epsilon) / √(v + epsilon) g;  u ← rho u + (1 - rho) d²;  w ← w - learning_rate d,
    as `torch.optim.Adadelta` (Zeiler 2012). Weight decay adds weight_decay w to g.

    Args:
        learning_rate: above 0, or a schedule.
        rho: memory of both squares, from 0 to below 1.
        epsilon: above 0, added inside of the roots.
        options: see `Options`.
    """

    slots = ("v", "u")

    def __init__(
        self,
        learning_rate: Rate = 1.0,
        rho: float = 0.9,
        epsilon: float = 1e-6,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = fraction(rho, "rho")
        self.epsilon = above_zero(epsilon, "epsilon")

    def factors(self, step: Op, rate: Number) -> tuple[Number, ...]:
        return (single(rate),)

    def change(self, gradient: Op, slots: Slots, factors: tuple[Number, ...]) -> tuple[Op, Slots]:
        v, u = slots
        v = v * self.rho + gradient * gradient * (1 - self.rho)
        step = R.sqrt((u + self.epsilon) / (v + self.epsilon)) * gradient
        return step * factors[0], (v, u * self.rho + step * step * (1 - self.rho))
