"""`DataParallel`: what is computed in shards is what the whole batch gives, and shards are mixed in their gradients only."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPooling2D,
)
from ravdl.neural_networks.loss_functions import CrossEntropy, SquareLoss
from ravdl.neural_networks.optimizers import Adam, RMSprop
from ravdl.strategies import DataParallel, Sequential, Strategy
from ravop.errors import ArgumentError
from ravop.graph.cost import nbytes

CLASSES = 4
CHANNELS = 10
"""The most that a batch normalization here has."""


def mlp() -> list[Layer]:
    return [Dense(12, input_shape=(8,)), Activation("relu"), Dropout(0.3), Dense(CLASSES)]


def cnn(dropout: float = 0.2) -> list[Layer]:
    # No bias before a batch norm: its gradient is rounding noise, which Adam would blow up to steps of full size.
    return [
        Conv2D(4, 3, input_shape=(1, 6, 6), use_bias=False), BatchNormalization(0.8), Activation("relu"),
        MaxPooling2D(2, 2), Flatten(), Dense(10, use_bias=False), BatchNormalization(0.9), Activation("tanh"),
        *([Dropout(dropout)] if dropout else []), Dense(CLASSES),
    ]  # fmt: skip


def network(layers: list[Layer], loss: Any = CrossEntropy, optimizer: Any = None) -> NeuralNetwork:
    made = NeuralNetwork(optimizer or Adam(0.01), loss, seed=5)
    for layer in [*layers, *([Activation("softmax")] if loss is CrossEntropy else [])]:
        made.add(layer)
    return made


def data(shape: tuple[int, ...], samples: int = 73) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((samples, *shape)).astype(np.float32), rng.integers(0, CLASSES, samples)


MODELS: dict[str, tuple[Callable[[], list[Layer]], tuple[int, ...]]] = {
    "mlp": (mlp, (8,)),
    "cnn": (cnn, (1, 6, 6)),
}


def trained(model: str, strategy: Strategy | str, **options: Any) -> tuple[np.ndarray, ...]:
    """Losses and accuracies by batch, losses on held-out data by epoch, and the weights at the end."""
    layers, shape = MODELS[model]
    R.Graph()
    made = network(layers())
    x, y = data(shape)
    wrap = options.pop("wrap", lambda array: array)
    history = made.fit(
        wrap(x),
        wrap(y),
        2,
        16,
        save_model=True,
        validation_data=(x[:20], y[:20]),
        strategy=strategy,
        **options,
    )
    results = R.run_local()
    history.read_from(results.__getitem__)
    weights = made.fetch_weights(results.__getitem__)
    return history.by_batch(), history.by_batch("accuracy"), history.val_loss, *weights


def assert_close(found: Any, expected: Any, atol: float = 1e-6) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=atol)


@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shards", [2, 3, 10])  # the last batch has nine examples: then nine shards
def test_shards_train_as_the_whole_batch(model: str, shards: int, shuffle: bool) -> None:
    whole = trained(model, Sequential(), shuffle=shuffle)
    assert_close(trained(model, DataParallel(shards), shuffle=shuffle), whole)


def test_ops_are_cut_like_arrays() -> None:
    assert_close(trained("mlp", DataParallel(3), wrap=R.t), trained("mlp", Sequential()))


def test_a_second_fit_goes_on_where_the_first_ended() -> None:
    x, y = data((1, 6, 6))
    R.Graph()
    once = network(cnn())
    once.fit(x, y, 2, 16, save_model=True)
    expected = once.fetch_weights(R.run_local().__getitem__)
    for saved in (True, False):
        R.Graph()
        twice = network(cnn())
        twice.fit(x, y, 1, 16, save_model=saved, strategy=DataParallel(2))
        if saved:
            twice.fetch_weights(R.run_local().__getitem__)
            R.Graph()
        twice.fit(x, y, 1, 16, save_model=True, strategy=DataParallel(4))
        prefix = R.run_local()
        assert_close(twice.fetch_weights(prefix.__getitem__), expected)


def torch_weights(twin: nn.Sequential) -> list[np.ndarray]:
    found = []
    for module in twin:
        for tensor in [*module.parameters(), *(b for b in module.buffers() if b.ndim)]:
            value = tensor.detach().numpy()
            found.append(value.T if isinstance(module, nn.Linear) else value)
    return found


@pytest.mark.parametrize("batch_norm", ["synchronized", "per_shard"])
def test_training_is_pytorchs(batch_norm: str, graph: R.Graph, torch_twin: Any) -> None:
    """Whole batches, or shards one by one: their losses weighted by examples, their running statistics averaged so."""
    x, labels = data((1, 6, 6), 43)  # batches of 16, 16 and 11, the last in shards of 4, 4 and 3
    made = network(cnn(dropout=0), optimizer=RMSprop(0.01))
    twin = torch_twin(made, len(made.layers) - 1)
    history = made.fit(x, labels, 3, 16, save_model=True, strategy=DataParallel(3, batch_norm))
    results = R.run_local()
    history.read_from(results.__getitem__)

    optimizer = torch.optim.RMSprop(twin.parameters(), lr=0.01, alpha=0.9, eps=1e-8)
    losses = []
    for _ in range(3):
        for start in range(0, len(x), 16):
            batch = torch.tensor(x[start : start + 16]), torch.tensor(labels[start : start + 16])
            shards = [batch] if batch_norm == "synchronized" else list(zip(*map(thirds, batch), strict=True))
            replicas = [copy.deepcopy(twin) for _ in shards]
            shares = [len(inputs) / len(batch[0]) for inputs, _ in shards]
            total = 0.0
            for replica, share, (inputs, targets) in zip(replicas, shares, shards, strict=True):
                loss = nn.functional.cross_entropy(replica(inputs), targets)
                loss.backward()
                total += share * loss.item()
            for tensor, *parts in zip(twin.parameters(), *(r.parameters() for r in replicas), strict=True):
                tensor.grad = sum(share * part.grad for share, part in zip(shares, parts, strict=True))
            for tensor, *parts in zip(twin.buffers(), *(r.buffers() for r in replicas), strict=True):
                if tensor.ndim:
                    tensor[:] = sum(share * part for share, part in zip(shares, parts, strict=True))
            optimizer.step()
            losses.append(total)
    np.testing.assert_allclose(history.by_batch().reshape(-1), losses, rtol=1e-4)
    assert_close(made.fetch_weights(results.__getitem__), torch_weights(twin), atol=1e-5)


def thirds(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tensor.tensor_split(3)  # the larger ones come first, as ours


def test_statistics_of_large_values_lose_no_digits(graph: R.Graph) -> None:
    """Mean 10,000 and deviation 1: a difference of sums of squares would have no digit left."""
    x = np.random.default_rng(0).normal(10_000, 1, (32, 8)).astype(np.float32)
    made = network([BatchNormalization(0, input_shape=(8,)), Dense(2)], SquareLoss)
    made.fit(x, np.zeros((32, 2)), 1, 32, save_model=True, strategy=DataParallel(4))
    found = dict(zip(made.weight_names, made.fetch_weights(R.run_local().__getitem__), strict=True))
    np.testing.assert_allclose(
        found["BatchNormalization_1_running_var"], x.astype(float).var(0, ddof=1), rtol=2e-3
    )


@pytest.mark.parametrize("model", MODELS)
def test_shards_meet_in_their_gradients_only(graph: R.Graph, model: str) -> None:
    """What is larger than a vector of channels and made from one shard goes into nothing made from the other, except
    for the gradients, which do once.
    """
    layers, shape = MODELS[model]
    made = network(layers())
    arrays = dict(zip(made.weight_names, made.get_weights(), strict=True))
    x, y = data(shape, 32)
    made.fit(x, y, 1, 16, strategy=DataParallel(2))
    (epoch,) = bodies(graph.main.ir)
    (step,) = bodies(epoch)
    shards = step.inputs[-4:]  # x and y of the first, then of the second
    colours: dict[ir.Value, set[int]] = {value: {index // 2} for index, value in enumerate(shards)}
    crossing: dict[ir.Value, int] = {}
    for node in step:
        own = [value for value in node.inputs if value in colours]
        reached = set().union(*(colours[value] for value in own))
        if len(reached) > 1:
            crossing |= {value: nbytes(value) for value in own if len(colours[value]) == 1}
        colours |= {value: reached for value in node.outputs if reached and nbytes(value) > 4 * CHANNELS}
    gradient = sum(array.nbytes for name, array in arrays.items() if "running" not in name)
    assert sorted(crossing.values()) == [gradient, gradient]
    heavy = [n.outputs[0] for n in step if n.op_type in ("Conv", "Gemm", "MatMul", "ConvTranspose")]
    by_shard = [sum(colours[value] == {shard} for value in heavy) for shard in (0, 1)]
    assert by_shard[0] == by_shard[1] == len(heavy) / 2


def bodies(graph: ir.Graph) -> list[ir.Graph]:
    return [node.attributes["body"].as_graph() for node in graph if node.op_type == "Scan"]


def test_a_part_of_a_draw_is_that_part_of_it(graph: R.Graph) -> None:
    key = R.random_key(1, 2, R.t(np.array(3)))
    for size, start, count in (
        (3000, 1500, 700),
        (900, 100, 300),
        (3000, 0, 3000),
        (1_200_000, 1_100_000, 5000),
    ):
        R.bernoulli(0.4, size, key=key).persist_op(f"whole {size} {start}")
        R.bernoulli(0.4, count, key=key, part=(start, size)).persist_op(f"part {size} {start}")
    results = R.run_local()
    for size, start, count in (
        (3000, 1500, 700),
        (900, 100, 300),
        (3000, 0, 3000),
        (1_200_000, 1_100_000, 5000),
    ):
        whole, part = results[f"whole {size} {start}"], results[f"part {size} {start}"]
        np.testing.assert_array_equal(part, whole[start : start + count])
    with pytest.raises(ArgumentError, match="part"):
        R.bernoulli(0.4, 5, key=key, part=(8, 10))


class Centred(Layer):
    """Takes the batch's mean away, and does not say how that is done in shards."""

    def call(self, x: R.Op, weights: Any) -> R.Op:
        return x

    def train(self, x: R.Op, weights: Any, moment: Any) -> Any:
        return x - R.mean(x, axis=0), {}


def test_a_layer_that_may_mix_examples_is_refused(graph: R.Graph) -> None:
    x, y = data((8,), 32)
    made = network([Centred(input_shape=(8,)), Dense(CLASSES)])
    with pytest.raises(ArgumentError, match="Centred_1 may mix"):
        made.fit(x, y, 1, 16, strategy=DataParallel(2))
    assert not graph.ops  # nothing was added before
    made.fit(x, y, 1, 16, strategy=DataParallel(2, "per_shard"))


def test_a_frozen_layer_mixes_nothing(graph: R.Graph) -> None:
    x, y = data((8,), 32)
    made = network([BatchNormalization(input_shape=(8,)), Dense(CLASSES)])
    made.layers[0].trainable = False
    before = made.get_weights()[:4]
    made.fit(x, y, 1, 16, save_model=True, strategy=DataParallel(2))
    assert_close(made.fetch_weights(R.run_local().__getitem__)[:4], before, atol=0)


def test_more_shards_than_examples_are_refused(graph: R.Graph) -> None:
    x, y = data((8,), 32)
    with pytest.raises(ArgumentError, match="more shards than examples"):
        network(mlp()).fit(x, y, 1, 16, strategy=DataParallel(17))
    network(mlp()).fit(x, y, 1, 16, strategy=DataParallel(16))
