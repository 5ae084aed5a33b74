"""Each schedule gives PyTorch's learning rates; those that PyTorch lacks, Keras' or the paper's formula in NumPy."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as L

import ravop as R
from ravdl.neural_networks import schedules as S
from ravdl.neural_networks.optimizers import OPTIMIZERS, SGD
from ravdl.neural_networks.serialization import from_config, to_config
from ravop.errors import ArgumentError
from ravop.graph import Op

STEPS = 40


def by_torch(base: float, make: Callable[[torch.optim.Optimizer], Any], steps: int = STEPS) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler.step()
    return rates


def formula(function: Callable[[int], float]) -> Callable[[], list[float]]:
    return lambda: [function(step) for step in range(STEPS)]


ONE_CYCLE = lambda o: L.OneCycleLR(o, 0.1, total_steps=STEPS, pct_start=0.25, div_factor=10)  # noqa: E731

CASES: dict[str, tuple[S.Schedule, Callable[[], list[float]]]] = {
    "exponential": (
        S.ExponentialDecay(0.1, 1, 0.9),
        lambda: by_torch(0.1, lambda o: L.ExponentialLR(o, 0.9)),
    ),
    "staircase": (
        S.ExponentialDecay(0.1, 7, 0.5, staircase=True),
        lambda: by_torch(0.1, lambda o: L.StepLR(o, 7, 0.5)),
    ),
    "inverse": (S.InverseTimeDecay(0.1, 4, 0.5), formula(lambda s: 0.1 / (1 + 0.5 * s / 4))),
    "inverse, in stairs": (
        S.InverseTimeDecay(0.1, 4, 0.5, staircase=True),
        formula(lambda s: 0.1 / (1 + 0.5 * (s // 4))),
    ),
    "polynomial": (
        S.PolynomialDecay(0.1, 25, end=0.0, power=2.0),
        lambda: by_torch(0.1, lambda o: L.PolynomialLR(o, 25, 2.0)),
    ),
    "polynomial, again and again": (
        S.PolynomialDecay(0.1, 9, end=0.01, power=0.5, cycle=True),
        formula(lambda s: 0.09 * (1 - s / (9 * max(1, math.ceil(s / 9)))) ** 0.5 + 0.01),
    ),
    "cosine": (
        S.CosineDecay(0.1, STEPS, alpha=0.1),
        lambda: by_torch(0.1, lambda o: L.CosineAnnealingLR(o, STEPS, eta_min=0.01)),
    ),
    "restarts": (
        S.CosineRestarts(0.1, 5, period_factor=2, alpha=0.2),
        lambda: by_torch(0.1, lambda o: L.CosineAnnealingWarmRestarts(o, 5, 2, eta_min=0.02)),
    ),
    "equal restarts": (
        S.CosineRestarts(0.1, 6, period_factor=1),
        lambda: by_torch(0.1, lambda o: L.CosineAnnealingWarmRestarts(o, 6)),
    ),
    "lower restarts": (
        S.CosineRestarts(0.1, 10, period_factor=1, peak_factor=0.5),
        formula(lambda s: 0.1 * 0.5 ** (s // 10) * (1 + math.cos(math.pi * (s % 10) / 10)) / 2),
    ),
    "piecewise": (
        S.PiecewiseConstant([10, 20], [0.1, 0.05, 0.01]),
        formula(lambda s: 0.1 if s <= 10 else 0.05 if s <= 20 else 0.01),
    ),
    "warmup": (
        S.LinearWarmup(0.1, 8, start_factor=0.25),
        lambda: by_torch(0.1, lambda o: L.LinearLR(o, 0.25, total_iters=8)),
    ),
    "warmup, then cosine": (
        S.LinearWarmup(S.CosineDecay(0.1, 30), 10, start_factor=0.1),
        lambda: by_torch(
            0.1,
            lambda o: L.SequentialLR(
                o, [L.LinearLR(o, 0.1, total_iters=10), L.CosineAnnealingLR(o, 30)], milestones=[10]
            ),
        ),
    ),
    "one cycle": (
        S.OneCycle(0.1, STEPS, rise=0.25, start_divisor=10),
        lambda: [*by_torch(0.1, ONE_CYCLE, STEPS - 1), 0.01 / 1e4],  # PyTorch's last one is none of its own
    ),
    "noam": (
        S.NoamDecay(64, 10, scale=2.0),
        formula(lambda s: 2 * 64**-0.5 * min((s + 1) ** -0.5, (s + 1) * 10**-1.5)),
    ),
}


def test_every_schedule_gives_the_rates_of_its_formula(graph: R.Graph) -> None:
    for name, (schedule, _) in CASES.items():
        R.scan(lambda step, _, s=schedule: (step + 1, s(step)), R.t(0), length=STEPS)[1].persist_op(name)
    results = R.run_local()
    for name, (_, expected) in CASES.items():
        assert results[name].dtype == np.float64
        np.testing.assert_allclose(results[name], expected(), rtol=1e-9, atol=1e-12, err_msg=name)
    assert {type(schedule) for schedule, _ in CASES.values()} == set(S.SCHEDULES.values())


def halved(step: Op) -> Op:
    return 0.1 / (1 + R.astype(step, np.float32))


def test_schedules_are_saved_with_their_optimizer() -> None:
    registry = {**OPTIMIZERS, **S.SCHEDULES}
    for schedule, _ in CASES.values():
        optimizer = SGD(schedule)
        back = from_config(json.loads(json.dumps(to_config(optimizer))), registry)
        assert back.learning_rate == schedule
    back = from_config(to_config(SGD(halved)), registry, {"halved": halved})
    assert back.learning_rate is halved


BAD: dict[str, Callable[[], Any]] = {
    "initial": lambda: S.CosineDecay(0, 10),
    "steps": lambda: S.ExponentialDecay(0.1, 0, 0.5),
    "one boundary": lambda: S.PiecewiseConstant(5, [1, 2]),  # type: ignore[arg-type]
    "a rate beyond all floats": lambda: S.ExponentialDecay(10**400, 2, 0.5),
    "more steps than can be counted": lambda: S.OneCycle(0.1, 10**400),
    "boundaries": lambda: S.PiecewiseConstant([5, 3], [1, 2, 3]),
    "values": lambda: S.PiecewiseConstant([5], [1]),
    "rise": lambda: S.OneCycle(0.1, 10, rise=1.0),
    "after": lambda: S.LinearWarmup(-0.1, 10),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_schedule_takes_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError):
        BAD[name]()
