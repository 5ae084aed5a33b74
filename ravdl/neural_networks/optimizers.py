"""Optimizers: how a gradient moves a weight. Each is a description; its running state (slots) is held by the
model.

The formulas are element-wise, so the training step may apply them to one weight or to many packed into one
tensor.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.arguments import above_zero, fraction
from ravop.graph import Op


class Optimizer:
    """Base of all optimizers. `slots` names what is remembered for each element of each weight, starting at
    zero.
    """

    slots: ClassVar[tuple[str, ...]] = ()

    def scales(self) -> tuple[float, ...]:
        """What each slot is multiplied by to be the quantity of its name, as it is stored between runs."""
        return (1.0,) * len(self.slots)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(vars(self))

    def factors(self, step: Op) -> tuple[Op, ...]:
        """Scalars (float32) that all weights share in one step. `step`: int64 scalar, 1 in the first step."""
        return ()

    def change(
        self, gradient: Op, slots: tuple[Op, ...], factors: tuple[Op, ...]
    ) -> tuple[Op, tuple[Op, ...]]:
        """What to subtract from the weight, and the new slots; all of the gradient's shape."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in self.config().items())})"
        )


class RMSprop(Optimizer):
    """v ← rho v + (1 - rho) g²;  w ← w - learning_rate g / (√v + epsilon), as `torch.optim.RMSprop` (Hinton
    2012).

    While training, the slot holds v / (1 - rho), which saves a pass over the weights.

    Args:
        learning_rate: above 0.
        rho: memory of the squared gradient, from 0 to below 1 (PyTorch's alpha).
        epsilon: above 0, added outside of the root.
    """

    slots = ("v",)

    def __init__(self, learning_rate: float = 0.01, rho: float = 0.9, epsilon: float = 1e-8) -> None:
        self.learning_rate = above_zero(learning_rate, "learning_rate")
        self.rho = fraction(rho, "rho")
        self.epsilon = above_zero(epsilon, "epsilon")

    def scales(self) -> tuple[float, ...]:
        return (1 - self.rho,)

    def change(
        self, gradient: Op, slots: tuple[Op, ...], factors: tuple[Op, ...]
    ) -> tuple[Op, tuple[Op, ...]]:
        v = slots[0] * self.rho + gradient * gradient
        scale = math.sqrt(1 - self.rho)
        slope, shift = scale / self.learning_rate, self.epsilon / self.learning_rate
        return gradient / R.affine(R.sqrt(v), slope, shift), (v,)


class Adam(Optimizer):
    """Kingma & Ba 2015, algorithm 1, with bias correction; equal to `torch.optim.Adam`.

    m ← b1 m + (1 - b1) g;  v ← b2 v + (1 - b2) g²;  w ← w - learning_rate m̂ / (√v̂ + epsilon),
    where m̂ = m / (1 - b1ᵗ) and v̂ = v / (1 - b2ᵗ).

    Computed with fewer passes over the weights: while training, the slots hold m / (1 - b1) and v / (1 - b2), and with
    c = √((1 - b2ᵗ) / (1 - b2)) the same step is learning_rate c (1 - b1) / (1 - b1ᵗ) * m / (√v + epsilon c)
    of these. With r for the factor of m, m / (√v / r + epsilon c / r) takes a pass less still; 1 / r and
    epsilon c / r are scalars, taken in float64.

    Args:
        learning_rate: above 0.
        b1, b2: memory of the gradient and of its square, from 0 to below 1.
        epsilon: above 0, added outside of the root of the corrected v̂.
    """

    slots = ("m", "v")

    def __init__(
        self, learning_rate: float = 0.001, b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        self.learning_rate = above_zero(learning_rate, "learning_rate")
        self.b1 = fraction(b1, "b1")
        self.b2 = fraction(b2, "b2")
        self.epsilon = above_zero(epsilon, "epsilon")

    def scales(self) -> tuple[float, ...]:
        return (1 - self.b1, 1 - self.b2)

    def factors(self, step: Op) -> tuple[Op, ...]:
        t = R.astype(step, np.float64)
        correction = R.sqrt((1 - R.pow(self.b2, t)) * (1 / (1 - self.b2)))
        rate = correction * (self.learning_rate * (1 - self.b1)) / (1 - R.pow(self.b1, t))
        return R.astype(1 / rate, np.float32), R.astype(correction * self.epsilon / rate, np.float32)

    def change(
        self, gradient: Op, slots: tuple[Op, ...], factors: tuple[Op, ...]
    ) -> tuple[Op, tuple[Op, ...]]:
        m = slots[0] * self.b1 + gradient
        v = slots[1] * self.b2 + gradient * gradient
        return m / R.affine(R.sqrt(v), *factors), (m, v)


OPTIMIZERS: dict[str, type[Optimizer]] = {kind.__name__: kind for kind in (Adam, RMSprop)}
"""By class name, as saved models name them."""
