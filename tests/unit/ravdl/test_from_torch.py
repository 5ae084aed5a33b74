"""Eight PyTorch modules trained here and by PyTorch, with equal data and equal optimizers: losses, predictions and weights."""

from __future__ import annotations

import copy
from typing import Any

import networks
import numpy as np
import pytest
import torch

import ravop as R
from ravdl.neural_networks import from_torch
from ravdl.neural_networks.loss_functions import SparseCategoricalCrossEntropy
from ravdl.neural_networks.optimizers import SGD, Adam

BATCHES, EPOCHS = 5, 10
MOMENTUM = {"depthwise-separable": 1e-3}
"""Rates of the networks that SGD with momentum trains here, and not Adam with a rate of 0.001.

With batch normalization small differences grow: with larger rates PyTorch's own losses in float32 and float64 come apart by
more than 1e-3 within 50 steps. With these they agree to 1e-6, so that what is compared is the gradients and not the rounding.
Adam takes a step of the same size along gradients that are zero but for rounding, as those of the depthwise network's scales
before a convolution that is normalized again.
"""


@pytest.mark.parametrize("name", networks.CASES)
def test_losses_follow_pytorch_over_fifty_steps(name: str) -> None:
    case = networks.CASES[name]
    torch.manual_seed(0)
    module = case.module(True).eval()
    batches = [case.batch(True, number) for number in range(BATCHES)]
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    rate = MOMENTUM.get(name)
    before = copy.deepcopy(module.state_dict())
    model = from_torch(
        module, batches[0][0], Adam(1e-3) if rate is None else SGD(rate, momentum=0.9),
        SparseCategoricalCrossEntropy(from_logits=True, axis=-1 if y.ndim == 1 else 1), metrics=[], exporter="legacy",
    )  # fmt: skip
    assert not any(part.training for part in module.modules())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())

    R.Graph(name="fit")
    model.fit(x, y, n_epochs=EPOCHS, batch_size=len(batches[0][0]), save_model=True)
    model.predict(batches[0][0]).persist_op("predicted")
    found = R.run_local()
    steps = [(e, b) for e in range(1, EPOCHS + 1) for b in range(1, BATCHES + 1)]
    ours = [float(found[f"training_loss_epoch_{e}_batch_{b}"]) for e, b in steps]

    theirs = by_pytorch(copy.deepcopy(module), batches, rate)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    assert np.mean(ours[-BATCHES:]) < np.mean(ours[:BATCHES])

    state = model.to_torch_state_dict(found.__getitem__)
    assert set(state) == set(module.state_dict())
    module.load_state_dict(state, strict=True)
    counts = {key: int(value) for key, value in state.items() if key.endswith("num_batches_tracked")}
    assert all(count == BATCHES * EPOCHS for count in counts.values())
    with torch.no_grad():
        predicted = module.eval()(torch.from_numpy(batches[0][0])).numpy()
    np.testing.assert_allclose(found["predicted"], predicted, atol=1e-4)


def by_pytorch(module: torch.nn.Module, batches: list[Any], rate: float | None) -> list[float]:
    module.train()
    weights = module.parameters()
    optimizer = (
        torch.optim.Adam(weights, 1e-3) if rate is None else torch.optim.SGD(weights, rate, momentum=0.9)
    )
    losses = []
    for x, y in batches * EPOCHS:
        loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
