"""Adam and its kin: steps along the mean gradient, measured by the mean of its square."""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np

import ravop as R
from ravdl.neural_networks.layers.arguments import above_zero, flag, fraction, not_negative
from ravdl.neural_networks.optimizers.optimizer import Number, Optimizer, Options, Part, Rate, Slots, single
from ravop.graph import Op


class Adam(Optimizer):
    """Kingma & Ba 2015, algorithm 1, with bias correction; equal to `torch.optim.Adam`.

    m ← b1 m + (1 - b1) g;  v ← b2 v + (1 - b2) g²;  w ← w - learning_rate m̂ / (√v̂ + epsilon),
    where m̂ = m / (1 - b1ᵗ) and v̂ = v / (1 - b2ᵗ). Weight decay adds weight_decay w to g.

    Computed with fewer passes over the weights: while training, the slots hold m / (1 - b1) and v / (1 - b2), and with
    c = √((1 - b2ᵗ) / (1 - b2)) the same step is learning_rate c (1 - b1) / (1 - b1ᵗ) * m / (√v + epsilon c)
    of these. With r for the factor of m, m / (√v / r + epsilon c / r) takes a pass less still; 1 / r and
    epsilon c / r are scalars, taken in float64.

    Args:
        learning_rate: above 0, or a schedule.
        b1, b2: memory of the gradient and of its square, from 0 to below 1.
        epsilon: above 0, added outside of the root of the corrected v̂.
        amsgrad: whether v in the step is the largest one so far (Reddi et al. 2018).
        options: see `Options`.
    """

    amsgrad: bool = False

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        b1: float = 0.9,
        b2: float = 0.999,
        epsilon: float = 1e-8,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.b1 = fraction(b1, "b1")
        self.b2 = fraction(b2, "b2")
        self.epsilon = above_zero(epsilon, "epsilon")
        self.amsgrad = flag(amsgrad, "amsgrad")

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("m", "v", "peak") if self.amsgrad else ("m", "v")

    def scales(self) -> tuple[float, ...]:
        return (1 - self.b1, 1 - self.b2, 1 - self.b2)[: len(self.slots)]

    def factors(self, step: Op, rate: Number) -> tuple[Number, ...]:
        t = R.astype(step, np.float64)
        correction = R.sqrt((1 - R.pow(self.b2, t)) * (1 / (1 - self.b2)))
        rate = correction * (rate * (1 - self.b1)) / (1 - R.pow(self.b1, t))
        return R.astype(1 / rate, np.float32), R.astype(correction * self.epsilon / rate, np.float32)

    def change(self, gradient: Op, slots: Slots, factors: tuple[Number, ...]) -> tuple[Op, Slots]:
        m = slots[0] * self.b1 + gradient
        v = slots[1] * self.b2 + gradient * gradient
        if not self.amsgrad:
            return m / R.affine(R.sqrt(v), *factors), (m, v)
        peak = R.maximum(slots[2], v)
        return m / R.affine(R.sqrt(peak), *factors), (m, v, peak)


class AdamW(Adam):
    """`Adam` with decoupled weight decay: each update also subtracts learning_rate weight_decay w (Loshchilov & Hutter
    2019); equal to `torch.optim.AdamW`.

    Args: as `Adam`; weight_decay: 0.01 by default. decay_vectors=False leaves out biases and the scales of norms.
    """

    decoupled = True
    weight_decay = 0.01


class Adamax(Optimizer):
    """m ← b1 m + (1 - b1) g;  u ← max(b2 u, |g| + epsilon);  w ← w - learning_rate / (1 - b1ᵗ) m / u (Kingma & Ba 2015,
    algorithm 2); equal to `torch.optim.Adamax`. Weight decay adds weight_decay w to g.

    While training, the slot m holds m / (1 - b1).

    Args: as `Adam`; learning_rate: 0.002 by default, as PyTorch's.
    """

    slots = ("m", "u")

    def __init__(
        self,
        learning_rate: Rate = 0.002,
        b1: float = 0.9,
        b2: float = 0.999,
        epsilon: float = 1e-8,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.b1 = fraction(b1, "b1")
        self.b2 = fraction(b2, "b2")
        self.epsilon = above_zero(epsilon, "epsilon")

    def scales(self) -> tuple[float, ...]:
        return (1 - self.b1, 1.0)

    def factors(self, step: Op, rate: Number) -> tuple[Number, ...]:
        t = R.astype(step, np.float64)
        return (single((1 - self.b1) * rate / (1 - R.pow(self.b1, t))),)

    def change(self, gradient: Op, slots: Slots, factors: tuple[Number, ...]) -> tuple[Op, Slots]:
        m = slots[0] * self.b1 + gradient
        u = R.maximum(slots[1] * self.b2, R.abs(gradient) + self.epsilon)
        return m / u * factors[0], (m, u)


class Nadam(Optimizer):
    """Adam with Nesterov's momentum (Dozat 2016); equal to `torch.optim.NAdam`.

    m and v as in `Adam`, μᵗ = b1 (1 - 0.96^(t momentum_decay) / 2), and M the product of all μ so far:
    w ← w - learning_rate (g (1 - μᵗ) / (1 - M) + m μᵗ⁺¹ / (1 - M μᵗ⁺¹)) / (√v̂ + epsilon). Weight decay adds weight_decay w to g.

    Args: as `Adam`; momentum_decay: at least 0.
    """

    slots = ("m", "v")

    def __init__(
        self,
        learning_rate: Rate = 0.002,
        b1: float = 0.9,
        b2: float = 0.999,
        epsilon: float = 1e-8,
        momentum_decay: float = 0.004,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.b1 = fraction(b1, "b1")
        self.b2 = fraction(b2, "b2")
        self.epsilon = above_zero(epsilon, "epsilon")
        self.momentum_decay = not_negative(momentum_decay, "momentum_decay")

    def scales(self) -> tuple[float, ...]:
        return (1 - self.b1, 1 - self.b2)

    def factors(self, step: Op, rate: Number) -> tuple[Number, ...]:
        t = R.astype(step, np.float64)
        table = R.t(self._products(), np.float64)
        product = R.gather(table, R.minimum(step, table.static_shape[0] - 1))
        now, coming = self._mu(t), self._mu(t + 1)
        along = (1 - now) / (1 - product) * rate
        ahead = coming / (1 - product * coming) * rate * (1 - self.b1)
        correction = R.sqrt((1 - self.b2) / (1 - R.pow(self.b2, t)))
        return single(along), single(ahead), single(correction)

    def _mu(self, t: Any) -> Any:
        return self.b1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def _products(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """M by t, from t = 0 to where it is too small to be told from 0: no μ is larger than b1."""
        last = 2 if self.b1 == 0 else math.ceil(-40 / math.log(self.b1)) + 1
        found = np.cumprod([1.0, *self._mu(np.arange(1, last))])
        return np.append(found[found > 1e-17], 0.0)

    def change(self, gradient: Op, slots: Slots, factors: tuple[Number, ...]) -> tuple[Op, Slots]:
        along, ahead, correction = factors
        m = slots[0] * self.b1 + gradient
        v = slots[1] * self.b2 + gradient * gradient
        return (gradient * along + m * ahead) / R.affine(R.sqrt(v), correction, self.epsilon), (m, v)


class LAMB(Adam):
    """Adam's step u = m̂ / (√v̂ + epsilon) + weight_decay w, made as long as the weight is: w ← w - learning_rate |w| / |u| u, with
    Euclidean norms of each weight; 1 for the ratio where either is 0 (You et al. 2020, algorithm 2).

    Args: as `Adam`, without amsgrad.
    """

    alone = True

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        b1: float = 0.9,
        b2: float = 0.999,
        epsilon: float = 1e-6,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, b1, b2, epsilon, **options)
        del self.amsgrad  # the class's

    def factors(self, step: Op, rate: Number) -> tuple[Number, ...]:
        return super().factors(step, 1.0)

    def move(self, part: Part, slots: Slots, factors: tuple[Number, ...], rate: Number) -> tuple[Op, Slots]:
        weights = part.weights()
        step, slots = self.change(part.gradient, slots, factors)
        if part.decays:
            step = step + weights * self.weight_decay
        lengths = [R.sqrt(R.sum(R.square(each))) for each in (weights, step)]
        known = R.logical_and(lengths[0] > 0, lengths[1] > 0)
        ratio = R.where(known, lengths[0] / R.where(known, lengths[1], 1.0), 1.0)
        return step * (ratio * single(rate)), slots
