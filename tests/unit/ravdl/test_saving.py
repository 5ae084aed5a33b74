"""Models saved and loaded: training goes on as if nothing had happened, and files that are none are refused."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from all_layer_cases import CASES as CASES_OF_LAYERS

import ravop as R
from ravdl.neural_networks import Input, Lambda, NeuralNetwork, load_model
from ravdl.neural_networks.layers import (
    Activation,
    Add,
    BatchNormalization,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Layer,
)
from ravdl.neural_networks.loss import FunctionLoss
from ravdl.neural_networks.loss_functions import LOSSES, CrossEntropy, Huber, SquareLoss
from ravdl.neural_networks.metrics import METRIC_CLASSES, METRICS, FunctionMetric, TopKAccuracy
from ravdl.neural_networks.optimizers import OPTIMIZERS, Adam, RMSprop
from ravdl.neural_networks.serialization import from_config, to_config
from ravdl.strategies import LocalSGD
from ravop.errors import ArgumentError, InvalidModelError, RavenError

RANDOM = np.random.default_rng(11)
X = RANDOM.standard_normal((40, 6)).astype(np.float32)
Y = RANDOM.integers(0, 3, 40)


def half(x: R.Op) -> R.Op:
    return x * 0.5


def penalty(w: R.Op) -> R.Op:
    return R.sum(R.square(w)) * 0.01


def distance(y: R.Op, p: R.Op) -> R.Op:
    return R.abs(y - p)


CUSTOM = {"half": half, "penalty": penalty, "distance": distance}


def small_model(optimizer: Any = None) -> NeuralNetwork:
    model = NeuralNetwork(
        optimizer or Adam(0.01), CrossEntropy, seed=5, metrics=["accuracy", TopKAccuracy(2)]
    )
    for layer in (
        Dense(8, input_shape=(6,), regularizer=penalty),
        BatchNormalization(0.9),
        Activation("relu"),
        Dropout(0.25),
        Lambda(half),
        Dense(3, activation="softmax"),
    ):
        model.add(layer)
    return model


def graph_model() -> NeuralNetwork:
    """Two inputs, two outputs, a shared layer, a model within."""
    x, words = Input((6,), name="x"), Input((4,), dtype="int64", name="words")
    a = Input((5,))
    inner = NeuralNetwork(
        Adam(), SquareLoss, inputs=a, outputs=Dropout(0.5)(BatchNormalization()(Dense(5)(a)))
    )
    shared = Dense(5, activation="tanh")
    start = Add()([shared(x), Dense(5)(Flatten()(Embedding(10, 3)(words)))])
    both = Add()([inner(start), start])
    return NeuralNetwork(
        RMSprop(0.02),
        {"kind": CrossEntropy, "size": Huber(2.0)},
        metrics={"size": ["mae", distance]},
        loss_weights=[1.0, 0.25],
        inputs=[x, words],
        outputs={"kind": Dense(3, activation="softmax")(both), "size": Dense(1)(inner(both))},
    )


WORDS = RANDOM.integers(0, 10, (40, 4))
CASES: dict[str, tuple[Callable[[], NeuralNetwork], Any, Any, dict[str, Any]]] = {
    "a row": (small_model, X, Y, {}),
    "a row, shuffled": (small_model, X, Y, {"shuffle": True}),
    "a row, local": (small_model, X, Y, {"strategy": LocalSGD(2, 2, transfer="int8")}),
    "a graph": (graph_model, {"x": X, "words": WORDS}, [Y, RANDOM.standard_normal(40)], {}),
}


def trained(model: NeuralNetwork, x: Any, y: Any, epochs: int, **options: Any) -> np.ndarray[Any, Any]:
    R.Graph(name="train")
    history = model.fit(x, y, epochs, 8, save_model=True, **options)
    fetch = R.run_local().__getitem__
    model.fetch_weights(fetch)
    return history.read_from(fetch).loss


@pytest.mark.parametrize("name", CASES)
def test_training_goes_on_as_if_it_had_not_been_interrupted(name: str, tmp_path: Path) -> None:
    make, x, y, options = CASES[name]
    whole = make()
    trained(whole, x, y, 2, **options)
    second = trained(whole, x, y, 2, **options)

    first = make()
    trained(first, x, y, 2, **options)
    path = first.save(tmp_path / "model.raven")
    back = load_model(path, custom_objects=CUSTOM)
    np.testing.assert_array_equal(trained(back, x, y, 2, **options), second)
    assert back.weight_names == whole.weight_names
    assert back.metrics == whole.metrics
    for ours, theirs in zip(back.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert back.save(tmp_path / "again").read_bytes() == whole.save(tmp_path / "whole").read_bytes()


def test_frozen_layers_stay_frozen(tmp_path: Path) -> None:
    model = small_model()
    model.layers[0].trainable = False
    back = load_model(model.save(tmp_path / "m"), CUSTOM)
    assert [layer.trainable for layer in back.layers] == [False, True, True, True, True, True]
    assert [repr(layer) for layer in back.layers] == [repr(layer) for layer in model.layers]


@pytest.mark.parametrize("what", [*OPTIMIZERS, *LOSSES, *METRICS])
def test_every_loss_metric_and_optimizer_comes_back(what: str) -> None:
    registry: dict[str, Any] = {**OPTIMIZERS, **LOSSES, **METRIC_CLASSES}
    made = METRICS[what]() if what in METRICS else registry[what]()
    text = json.dumps(to_config(made))
    back = from_config(json.loads(text), registry)
    assert type(back) is type(made)
    assert repr(back) == repr(made)


VALUES: list[Any] = [
    None, True, 3, 0.1, float("inf"), "text", (1, (2, 3)), [1, "a"], {"a": (1,), "b": [None]},
    np.float32(0.5), np.int64(4), np.array([[1, 2], [3, 4]], np.int32), np.array([0.5, np.nan]),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_of_configs_come_back(value: Any) -> None:
    back = from_config(json.loads(json.dumps(to_config(value), allow_nan=False)), {})
    np.testing.assert_equal(back, value)
    assert isinstance(value, np.generic) or type(back) is type(value)


def test_every_layer_is_saved_with_its_weights(tmp_path: Path) -> None:
    for name, case in CASES_OF_LAYERS.items():
        layer = case.make()
        dtype = "int64" if layer.takes_integers else "float32"
        inputs = [Input(shape, dtype) for shape in case.inputs]
        model = NeuralNetwork(Adam(), SquareLoss, inputs=inputs, outputs=layer(inputs), seed=6)
        back = load_model(model.save(tmp_path / "m"))
        assert repr(back.layers) == repr(model.layers), name
        assert back.network.output_shapes == model.network.output_shapes == tuple(case.outputs), name
        assert back.weight_names == model.weight_names
        for ours, theirs in zip(back.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


class Doubled(Layer):
    """A layer of somebody's own."""

    def __init__(self, times: float, input_shape: object = None) -> None:
        super().__init__(input_shape)
        self.times = times

    def parameters(self) -> dict[str, Any]:
        return {"times": self.times}

    def call(self, x: R.Op, weights: Any) -> R.Op:
        return x * self.times


def test_classes_of_ones_own_have_to_be_given(tmp_path: Path) -> None:
    model = NeuralNetwork(Adam(), FunctionLoss(distance), metrics=[])
    model.add(Doubled(2.5, input_shape=(3,)))
    model.add(Dense(1))
    path = model.save(tmp_path / "m")
    with pytest.raises(ArgumentError, match="Doubled"):
        load_model(path, {"distance": distance})
    with pytest.raises(ArgumentError, match="distance"):
        load_model(path, {"Doubled": Doubled})
    back = load_model(path, {"Doubled": Doubled, "distance": distance})
    assert repr(back.layers) == repr(model.layers)


# ── what is refused ───────────────────────────────────────────────────────────────────────────────
def test_functions_have_to_be_given(tmp_path: Path) -> None:
    path = small_model().save(tmp_path / "m")
    with pytest.raises(ArgumentError, match="penalty") as caught:
        load_model(path)
    assert "custom_objects" in caught.value.problem.hint


def test_two_functions_of_one_name_are_refused(tmp_path: Path) -> None:
    model = NeuralNetwork(Adam(), SquareLoss, metrics=[lambda y, p: y - p])
    model.add(Lambda(lambda x: x * 2, input_shape=(3,)))
    with pytest.raises(ArgumentError, match="one name"):
        model.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_config_is_refused(tmp_path: Path) -> None:
    model = NeuralNetwork(Adam(), SquareLoss, metrics=[FunctionMetric(distance)])  # type: ignore[arg-type]
    model.add(Dense(3, input_shape=(3,)))
    model.seed = object()  # type: ignore[assignment]
    with pytest.raises(ArgumentError, match="cannot be saved"):
        model.save(tmp_path / "m")


def parts_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    """A file with another manifest."""

    def damage(parts: dict[str, bytes]) -> dict[str, bytes]:
        manifest = json.loads(parts["model.json"])
        change(manifest)
        return {**parts, "model.json": json.dumps(manifest).encode()}

    return damage


def without(name: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda parts: {key: data for key, data in parts.items() if key != name}


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def config(manifest: dict[str, Any]) -> Any:
    return manifest["network"]["layers"][0]["config"]


def deep(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


DAMAGED: dict[str, Callable[[dict[str, bytes]], dict[str, bytes]]] = {
    "no manifest": without("model.json"),
    "no tensor": without("tensors/0.npy"),
    "one tensor more": lambda parts: {**parts, "tensors/99.npy": npy(np.zeros(3))},
    "a path out of the archive": lambda parts: {**parts, "../../evil": b"x"},
    "manifest that is no JSON": lambda parts: {**parts, "model.json": b"{"},
    "another format": changed(lambda m: m.update(format=2)),
    "an unknown field": changed(lambda m: m.update(more=1)),
    "a tensor of another shape": lambda parts: {**parts, "tensors/0.npy": npy(np.zeros((2, 2), np.float32))},
    "a tensor that is none": lambda parts: {**parts, "tensors/0.npy": b"\x93NUMPY" + b"\xff" * 40},
    "objects in a tensor": lambda parts: {**parts, "tensors/0.npy": npy(np.array([print], object))},
    "a tensor that says it is huge": lambda parts: {
        **parts, "tensors/0.npy": npy(np.zeros((6, 8), np.float32)).replace(b"(6, 8)", b"(6, 8000000000)")
    },
    "a tensor of no weight": changed(lambda m: m["tensors"].__setitem__(0, "Dense_9_W")),
    "a tensor twice": changed(lambda m: m["tensors"].__setitem__(0, m["tensors"][1])),
    "a layer with other arguments": changed(lambda m: config(m)["config"].update(size=3)),
    "a layer with a wrong argument": changed(lambda m: config(m)["config"].update(n_units=-1)),
    "a layer that is a loss": changed(lambda m: m["network"]["layers"][0].update(config=to_config(SquareLoss()))),
    "a layer of another size": changed(lambda m: config(m)["config"].update(n_units=10**15)),
    "a config of no form": changed(lambda m: m["network"]["layers"][0].update(config={"eval": "1"})),
    "a config that is too deep": changed(lambda m: m.update(training=deep(100))),
    "a call of what comes later": changed(lambda m: m["network"]["calls"][0].update(inputs=[3])),
    "a call of no layer": changed(lambda m: m["network"]["calls"][0].update(layer=77)),
    "a call with too many inputs": changed(lambda m: m["network"]["calls"][0].update(inputs=[0, 0])),
    "an output that is not there": changed(lambda m: m["network"].update(outputs=[99])),
    "two layers of one name": changed(lambda m: m["network"]["layers"][1].update(name="Dense_1")),
    "a layer with no proper name": changed(lambda m: m["network"]["layers"][1].update(name="a\nb")),
    "no optimizer": changed(lambda m: m["training"]["dict"].pop("optimizer")),
    "an optimizer that is a layer": changed(lambda m: m["training"]["dict"].update(optimizer=to_config(Dense(3)))),
    "no training": changed(lambda m: m.update(training=3)),
    "an input of no dtype": changed(lambda m: m["network"]["inputs"][0].update(dtype="object")),
    "an input of no size": changed(lambda m: m["network"]["inputs"][0].update(shape=[-6])),
}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = NeuralNetwork(Adam(), CrossEntropy)
    for layer in (Dense(8, input_shape=(6,)), Activation("relu"), Dense(3)):
        model.add(layer)
    return model.save(tmp_path_factory.mktemp("saved") / "model")


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused(name: str, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    with zipfile.ZipFile(path, "w") as archive:
        for part, data in DAMAGED[name](parts_of(saved)).items():
            archive.writestr(part, data)
    with pytest.raises((InvalidModelError, ArgumentError)):
        load_model(path)


def test_any_damage_gives_a_typed_error(saved: Path, tmp_path: Path) -> None:
    whole, path = saved.read_bytes(), tmp_path / "damaged"
    refused = 0
    for seed in range(120):
        draw = np.random.default_rng(seed)
        data = bytearray(whole)
        for _ in range(1 + seed % 3):
            data[draw.integers(len(data))] = draw.integers(256)
        path.write_bytes(data[: draw.integers(len(data))] if seed % 6 == 0 else data)
        try:
            load_model(path)  # what is changed may be a date
        except RavenError:
            refused += 1
    assert refused > 100


def test_files_that_unpack_to_more_are_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, data in parts_of(saved).items():
            archive.writestr(part, data)
        archive.writestr("tensors/7.npy", bytes(10_000_000))
    with pytest.raises(InvalidModelError, match="compressed"):
        load_model(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("no model")
    with pytest.raises(InvalidModelError, match="no saved model"):
        load_model(path)
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "nothing")
