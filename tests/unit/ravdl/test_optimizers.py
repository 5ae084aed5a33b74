"""Each optimizer moves weights as PyTorch's does, or as the paper's algorithm written in NumPy where PyTorch has none."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks import optimizers as O
from ravdl.neural_networks import schedules as S
from ravdl.neural_networks.layers import Activation, Dense
from ravdl.neural_networks.loss_functions import SquareLoss
from ravdl.strategies import DataParallel
from ravop.errors import ArgumentError

SAMPLES, BATCH, EPOCHS = 40, 8, 4
"""20 steps."""


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, algorithm 2."""

    def __init__(self, parameters: Any, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                b1, b2 = group["betas"]
                update = torch.sign(b1 * m + (1 - b1) * p.grad) + group["decay"] * p
                p.sub_(group["lr"] * update)
                m.copy_(b2 * m + (1 - b2) * p.grad)


class LAMB(torch.optim.Optimizer):
    """You et al. 2020, algorithm 2."""

    def __init__(self, parameters: Any, lr: float, weight_decay: float, eps: float = 1e-6) -> None:
        super().__init__(parameters, {"lr": lr, "decay": weight_decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                own = self.state[p]
                t = own["t"] = own.get("t", 0) + 1
                m = own["m"] = 0.9 * own.get("m", 0) + 0.1 * p.grad
                v = own["v"] = 0.999 * own.get("v", 0) + 0.001 * p.grad**2
                u = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + group["eps"]) + group["decay"] * p
                weight, step = p.norm(), u.norm()
                ratio = weight / step if weight > 0 and step > 0 else 1.0
                p.sub_(group["lr"] * ratio * u)


def matrices_only(parameters: Iterable[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    listed = list(parameters)
    return [
        {"params": [p for p in listed if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in listed if p.ndim <= 1], "weight_decay": 0.0},
    ]


T = torch.optim
Case = tuple[O.Optimizer, Callable[[Any], torch.optim.Optimizer]]
CASES: dict[str, Case] = {
    "SGD": (O.SGD(0.1), lambda p: T.SGD(p, 0.1)),
    "SGD momentum": (O.SGD(0.05, momentum=0.8), lambda p: T.SGD(p, 0.05, momentum=0.8)),
    "SGD Nesterov, decay": (
        O.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: T.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    "Adam": (O.Adam(0.01), lambda p: T.Adam(p, 0.01)),
    "Adam amsgrad, decay": (
        O.Adam(0.02, b1=0.5, b2=0.6, amsgrad=True, weight_decay=0.05),
        lambda p: T.Adam(p, 0.02, betas=(0.5, 0.6), amsgrad=True, weight_decay=0.05),
    ),
    "AdamW": (O.AdamW(0.02), lambda p: T.AdamW(p, 0.02)),
    "AdamW, matrices only": (
        O.AdamW(0.02, weight_decay=0.5, decay_vectors=False),
        lambda p: T.AdamW(matrices_only(p, 0.5), 0.02),
    ),
    "Adamax": (O.Adamax(0.02, weight_decay=0.1), lambda p: T.Adamax(p, 0.02, weight_decay=0.1)),
    "Adagrad": (O.Adagrad(0.05), lambda p: T.Adagrad(p, 0.05)),
    "Adagrad initial, decaying": (
        O.Adagrad(0.1, rate_decay=0.1, initial=0.2),
        lambda p: T.Adagrad(p, 0.1, lr_decay=0.1, initial_accumulator_value=0.2),
    ),
    "Adadelta": (O.Adadelta(0.7, rho=0.8), lambda p: T.Adadelta(p, 0.7, rho=0.8)),
    "Nadam": (O.Nadam(0.01), lambda p: T.NAdam(p, 0.01)),
    "Nadam, other momentum": (
        O.Nadam(0.01, b1=0.99, momentum_decay=1.0, weight_decay=0.1),
        lambda p: T.NAdam(p, 0.01, betas=(0.99, 0.999), momentum_decay=1.0, weight_decay=0.1),
    ),
    "RMSprop": (O.RMSprop(0.01, epsilon=1e-4), lambda p: T.RMSprop(p, 0.01, alpha=0.9, eps=1e-4)),
    "RMSprop centered, momentum": (
        O.RMSprop(0.005, rho=0.8, epsilon=1e-3, momentum=0.7, centered=True),
        lambda p: T.RMSprop(p, 0.005, alpha=0.8, eps=1e-3, momentum=0.7, centered=True),
    ),
    "RMSprop centered": (
        O.RMSprop(0.005, epsilon=1e-3, centered=True),
        lambda p: T.RMSprop(p, 0.005, alpha=0.9, eps=1e-3, centered=True),
    ),
    "Lion": (O.Lion(0.01, b1=0.8, weight_decay=0.3), lambda p: Lion(p, 0.01, (0.8, 0.99), 0.3)),
    "LAMB": (O.LAMB(0.02, weight_decay=0.1), lambda p: LAMB(p, 0.02, 0.1)),
}


def model(optimizer: O.Optimizer) -> NeuralNetwork:
    made = NeuralNetwork(optimizer, SquareLoss, seed=5, metrics=[])
    for layer in (Dense(7, input_shape=(6,)), Activation("tanh"), Dense(3)):
        made.add(layer)
    return made


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((SAMPLES, 6)).astype(np.float32)
    return x, np.sin(x[:, :3] * 2).astype(np.float32) * 3


def fitted(
    cases: dict[str, O.Optimizer], **options: Any
) -> dict[str, tuple[np.ndarray, list[np.ndarray], NeuralNetwork]]:
    """→ losses by batch, weights at the end, of one model for each optimizer, all in one graph."""
    x, y = data()
    options = {"n_epochs": EPOCHS, "batch_size": BATCH, "save_model": True, **options}
    made = {name: model(optimizer) for name, optimizer in cases.items()}
    histories = {name: each.fit(x, y, **options) for name, each in made.items()}
    fetch = R.run_local().__getitem__
    return {
        name: (histories[name].read_from(fetch).by_batch(), each.fetch_weights(fetch), each)
        for name, each in made.items()
    }


def by_pytorch(
    twin: nn.Sequential,
    optimizer: torch.optim.Optimizer,
    batch: int = BATCH,
    *,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    x, y = map(torch.tensor, data())
    losses = []
    for _ in range(EPOCHS):
        for start in range(0, SAMPLES, batch):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(twin(x[start : start + batch]), y[start : start + batch])
            loss.backward()
            before()
            optimizer.step()
            after()
            losses.append(loss.item())
    return np.reshape(losses, (EPOCHS, -1)), [
        p.detach().numpy().T if p.ndim == 2 else p.detach().numpy() for p in twin.parameters()
    ]


def same(ours: tuple[Any, ...], theirs: tuple[Any, ...], name: str, rtol: float = 1e-4) -> None:
    np.testing.assert_allclose(ours[0], theirs[0], rtol=rtol, err_msg=name)
    for mine, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(mine, other, rtol=rtol * 10, atol=2e-5, err_msg=name)


def test_twenty_steps_as_pytorch(graph: R.Graph, torch_twin: Callable[..., nn.Sequential]) -> None:
    twins = {name: torch_twin(model(ours), 3) for name, (ours, _) in CASES.items()}
    found = fitted({name: ours for name, (ours, _) in CASES.items()})
    for name, (_, theirs) in CASES.items():
        same(found[name], by_pytorch(twins[name], theirs(twins[name].parameters())), name)


CLIPPED: dict[str, tuple[dict[str, float], Callable[[list[nn.Parameter]], Any]]] = {
    "value": ({"clip_value": 0.1}, lambda p: nn.utils.clip_grad_value_(p, 0.1)),
    "norm": ({"clip_norm": 0.3}, lambda p: [nn.utils.clip_grad_norm_([each], 0.3) for each in p]),
    "global norm": ({"global_clip_norm": 0.5}, lambda p: nn.utils.clip_grad_norm_(p, 0.5)),
}


@pytest.mark.parametrize("strategy", ["auto", DataParallel(3)], ids=["alone", "in shards"])
def test_gradients_are_clipped_as_pytorch_does(
    strategy: Any, graph: R.Graph, torch_twin: Callable[..., nn.Sequential]
) -> None:
    cases = {name: O.SGD(0.2, **options) for name, (options, _) in CLIPPED.items()}  # type: ignore[arg-type]
    twin = torch_twin(model(O.SGD()), 3)
    found = fitted(cases, strategy=strategy)
    plain = by_pytorch(own := copy.deepcopy(twin), T.SGD(own.parameters(), 0.2))
    for name, (_, clip) in CLIPPED.items():
        own = copy.deepcopy(twin)
        parameters = list(own.parameters())
        expected = by_pytorch(own, T.SGD(parameters, 0.2), before=lambda c=clip, p=parameters: c(p))
        same(found[name], expected, name)
        assert not np.allclose(expected[0], plain[0], rtol=1e-2)


def test_accumulated_gradients_are_those_of_a_larger_batch(
    graph: R.Graph, torch_twin: Callable[..., nn.Sequential]
) -> None:
    rate = S.ExponentialDecay(0.05, 3, 0.5)
    cases: dict[str, O.Optimizer] = {
        "small": O.AdamW(rate, accumulate=5, global_clip_norm=1.0),
        "beyond the epoch": O.SGD(0.1, momentum=0.5, accumulate=3),
    }
    twin = torch_twin(model(O.SGD()), 3)
    found = fitted(cases)
    own = copy.deepcopy(twin)
    theirs = T.AdamW(own.parameters(), 0.05)
    schedule = T.lr_scheduler.LambdaLR(theirs, lambda n: 0.5 ** (n / 3))
    clip = lambda: nn.utils.clip_grad_norm_(own.parameters(), 1.0)  # noqa: E731
    _, weights = by_pytorch(own, theirs, SAMPLES, before=clip, after=schedule.step)
    same(((), found["small"][1]), ((), weights), "small")

    x, y = map(torch.tensor, data())
    stepped = T.SGD(twin.parameters(), 0.1, momentum=0.5)
    for n in range(20):
        at = n % 5 * BATCH
        (nn.functional.mse_loss(twin(x[at : at + BATCH]), y[at : at + BATCH]) / 3).backward()
        if n % 3 == 2:
            stepped.step()
            stepped.zero_grad()
    expected = [p.detach().numpy().T if p.ndim == 2 else p.detach().numpy() for p in twin.parameters()]
    same(((), found["beyond the epoch"][1]), ((), expected), "beyond the epoch")
    left = found["beyond the epoch"][2]._weights.values["Dense_2_w0_accumulated"]  # for the next run
    np.testing.assert_allclose(left, twin[2].bias.grad.numpy() * 3, rtol=1e-4)


def test_training_goes_on_with_what_is_remembered(graph: R.Graph) -> None:
    make: list[Callable[[], O.Optimizer]] = [
        lambda: O.RMSprop(0.01, momentum=0.5, centered=True),
        lambda: O.Adam(S.CosineDecay(0.05, 20), amsgrad=True, accumulate=3),
        lambda: O.LAMB(0.05, weight_decay=0.1),
    ]
    x, y = data()
    for each in make:
        whole, parts = model(each()), model(each())
        R.Graph()
        whole.fit(x, y, 4, BATCH, save_model=True)
        expected = whole.fetch_weights(R.run_local().__getitem__)
        for _ in range(2):
            R.Graph()
            parts.fit(x, y, 2, BATCH, save_model=True)
            found = parts.fetch_weights(R.run_local().__getitem__)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=repr(each()))


BAD: dict[str, Callable[[], Any]] = {
    "rate": lambda: O.SGD(-1),
    "rate by name": lambda: O.Adam("cosine"),  # type: ignore[arg-type]
    "momentum": lambda: O.SGD(momentum=1.0),
    "nesterov alone": lambda: O.SGD(nesterov=True),
    "unknown": lambda: O.Adam(decay=0.1),  # type: ignore[call-arg]
    "decay": lambda: O.AdamW(weight_decay=-0.1),
    "clip": lambda: O.Adam(clip_norm=0),
    "accumulate": lambda: O.Adam(accumulate=0),
    "a rate that is no scalar": lambda: model(O.SGD(lambda step: R.zeros((2,)))).fit(*data(), 1, BATCH),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_optimizer_takes_is_refused(name: str, graph: R.Graph) -> None:
    with pytest.raises(ArgumentError):
        BAD[name]()
