"""Graphs for tests, large enough to be interrupted while they run."""

from __future__ import annotations

from typing import Any

import numpy as np

import ravop as R
from ravop.client.api import session
from ravop.protocol.messages import GraphInfo, ListProviders, Providers

STEPS = 800


def training(steps: int = STEPS, width: int = 512) -> R.Graph:
    """Gradient descent on a small network, as one loop; persists `loss_{}` and the weights. ≈ 4 ms a step."""
    graph = R.Graph(name="training", algorithm="test", approach="distributed")
    random = np.random.default_rng(3)
    x = random.normal(size=(128, 256)).astype(np.float32)
    y = np.tanh(x[:, :1] - x[:, 1:2])

    def weights(*shape: int) -> Any:
        return R.t(random.normal(scale=shape[0] ** -0.5, size=shape).astype(np.float32))

    def step(carry: Any, _: None) -> Any:
        first, second, third = carry
        hidden = R.tanh(R.tanh(x @ first) @ second)
        loss = R.mean(R.square(hidden @ third - y))
        gradients = R.grad(loss, [first, second, third])
        return tuple(w - 0.05 * g for w, g in zip(carry, gradients, strict=True)), loss

    init = (weights(256, width), weights(width, width), weights(width, 1))
    carry, losses = R.scan(step, init, length=steps)
    losses.persist_each("loss_{}", first=(1,))
    losses.persist_op(name="losses")
    graph.report("loss", losses)
    for name, weight in zip(("first", "second", "third"), carry, strict=True):
        weight.persist_op(name=name)
    return graph


def assert_equals_local(*names: str) -> None:
    """The values the providers gave are those of the whole graph in one session of this process."""
    local = R.run_local()
    for name in names:
        np.testing.assert_allclose(R.fetch(name), local[name], rtol=1e-4, atol=1e-5, err_msg=name)


def wait_until_step(graph: R.Graph, step: int) -> GraphInfo:
    """Return when the executing graph has done so many steps; it must not be finished by then."""
    for news in session().watch(graph.id):
        if isinstance(news, GraphInfo) and news.steps_done >= step:
            assert news.state == "executing", f"too late to interfere: {news}"
            return news
    raise AssertionError("the graph ended before")


def busy_provider() -> str:
    """The name of a provider that computes something now."""
    providers = session().call(ListProviders(), Providers).providers
    return max(providers, key=lambda provider: provider.busy).name
