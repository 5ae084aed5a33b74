"""One update of the weights: gradients are added up, clipped, and given to the optimizer's formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ravop as R
from ravdl.neural_networks.means import added
from ravdl.neural_networks.optimizers.optimizer import Optimizer, Part, Slots
from ravdl.neural_networks.packing import Pack
from ravop.graph import Op

Weights = dict[str, Op]
Memory = dict[str, Slots]
"""Slots by the key of the pack."""


def descended(
    optimizer: Optimizer,
    packs: Sequence[Pack],
    gradients: Mapping[str, Op],
    weights: Mapping[str, Op],
    slots: Memory,
    step: Op,
    scale: Op | None,
) -> tuple[Weights, Memory]:
    """New weights of all packs, and new slots.

    `gradients`: by the key of the pack; `step`: int64 scalar, 1 in the first step; `scale`: of the learning rate.
    """
    every = optimizer.accumulate
    if every == 1:
        return _updated(optimizer, packs, gradients, weights, slots, step, scale)
    sums = {key: slots[key][-1] + gradient for key, gradient in gradients.items()}
    memory = {key: kept[:-1] for key, kept in slots.items()}

    def update() -> tuple[Weights, Memory]:
        means = {key: total * (1 / every) for key, total in sums.items()}
        moved, after = _updated(optimizer, packs, means, weights, memory, step // every, scale)
        return moved, {pack.key: (*after[pack.key], R.zeros(pack.shape)) for pack in packs}

    def wait() -> tuple[Weights, Memory]:
        kept = {pack.key: (*memory[pack.key], sums[pack.key]) for pack in packs}
        return {name: weights[name] for pack in packs for name in pack.shapes}, kept

    found: tuple[Weights, Memory] = R.cond(R.equal(step % every, 0), update, wait)
    return found


def _updated(
    optimizer: Optimizer,
    packs: Sequence[Pack],
    gradients: Mapping[str, Op],
    weights: Mapping[str, Op],
    slots: Memory,
    step: Op,
    scale: Op | None,
) -> tuple[Weights, Memory]:
    rate = optimizer.rate(step, scale)
    factors = optimizer.factors(step, rate)
    clipped = _clipped(optimizer, gradients)
    moved: Weights = {}
    memory: Memory = {}
    for pack in packs:
        decays = optimizer.decays(pack.shapes[pack.key])
        part = Part(clipped[pack.key], lambda pack=pack: pack.join(weights), decays)  # type: ignore[misc]
        change, memory[pack.key] = optimizer.move(part, slots[pack.key], factors, rate)
        moved |= {name: weights[name] - piece for name, piece in pack.part(change).items()}
    return moved, memory


def _clipped(optimizer: Optimizer, gradients: Mapping[str, Op]) -> dict[str, Op]:
    """By element, then each alone, then all together, as far as that is asked for."""
    found = dict(gradients)
    if (limit := optimizer.clip_value) is not None:
        found = {key: R.clip(gradient, -limit, limit) for key, gradient in found.items()}
    if (limit := optimizer.clip_norm) is not None:
        found = {key: g * _factor(limit, R.sum(g * g)) for key, g in found.items()}
    if (limit := optimizer.global_clip_norm) is not None:
        factor = _factor(limit, added([R.sum(g * g) for g in found.values()]))
        found = {key: gradient * factor for key, gradient in found.items()}
    return found


def _factor(limit: float, square: Op) -> Op:
    """What takes a vector of this squared length to the limit, at most 1; NaN stays NaN."""
    return limit / R.maximum(R.sqrt(square), limit)
