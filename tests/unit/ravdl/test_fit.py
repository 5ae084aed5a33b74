"""What `fit` adds to a graph, and that training goes on where it ended."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import ravop as R
from ravdl.neural_networks import NeuralNetwork, packing
from ravdl.neural_networks.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
)
from ravdl.neural_networks.loss_functions import CrossEntropy, SquareLoss
from ravdl.neural_networks.optimizers import Adam, RMSprop
from ravop.engine import Session
from ravop.errors import GraphStateError, NotConnectedError
from ravop.graph.serde import to_bytes, to_proto


def model(*layers: Any, seed: int = 3, optimizer: Any = None, loss: Any = CrossEntropy) -> NeuralNetwork:
    network = NeuralNetwork(optimizer or Adam(0.01), loss, seed=seed)
    for layer in layers or (Dense(16, input_shape=(8,)), BatchNormalization(), Activation("relu"), Dense(3)):
        network.add(layer)
    network.add(Activation("softmax"))
    return network


@pytest.fixture
def data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((70, 8)).astype(np.float32)
    return x, (x[:, :3].argmax(axis=1)).astype(np.int64)


def trained(network: NeuralNetwork, results: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return network.fetch_weights(results.__getitem__)


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def nodes(graph: onnx.GraphProto) -> int:
    bodies = [a.g for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH]
    return len(graph.node) + sum(map(nodes, bodies))


def test_names_count_epochs_and_batches_from_one(graph: R.Graph, data: Any) -> None:
    network = model()
    network.fit(*data, n_epochs=2, batch_size=32, save_model=True, validation_data=data)
    results = R.run_local()
    names = {
        f"training_{m}_epoch_{e}_batch_{b}" for m in ("loss", "accuracy") for e in (1, 2) for b in (1, 2, 3)
    }
    names |= {
        f"{kind}_{m}_epoch_{e}" for kind in ("training", "val") for m in ("loss", "accuracy") for e in (1, 2)
    }
    assert names <= set(results)
    assert {name for name in results if "epoch" in name} == names
    assert set(network.weight_names) <= set(results)
    assert network.weight_names == (
        "Dense_1_W", "Dense_1_w0", "BatchNormalization_1_gamma", "BatchNormalization_1_beta",
        "BatchNormalization_1_running_mean", "BatchNormalization_1_running_var", "Dense_2_W", "Dense_2_w0",
    )  # fmt: skip
    assert set(graph.metrics) == {"loss", "accuracy", "val_loss", "val_accuracy"}


def test_the_graph_does_not_grow_with_epochs(data: Any) -> None:
    sizes, counts = [], []
    for epochs in (5, 5000):
        graph = R.Graph()
        model().fit(*data, epochs, 32, save_model=True, validation_data=data, shuffle=True)
        proto = to_proto(graph.model())
        sizes.append(proto.ByteSize())
        counts.append(nodes(proto.graph))
    assert counts[0] == counts[1]
    assert abs(sizes[0] - sizes[1]) < 0.01 * sizes[0]


def test_data_is_bound_once(graph: R.Graph, rng: np.random.Generator) -> None:
    x = rng.standard_normal((5000, 8))
    model().fit(x, np.zeros(5000, int), 3, 64)
    bound = sum(array.nbytes for array in graph.inputs.values())
    assert bound <= x.size * 4 + 5000 * 8
    assert all(array.dtype != np.float64 for array in graph.inputs.values())


def test_fitting_twice_is_fitting_once_longer(data: Any) -> None:
    def layers() -> list[Any]:
        # A bias before a batch norm has a gradient of rounding noise, which Adam blows up to steps of full size.
        first = Dense(16, input_shape=(8,), use_bias=False)
        return [first, BatchNormalization(), Dropout(0.3), Activation("relu"), Dense(3)]

    R.Graph()
    once = model(*layers())
    whole = once.fit(*data, 4, 32, save_model=True, shuffle=True)
    results = R.run_local()
    whole.read_from(results.__getitem__)
    expected = trained(once, results)

    R.Graph()
    twice = model(*layers())
    first = twice.fit(*data, 1, 32, shuffle=True)
    second = twice.fit(*data, 3, 32, save_model=True, shuffle=True)
    results = R.run_local()
    assert "fit_2_training_loss_epoch_3_batch_3" in results
    losses = np.concatenate([h.read_from(results.__getitem__).by_batch() for h in (first, second)])
    np.testing.assert_allclose(losses, whole.by_batch(), rtol=1e-5)
    for a, b in zip(trained(twice, results), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", [Adam(0.01), RMSprop(0.01)], ids=["adam", "rmsprop"])
def test_training_goes_on_in_another_graph_and_process(data: Any, optimizer: Any) -> None:
    def layers() -> list[Any]:
        return [Dense(16, input_shape=(8,)), Dropout(0.3), Activation("tanh"), Dense(3)]

    R.Graph()
    once = model(*layers(), optimizer=optimizer)
    once.fit(*data, 4, 32, save_model=True)
    expected = trained(once, R.run_local())

    R.Graph()
    half = model(*layers(), optimizer=optimizer)
    half.fit(*data, 2, 32, save_model=True)
    half.fetch_weights(R.run_local().__getitem__)
    R.Graph()
    back = pickle.loads(pickle.dumps(half))
    back.fit(*data, 2, 32, save_model=True)
    for a, b in zip(trained(back, R.run_local()), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_weights_of_another_graph_are_fetched_from_the_coordinator(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = R.Graph()
    network = model()
    network.fit(*data, 2, 32, save_model=True)
    network.predict(data[0]).persist_op("prediction")
    results = R.run_local()
    back = pickle.loads(pickle.dumps(network))

    R.Graph()
    with pytest.raises(NotConnectedError):
        back.predict(data[0])
    asked: list[str] = []

    def fetch(name: str, graph: str) -> np.ndarray:
        asked.append(graph)
        return results[name]

    monkeypatch.setattr(R, "fetch", fetch)
    back.predict(data[0]).persist_op("prediction")
    assert set(asked) == {first.id}
    np.testing.assert_allclose(R.run_local()["prediction"], results["prediction"], rtol=1e-5, atol=1e-6)


def test_same_seed_same_training_other_seed_another(data: Any) -> None:
    found = []
    for seed in (3, 3, 4):
        R.Graph(seed=len(found))  # the model's seed decides, not the graph's
        network = model(Dense(16, input_shape=(8,)), Dropout(0.5), Dense(3), seed=seed)
        network.fit(*data, 2, 32, save_model=True, shuffle=True)
        found.append(trained(network, R.run_local()))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_shuffling_uses_every_sample_once_an_epoch_in_changing_order(graph: R.Graph) -> None:
    """Row i has the loss (i + 1)², and nothing is learned: the losses tell which samples were in a batch."""
    n, size = 50, 8
    squares = np.arange(1, n + 1) ** 2
    network = NeuralNetwork(RMSprop(1e-30), SquareLoss)
    network.add(Dense(1, input_shape=(n,), use_bias=False))
    network.set_weights([np.sqrt(squares)[:, None]])
    history = network.fit(np.eye(n), np.zeros(n), 3, size, shuffle=True)
    history.read_from(R.run_local().__getitem__)
    sums = history.by_batch() * ([size] * 6 + [n % size])
    np.testing.assert_allclose(sums.sum(axis=1), squares.sum(), rtol=1e-6)
    in_order = np.add.reduceat(squares, range(0, n, size))
    for first, second in ((sums[0], sums[1]), (sums[1], sums[2]), (sums[0], in_order)):
        assert not np.allclose(np.sort(first), np.sort(second), rtol=1e-3)


def test_one_batch_at_a_time_is_the_same_training(data: Any) -> None:
    x, y = data
    R.Graph()
    whole = model()
    history = whole.fit(x, y, 1, 32)
    history.read_from(R.run_local().__getitem__)
    R.Graph()
    steps = model()
    for number, start in enumerate(range(0, 70, 32)):
        steps.train_on_batch(x[start : start + 32], y[start : start + 32]).persist_op(f"loss {number}")
    results = R.run_local()
    np.testing.assert_allclose([results[f"loss {n}"] for n in range(3)], history.by_batch()[0], rtol=1e-5)
    with pytest.raises(GraphStateError, match="save_model"):
        steps.fetch_weights(results.__getitem__)


def test_predictions_and_evaluation_use_the_weights_so_far(graph: R.Graph, rng: np.random.Generator) -> None:
    x = rng.standard_normal((600, 8)).astype(np.float32)  # more than go through the layers at once
    y = x[:, :3].argmax(axis=1)
    network = model()
    network.predict(x).persist_op("before")
    network.fit(x, y, 6, 50, save_model=True)
    network.predict(x).persist_op("after")
    network.predict(x[:5]).persist_op("first five")
    network.test_on_batch(x, y).persist_op("loss")
    network.evaluate(x, y)["accuracy"].persist_op("accuracy")
    results = R.run_local()
    after = results["after"]
    assert after.shape == (600, 3)
    np.testing.assert_allclose(after.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(results["first five"], after[:5], rtol=1e-4, atol=1e-6)
    assert results["accuracy"] == pytest.approx((after.argmax(axis=1) == y).mean(), abs=1e-6)
    assert results["accuracy"] > (results["before"].argmax(axis=1) == y).mean() + 0.2
    assert results["loss"] == pytest.approx(-np.log(after[np.arange(600), y]).mean(), rel=1e-4)


def test_targets_as_labels_and_as_rows_train_alike(data: Any) -> None:
    x, y = data
    found = []
    for targets in (y, y.astype(np.uint8), y[:, None], np.eye(3)[y], np.eye(3)[y].tolist()):
        R.Graph()
        network = model(Dense(16, input_shape=(8,)), Activation("tanh"), Dense(3))
        network.fit(x, targets, 1, 32, save_model=True)
        found.append(trained(network, R.run_local()))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_bytes_train_as_their_float_values(rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, (40, 8), dtype=np.uint8)
    y = rng.integers(0, 3, 40)
    found = []
    for inputs in (x, x.astype(np.float64), x.astype(np.int64)):
        R.Graph()
        network = model()
        network.fit(inputs, y, 1, 20, save_model=True)
        found.append(trained(network, R.run_local()))
    assert same(found[0], found[1])
    assert same(found[0], found[2])


def test_large_weights_train_as_small_ones(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for limit in (65_536, 20, 0):  # all packed; the kernels alone; each alone
        monkeypatch.setattr(packing, "SMALL", limit)
        R.Graph()
        network = model()
        network.fit(*data, 2, 32, save_model=True)
        trained(network, R.run_local())
        network.fit(*data, 1, 32, save_model=True)  # from saved slots
        found.append(trained(network, R.run_local()))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_frozen_layers_stay_as_they_are(graph: R.Graph, data: Any) -> None:
    network = model(Dense(8, input_shape=(8,)), BatchNormalization(), Dense(3))
    for layer in network.layers[:2]:
        layer.trainable = False
    before = network.get_weights()
    network.fit(*data, 2, 32, save_model=True)
    after = trained(network, R.run_local())
    for name, a, b in zip(network.weight_names, before, after, strict=True):
        assert np.array_equal(a, b) == (not name.startswith("Dense_2"))


def test_nan_and_infinity_are_data(graph: R.Graph, data: Any) -> None:
    x, y = data
    x[3, 3], x[40, 2] = np.nan, np.inf
    network = model()
    history = network.fit(x, y, 1, 32)
    history.read_from(R.run_local().__getitem__)
    with pytest.warns(RuntimeWarning, match="the loss is nan in epoch 1"):
        assert np.isnan(history.loss).all()


def test_summary_tells_shapes_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    model().summary()
    text = capsys.readouterr().out
    for word in (
        "Dense_1",
        "(batch, 16)",
        "144",
        "BatchNormalization_1",
        "64",
        "259 parameters: 227 trained, 32 not",
    ):
        assert word in text


def test_ops_are_data_too(data: Any) -> None:
    x, y = data
    found = []
    for wrapped in (lambda a: a, R.t):
        R.Graph()
        network = model()
        network.fit(wrapped(x), wrapped(y), 1, 32, save_model=True, validation_data=(wrapped(x), wrapped(y)))
        network.predict(wrapped(x)).persist_op("prediction")
        results = R.run_local()
        found.append([*trained(network, results), results["prediction"], results["val_loss_epoch_1"]])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_whole_training_leaves_as_one_checked_model(
    graph: R.Graph, rng: np.random.Generator, tmp_path: Path
) -> None:
    network = model(
        Conv2D(4, 3, input_shape=(1, 6, 6)), BatchNormalization(), Activation("relu"), MaxPooling2D(2, 2), Dropout(0.2),
        Flatten(), Dense(3),
    )  # fmt: skip
    x, y = rng.standard_normal((50, 1, 6, 6)), rng.integers(0, 3, 50)
    network.fit(x, y, 3, 16, save_model=True, shuffle=True, validation_data=(x, y))
    results = R.run_local()
    path = R.export_onnx(tmp_path / "training.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = dict(zip([output.name for output in session.get_outputs()], session.run(None, {}), strict=True))
    for name in ("Dense_1_W", "BatchNormalization_1_running_var", "training_step"):
        np.testing.assert_allclose(values[name], results[name], rtol=1e-5, atol=1e-6)
    assert values["training_step"] == 3 * 4


@pytest.mark.parametrize("shuffle", [False, True])
def test_splitting_evenly_leaves_no_last_batch(graph: R.Graph, data: Any, shuffle: bool) -> None:
    history = model().fit(*data, 2, 35, shuffle=shuffle).read_from(R.run_local().__getitem__)
    assert history.by_batch().shape == (2, 2)
    np.testing.assert_allclose(history.loss, history.by_batch().mean(axis=1), rtol=1e-6)


def test_what_the_optimizer_remembers_is_pytorchs(graph: R.Graph, data: Any, torch_twin: Any) -> None:
    x, y = data
    network = model(Dense(3, input_shape=(8,)), optimizer=Adam(0.01, b1=0.8, b2=0.95))
    twin = torch_twin(network, 1)
    theirs = torch.optim.Adam(twin.parameters(), lr=0.01, betas=(0.8, 0.95))
    network.fit(x, y, 3, 70, save_model=True)
    results = R.run_local()
    for _ in range(3):
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(twin(torch.tensor(x)), torch.tensor(y)).backward()
        theirs.step()
    for name, parameter in (("W", twin[0].weight), ("w0", twin[0].bias)):
        state = theirs.state[parameter]
        for slot, value in (("m", state["exp_avg"]), ("v", state["exp_avg_sq"])):
            np.testing.assert_allclose(
                results[f"Dense_1_{name}_{slot}"], value.numpy().T, rtol=1e-4, atol=1e-9
            )
        np.testing.assert_allclose(results[f"Dense_1_{name}"], parameter.detach().numpy().T, rtol=1e-5)


@pytest.mark.parametrize("loop", [False, True], ids=["one step", "fit"])
def test_a_session_that_is_kept_trains_the_same_again(
    graph: R.Graph, rng: np.random.Generator, loop: bool
) -> None:
    """ONNX Runtime's batch normalization writes over its inputs: none of them may outlive a run."""
    x = rng.standard_normal((2500, 8)).astype(np.float32)  # too large for a constant
    y = x[:, :3].argmax(axis=1)
    network = model()
    if loop:
        network.fit(x, y, 2, 500)
    else:
        network.train_on_batch(x, y)
    network.predict(x).persist_op("prediction")
    session = Session(to_bytes(graph.model()))
    inputs = {name: array.copy() for name, array in graph.inputs.items()}
    floats = [name for name, array in inputs.items() if array.dtype == np.float32]
    first = session.run(inputs)
    session.run({**inputs, **{name: np.full_like(inputs[name], np.nan) for name in floats}})
    second = session.run(inputs)
    value = graph.persisted["prediction"].value
    assert floats
    assert np.isfinite(first[value]).all()
    np.testing.assert_array_equal(second[value], first[value])
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, graph.inputs[name])
