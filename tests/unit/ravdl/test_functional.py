"""Models that are graphs of layers: branches, shared layers, several inputs and outputs, models within models; trained as
PyTorch's counterparts are, by every strategy, and exported.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ravop as R
from ravdl.neural_networks import Input, Lambda, NeuralNetwork
from ravdl.neural_networks.forward import predict_in_training
from ravdl.neural_networks.layers import (
    LSTM,
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Layer,
    Moment,
    Subtract,
)
from ravdl.neural_networks.loss_functions import CrossEntropy, Huber, SquareLoss
from ravdl.neural_networks.optimizers import Adam
from ravdl.strategies import Average, DataParallel, LocalSGD, Sequential
from ravop.errors import ArgumentError, DTypeError, GraphStateError, ShapeError

RNG = np.random.default_rng(21)
N = 44
A = RNG.standard_normal((N, 6)).astype(np.float32)
B = RNG.standard_normal((N, 6)).astype(np.float32)
WORDS = RNG.integers(0, 9, (N, 3))
KINDS = RNG.integers(0, 4, N)
SIZES = RNG.standard_normal(N).astype(np.float32)
BATCH, EPOCHS = 10, 3


def two_towers() -> NeuralNetwork:
    """A shared layer, with its batch normalization at both places, three inputs and two outputs."""
    a, b = Input(6, name="a"), Input((6,), name="b")
    words = Input((3,), dtype="int64", name="words")
    tower, norm = Dense(5, activation="tanh"), BatchNormalization(0.8)
    left, right = norm(tower(a)), norm(tower(b))
    found = Concatenate()([Subtract()([left, right]), Flatten()(Embedding(9, 2)(words))])
    scaled = Lambda(lambda x, y: R.concat([x, R.square(y)], axis=-1))([found, left])
    return NeuralNetwork(
        Adam(0.01),
        {"kind": CrossEntropy, "size": Huber(0.5)},
        loss_weights={"kind": 1.0, "size": 0.3},
        metrics={"size": ["mae"], "kind": ["accuracy"]},
        inputs=[a, b, words],
        outputs={"kind": Dense(4, activation="softmax")(scaled), "size": Dense(1)(scaled)},
        seed=4,
    )


class TwoTowers(nn.Module):
    """The same in PyTorch, with the weights of ours."""

    def __init__(self, weights: dict[str, np.ndarray[Any, Any]]) -> None:
        super().__init__()
        of = {name: torch.tensor(value) for name, value in weights.items()}
        self.tower, self.kind, self.size = nn.Linear(6, 5), nn.Linear(16, 4), nn.Linear(16, 1)
        for module, name in ((self.tower, "Dense_1"), (self.kind, "Dense_2"), (self.size, "Dense_3")):
            module.weight.data, module.bias.data = of[f"{name}_W"].T.clone(), of[f"{name}_w0"]
        self.norm = nn.BatchNorm1d(5, momentum=0.2)
        self.words = nn.Embedding.from_pretrained(
            of[next(n for n in weights if "Embedding" in n)], freeze=False
        )

    def forward(
        self, a: torch.Tensor, b: torch.Tensor, words: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        left = self.norm(torch.tanh(self.tower(a)))
        right = self.norm(torch.tanh(self.tower(b)))
        found = torch.cat([left - right, self.words(words).flatten(1), left**2], 1)
        return self.kind(found), self.size(found)[:, 0]


def in_torch(model: NeuralNetwork) -> tuple[TwoTowers, list[float]]:
    """PyTorch's model after training, and the mean loss of each epoch."""
    twin = TwoTowers(dict(zip(model.weight_names, model.get_weights(), strict=True)))
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    data = [torch.tensor(values) for values in (A, B, WORDS, KINDS, SIZES)]
    found = []
    for _ in range(EPOCHS):
        total = 0.0
        for start in range(0, N, BATCH):
            a, b, words, kinds, sizes = (values[start : start + BATCH] for values in data)
            kind, size = twin(a, b, words)
            loss = F.cross_entropy(kind, kinds) + 0.3 * F.huber_loss(size, sizes, delta=0.5)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(a)
        found.append(total / N)
    return twin.eval(), found


INPUTS: dict[str, Any] = {"tuple": (A, B, WORDS), "dict": {"words": WORDS, "b": B, "a": A}}
TARGETS: dict[str, Any] = {"tuple": (KINDS, SIZES), "dict": {"size": SIZES, "kind": KINDS}}


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_a_graph_of_layers_trains_as_in_pytorch(form: str, graph: R.Graph, tmp_path: Path) -> None:
    model = two_towers()
    twin, expected = in_torch(two_towers())
    history = model.fit(
        INPUTS[form],
        TARGETS[form],
        EPOCHS,
        BATCH,
        save_model=True,
        validation_data=(INPUTS[form], TARGETS[form]),
    )
    for name, op in zip(("kind", "size"), model.predict(INPUTS[form]), strict=True):
        op.persist_op(name)
    results = R.run_local()
    history.read_from(results.__getitem__)
    np.testing.assert_allclose(history.loss, expected, rtol=1e-4)
    assert {"kind_loss", "size_loss", "kind_accuracy", "size_mae", "val_size_mae"} < set(history.keys)
    np.testing.assert_allclose(history["kind_loss"] + 0.3 * history["size_loss"], history.loss, rtol=1e-5)

    kind, size = (output.detach().numpy() for output in twin(*map(torch.tensor, (A, B, WORDS))))
    np.testing.assert_allclose(
        results["kind"], np.exp(kind) / np.exp(kind).sum(1, keepdims=True), rtol=2e-3, atol=1e-4
    )
    np.testing.assert_allclose(results["size"][:, 0], size, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(
        history["val_size_mae"][-1], abs(results["size"][:, 0] - SIZES).mean(), rtol=1e-4
    )

    model.fetch_weights(results.__getitem__)
    session = onnxruntime.InferenceSession(model.get_onnx_model(str(tmp_path / "towers")))
    assert [port.name for port in session.get_inputs()] == ["a", "b", "words"]
    assert [port.name for port in session.get_outputs()] == ["kind", "size"]
    for start in (0, 7):
        ours = session.run(None, {"a": A[start:], "b": B[start:], "words": WORDS[start:]})
        np.testing.assert_allclose(ours[0], results["kind"][start:], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(ours[1], results["size"][start:], rtol=1e-4, atol=1e-6)


def test_every_strategy_trains_a_graph(graph: R.Graph) -> None:
    weights = RNG.random(N)
    found = {}
    for name, strategy in {
        "one": Sequential(), "shards": DataParallel(3), "one worker": LocalSGD(1, 2, Average()), "two": LocalSGD(2, 2)
    }.items():  # fmt: skip
        model = two_towers()
        found[name] = model.fit(
            INPUTS["dict"], TARGETS["dict"], 2, BATCH, strategy=strategy, shuffle=name in ("one", "shards"),
            sample_weight=weights,
        )  # fmt: skip
    found["in order"] = two_towers().fit(INPUTS["dict"], TARGETS["dict"], 2, BATCH, sample_weight=weights)
    fetch = R.run_local().__getitem__
    losses = {name: history.read_from(fetch) for name, history in found.items()}
    for key in found["one"].keys:
        np.testing.assert_allclose(losses["shards"][key], losses["one"][key], rtol=1e-4, err_msg=key)
    np.testing.assert_allclose(losses["one worker"].loss, losses["in order"].loss, rtol=1e-5)
    assert np.isfinite(losses["two"].loss).all()


def test_regularizers_count_once_however_a_batch_is_cut(graph: R.Graph) -> None:
    def model() -> NeuralNetwork:
        made = NeuralNetwork(Adam(0.01), SquareLoss, seed=2)
        made.add(Dense(3, input_shape=(6,), regularizer=lambda w: R.sum(R.abs(w)) * 0.05))
        return made

    whole = model().fit(A, A[:, :3], 3, 10)
    cut = model().fit(A, A[:, :3], 3, 10, strategy=DataParallel(3))
    fetch = R.run_local().__getitem__
    np.testing.assert_allclose(cut.read_from(fetch).loss, whole.read_from(fetch).loss, rtol=1e-5)


# ── shared layers ─────────────────────────────────────────────────────────────────────────────────
def test_a_shared_dropout_draws_anew_at_each_place(graph: R.Graph) -> None:
    kept = NeuralNetwork(
        Adam(), SquareLoss, inputs=(a := Input(200)),
        outputs=Concatenate()([(d := Dropout(0.5))(a), d(a), Dense(1)(a)]), metrics=[],
    )  # fmt: skip
    weights = {name: R.t(value) for name, value in zip(kept.weight_names, kept.get_weights(), strict=True)}
    (found,), _ = predict_in_training(kept.network, weights, [R.ones((20, 200))], Moment(1, R.t(3)))
    found.value.persist_op("y")
    y = R.run_local()["y"] > 0
    assert abs((y[:, :200] == y[:, 200:400]).mean() - 0.5) < 0.05
    assert abs(y[:, :400].mean() - 0.5) < 0.05


def test_a_shared_layer_has_one_set_of_weights() -> None:
    model = two_towers()
    assert len(model.layers) == len({id(layer) for layer in model.layers}) == 9
    assert sum("BatchNormalization" in name for name in model.weight_names) == 4
    assert sum(name.startswith("Dense_1_") for name in model.weight_names) == 2


# ── models within models ──────────────────────────────────────────────────────────────────────────
def encoder(trainable: bool = True) -> NeuralNetwork:
    x = Input(6)
    model = NeuralNetwork(
        Adam(), SquareLoss, inputs=x, outputs=BatchNormalization()(Dense(5, activation="relu")(x)), seed=8
    )
    model.layers[0].trainable = trainable
    return model


def siamese(inner: NeuralNetwork) -> NeuralNetwork:
    a, b = Input(6), Input(6)
    return NeuralNetwork(
        Adam(0.01), SquareLoss, inputs=[a, b], outputs=Dense(1)(Subtract()([inner(a), inner(b)])), seed=9
    )


def flat() -> NeuralNetwork:
    """`siamese(encoder())`, with the layers of the encoder in it."""
    a, b = Input(6), Input(6)
    dense, norm = Dense(5, activation="relu"), BatchNormalization()
    model = NeuralNetwork(
        Adam(0.01), SquareLoss, inputs=[a, b],
        outputs=Dense(1)(Subtract()([norm(dense(a)), norm(dense(b))])), seed=9,
    )  # fmt: skip
    head = dict(zip(siamese(encoder()).weight_names, siamese(encoder()).get_weights(), strict=True))
    model.set_weights([*encoder().get_weights(), head["Dense_1_W"], head["Dense_1_w0"]])
    return model


@pytest.mark.parametrize("strategy", [Sequential(), DataParallel(2)], ids=repr)
def test_a_model_within_a_model_trains_as_its_layers_would(strategy: Any, graph: R.Graph) -> None:
    nested = siamese(encoder())
    ours = nested.fit([A, B], SIZES, EPOCHS, BATCH, save_model=True, strategy=strategy)
    theirs = flat().fit([A, B], SIZES, EPOCHS, BATCH, strategy=strategy)
    fetch = R.run_local().__getitem__
    np.testing.assert_allclose(ours.read_from(fetch).loss, theirs.read_from(fetch).loss, rtol=1e-5)
    assert nested.weight_names[0] == "Model_1_Dense_1_W"
    nested.fetch_weights(fetch)


def test_what_is_frozen_within_a_model_stays(graph: R.Graph) -> None:
    inner = encoder(trainable=False)
    before = inner.get_weights()
    nested = siamese(inner)
    nested.fit([A, B], SIZES, 2, BATCH, save_model=True)
    after = dict(zip(nested.weight_names, nested.fetch_weights(R.run_local().__getitem__), strict=True))
    np.testing.assert_array_equal(after["Model_1_Dense_1_W"], before[0])
    assert not np.array_equal(after["Model_1_BatchNormalization_1_gamma"], before[2])


def test_the_last_activation_within_a_model_is_known(graph: R.Graph) -> None:
    x = Input(6)
    inner = model_of(x, Dense(4, activation="softmax")(x), CrossEntropy)
    a = Input(6)
    outer = model_of(a, inner(a), CrossEntropy)
    outer.test_on_batch(1000 * A, KINDS).persist_op("loss")
    w, b = outer.get_weights()
    np.testing.assert_array_equal(w, inner.get_weights()[0])
    expected = F.cross_entropy(torch.tensor(1000 * A @ w + b), torch.tensor(KINDS))
    np.testing.assert_allclose(R.run_local()["loss"], expected.item(), rtol=1e-4)


def test_another_head(graph: R.Graph) -> None:
    model = NeuralNetwork(Adam(), SquareLoss, seed=3)
    model.add(Dense(5, input_shape=(6,), activation="tanh"))
    model.add(Dense(1))
    model.fit(A, SIZES, 2, BATCH, save_model=True, strategy=LocalSGD(2, 2))
    with pytest.raises(GraphStateError, match="not here"):
        model.pop()
    w, *_ = model.fetch_weights(R.run_local().__getitem__)
    head = model.pop()
    assert head.name == ""
    model.add(Dense(4))
    assert model.weight_names == ("Dense_1_W", "Dense_1_w0", "Dense_2_W", "Dense_2_w0")
    np.testing.assert_array_equal(model.get_weights()[0], w)
    R.Graph(name="another head")
    model.fit(A, np.stack([SIZES] * 4, 1), 1, BATCH)
    model.predict(A).persist_op("y")
    assert R.run_local()["y"].shape == (N, 4)
    NeuralNetwork(Adam(), SquareLoss, inputs=(x := Input(9)), outputs=head(x))
    with pytest.raises(ArgumentError, match="no last layer"):
        two_towers().pop()


def test_a_graph_of_layers_is_pickled_with_its_state(graph: R.Graph) -> None:
    def fitted(model: NeuralNetwork) -> Any:
        R.Graph(name="fit")
        history = model.fit([A, B], SIZES, 2, BATCH, save_model=True)
        fetch = R.run_local().__getitem__
        model.fetch_weights(fetch)
        return history.read_from(fetch).loss

    model = siamese(encoder())
    fitted(model)
    back = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(fitted(back), fitted(model))


# ── smaller things ────────────────────────────────────────────────────────────────────────────────
def test_many_samples_of_several_inputs_are_predicted_in_parts(graph: R.Graph) -> None:
    x, y = Input(3), Input((), name="y")
    model = NeuralNetwork(
        Adam(), SquareLoss, inputs=[x, y], outputs=[Dense(2)(x), Lambda(lambda a: a * 2.0)(y)]
    )
    many = RNG.standard_normal((600, 3)).astype(np.float32)
    numbers = np.arange(600, dtype=np.float32)
    kernel, bias = model.get_weights()
    for name, op in zip("ab", model.predict({"input_1": many, "y": numbers}), strict=True):
        op.persist_op(name)
    results = R.run_local()
    np.testing.assert_allclose(results["a"], many @ kernel + bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(results["b"], numbers * 2)


def test_an_output_that_other_layers_take_is_still_trained_from_its_logits(graph: R.Graph) -> None:
    x = Input(6)
    kinds = Dense(4, activation="softmax")(x)
    model = NeuralNetwork(Adam(), [CrossEntropy, SquareLoss], inputs=x, outputs=[kinds, Dense(1)(kinds)])
    assert model.network.output_names == ("Dense_1", "Dense_2")
    model.evaluate(1000 * A, (KINDS, SIZES))["Dense_1_loss"].persist_op("loss")
    w, b, *_ = model.get_weights()
    expected = F.cross_entropy(torch.tensor(1000 * A @ w + b), torch.tensor(KINDS))
    np.testing.assert_allclose(R.run_local()["loss"], expected.item(), rtol=1e-4)


def test_a_row_may_begin_with_input_and_take_integers(graph: R.Graph) -> None:
    declared, named = NeuralNetwork(Adam(), SquareLoss, seed=1), NeuralNetwork(Adam(), SquareLoss, seed=1)
    named.add(Input((3,), dtype="int32", name="words"))
    for model, options in ((declared, {"input_shape": (3,)}), (named, {})):
        model.add(Embedding(9, 4, **options))
        model.add(LSTM(3))
        model.add(Dense(1))
        model.predict(WORDS.astype(np.uint8)).persist_op(str(options))
        model.fit(WORDS, SIZES, 1, BATCH)
    results = R.run_local()
    np.testing.assert_array_equal(results["{}"], results[str({"input_shape": (3,)})])


def test_export_of_a_loop_and_of_one_value_twice(graph: R.Graph, tmp_path: Path) -> None:
    words = Input((3,), dtype="int64", name="words")
    found = LSTM(4)(Embedding(9, 4)(words))
    model = NeuralNetwork(Adam(), SquareLoss, inputs=words, outputs={"a": found, "b": found, "c": words})
    a, b, c = model.predict(WORDS)
    for name, op in {"a": a, "b": b, "c": c}.items():
        op.persist_op(name)
    results = R.run_local()
    session = onnxruntime.InferenceSession(model.get_onnx_model(str(tmp_path / "loop")))
    for name, value in zip("abc", session.run(None, {"words": WORDS}), strict=True):
        np.testing.assert_allclose(value, results[name], rtol=1e-5, atol=1e-6)


def test_the_summary_tells_connections(capsys: pytest.CaptureFixture[str]) -> None:
    two_towers().summary()
    told = capsys.readouterr().out
    assert "connected to" in told
    assert "Dense_1#2" in told
    assert "words (int64)" in told
    siamese(encoder()).summary()
    assert "Model_1_Dense_1#2" in capsys.readouterr().out


# ── what is refused ───────────────────────────────────────────────────────────────────────────────
def model_of(inputs: Any, outputs: Any, loss: Any = SquareLoss, **options: Any) -> NeuralNetwork:
    return NeuralNetwork(Adam(), loss, inputs=inputs, outputs=outputs, **options)


def used() -> Layer:
    layer = Dense(3)
    x = Input(6)
    model_of(x, layer(x))
    return layer


def forked(**options: Any) -> NeuralNetwork:
    x = Input(6, name="x")
    return model_of(x, {"a": Dense(1)(x), "b": Dense(2)(x)}, **options)


BAD: dict[str, tuple[type[Exception], str, Callable[[], object]]] = {
    "a layer called on data": (ArgumentError, "no symbol", lambda: Dense(3)(A)),
    "too many inputs": (ArgumentError, "number of inputs", lambda: Dense(3)([Input(3), Input(3)])),
    "too few inputs": (ArgumentError, "number of inputs", lambda: Add()(Input(3))),
    "shapes that do not fit": (ShapeError, "fit", lambda: Add()([Input(3), Input(4)])),
    "a shared layer with two shapes": (ShapeError, "same shapes", lambda: [d(Input(n)) for d in [Dense(2)] for n in (3, 4)]),
    "another declared shape": (ArgumentError, "contradicts", lambda: Dense(3, input_shape=(5,))(Input(4))),
    "an input that is missing": (ArgumentError, "does not have", lambda: model_of(Input(3), Dense(2)(Input(3)))),
    "an input without use": (ArgumentError, "no use", lambda: model_of([x := Input(3), Input(2)], Dense(2)(x))),
    "an input that is an output": (ArgumentError, "made by Input", lambda: model_of(y := Dense(2)(Input(3)), Dense(2)(y))),
    "inputs of one name": (
        ArgumentError, "one name", lambda: model_of([a := Input(3, name="x"), b := Input(3, name="x")], Add()([a, b]))
    ),
    "outputs that are layers": (ArgumentError, "symbols", lambda: model_of(Input(3), Dense(2))),
    "no outputs": (ArgumentError, "symbols", lambda: model_of(Input(3), None)),
    "a layer of another model": (ArgumentError, "another model", lambda: model_of(x := Input(6), used()(x))),
    "a layer of another model in a row": (
        ArgumentError, "in a model already", lambda: NeuralNetwork(Adam(), SquareLoss).add(used())
    ),
    "a row of what takes two": (ArgumentError, "several inputs", lambda: model_of(x := Input(6), Dense(2)(x)).add(Subtract())),
    "a row after two outputs": (ArgumentError, "one output", lambda: forked().add(Dense(2))),
    "an input of negative size": (ArgumentError, "shape", lambda: Input((-1,))),
    "an input of text": (ArgumentError, "dtype", lambda: Input((3,), dtype="str")),
    "an input of no dtype": (ArgumentError, "dtype", lambda: Input((3,), dtype="speed")),
    "an input's name": (ArgumentError, "name", lambda: Input((3,), name="")),
    "an output's name": (ArgumentError, "another name", lambda: model_of(x := Input(6), {"a{}": Dense(2)(x)})),
    "an output that is called val": (ArgumentError, "another name", lambda: model_of(x := Input(6), {"val": Dense(2)(x)})),
    "two losses for one output": (ArgumentError, "1 outputs", lambda: model_of(x := Input(6), Dense(2)(x), [SquareLoss] * 2)),
    "a loss of no output": (ArgumentError, "not there", lambda: forked(loss={"a": SquareLoss, "c": SquareLoss})),
    "an output without a loss": (ArgumentError, "none of the losses", lambda: forked(loss={"a": SquareLoss})),
    "a metric of no output": (ArgumentError, "not there", lambda: forked(metrics={"c": ["mae"]})),
    "a class that weighs nothing known": (ArgumentError, "weight of class", lambda: model_of(x := Input(6), Dense(1)(x)).fit(
        np.ones((4, 6)), np.zeros(4), 1, 4, class_weight={0: float("nan")})),
    "one input twice": (ArgumentError, "twice", lambda: model_of([x := Input(6), x], Dense(2)(x))),
    "a loss weight beyond all floats": (ArgumentError, "loss weight", lambda: forked(loss_weights=10**400)),
    "a negative loss weight": (ArgumentError, "loss weight", lambda: forked(loss_weights=[1.0, -1.0])),
    "one input too few": (ArgumentError, "3 inputs", lambda: two_towers().predict([A, B])),
    "an input of no name": (ArgumentError, "does not name", lambda: two_towers().predict({"a": A, "b": B, "c": WORDS})),
    "inputs of two lengths": (ArgumentError, "differ in length", lambda: two_towers().predict([A, B[:9], WORDS])),
    "fractions for words": (DTypeError, "integers", lambda: two_towers().predict([A, B, WORDS + 0.5])),
    "a word that is not there": (ArgumentError, "Embedding_1", lambda: two_towers().predict([A, B, WORDS + 1])),
    "words of another shape": (ShapeError, "words|shape", lambda: two_towers().predict([A, B, WORDS[:, :2]])),
    "one target too few": (ArgumentError, "2 outputs", lambda: two_towers().fit([A, B, WORDS], KINDS, 1, 5)),
    "targets of another length": (
        ArgumentError, "differ in length", lambda: two_towers().fit([A, B, WORDS], [KINDS[:9], SIZES[:9]], 1, 5)
    ),
    "a lambda of nothing": (ArgumentError, "function", lambda: Lambda(3)),
    "a lambda that gives no op": (ArgumentError, "gives ops", lambda: Lambda(lambda x: 3)(Input(3))),
    "a lambda that loses the batch": (ArgumentError, "batch", lambda: Lambda(lambda x: R.sum(x, axis=0))(Input(3))),
    "a model of another shape": (ShapeError, "other shapes", lambda: encoder()(Input(7))),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(name: str, graph: R.Graph) -> None:
    kind, text, wrong = BAD[name]
    with pytest.raises(kind, match=text) as caught:
        wrong()
    assert caught.value.problem.expected


@pytest.mark.parametrize(
    "name", ["shapes that do not fit", "an input without use", "a lambda that gives no op"]
)
def test_errors_tell_the_users_line(name: str) -> None:
    with pytest.raises(ArgumentError if "fit" not in name else ShapeError) as caught:
        BAD[name][2]()
    assert "test_functional.py" in caught.value.problem.source


class Ranked(Layer):
    """Mixes the examples of a batch, and has two inputs."""

    n_inputs = 2
    mixes_examples = True

    def train_shards(self, xs: Any, weights: Any, moments: Any) -> Any:
        raise AssertionError("made for one input")

    def shapes_after(self, shapes: Any) -> Any:
        return (shapes[0],)

    def call_all(self, xs: Any, weights: Any) -> Any:
        return (xs[0] - R.mean(xs[1], axis=0),)


def test_layers_of_several_inputs_that_mix_examples_get_whole_batches(graph: R.Graph) -> None:
    x = Input(6)
    model = model_of(x, Ranked()([Dense(1)(x), Dense(1)(x)]))
    with pytest.raises(ArgumentError, match="mix the examples"):
        model.fit(A, SIZES, 1, BATCH, strategy=DataParallel(2))
    history = model.fit(A, SIZES, 1, BATCH)
    assert np.isfinite(history.read_from(R.run_local().__getitem__).loss).all()


def test_an_activation_layer_ends_an_output(graph: R.Graph) -> None:
    x = Input(6)
    model = model_of(x, Activation("softmax")(Dense(4)(x)), CrossEntropy)
    assert model.network.activation(0) == "softmax"
    model.test_on_batch(1000 * A, KINDS).persist_op("loss")
    w, b = model.get_weights()
    expected = F.cross_entropy(torch.tensor(1000 * A @ w + b), torch.tensor(KINDS))
    np.testing.assert_allclose(R.run_local()["loss"], expected.item(), rtol=1e-4)
