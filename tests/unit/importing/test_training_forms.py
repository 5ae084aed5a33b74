"""Training and inference of one file: BatchNormalization's statistics, Dropout and random operators."""

from __future__ import annotations

import numpy as np
import torch
from onnx import helper
from onnx_models import model

import ravop as R
from ravop.importing import read_model

X = np.random.default_rng(1).standard_normal((6, 3, 4)).astype(np.float32) * 2 + 1
WEIGHTS = {
    "gamma": np.array([1.0, 2.0, 0.5], np.float32),
    "beta": np.array([0.0, 1.0, -1.0], np.float32),
    "mean": np.array([0.5, 0.0, 1.0], np.float32),
    "var": np.array([1.0, 4.0, 2.0], np.float32),
}
NORMALIZED = model(
    [helper.make_node("BatchNormalization", ["x", *WEIGHTS], ["y"], name="norm", momentum=0.8)],
    {"x": ("float32", ["N", 3, 4])}, {"y": ("float32", ["N", 3, 4])}, WEIGHTS,
)  # fmt: skip
DROPPED = model(
    [helper.make_node("Dropout", ["x", "ratio"], ["y", "mask"], name="drop")],
    {"x": ("float32", ["N", 1000])}, {"y": ("float32", ["N", 1000]), "mask": ("bool", ["N", 1000])},
    {"ratio": np.float32(0.25).reshape(())},
)  # fmt: skip


def test_batch_normalization_follows_pytorch_in_training_and_inference() -> None:
    found = read_model(NORMALIZED)
    assert list(found.parameters) == ["gamma", "beta", "mean", "var"]
    assert found.statistics == {"mean", "var"}
    graph = R.Graph("norm")
    x = graph.input(X)
    ops = {name: graph.variable(array) for name, array in found.parameters.items()}
    (trained,), moved = found.apply([x], ops, training=True)
    (used,), unmoved = found.apply([x], ops, training=False)
    assert (list(moved), unmoved) == (["mean", "var"], {})
    for name, op in {
        "trained": trained,
        "used": used,
        **moved,
        "dgamma": R.grad((trained**3).sum(), ops["gamma"]),
    }.items():
        op.persist_op(name)
    got = R.run_local(graph)

    tensors = {name: torch.tensor(array) for name, array in WEIGHTS.items()}
    tensors["gamma"].requires_grad_()
    running = tensors["mean"].clone(), tensors["var"].clone()
    arguments = tensors["gamma"], tensors["beta"]
    y = torch.nn.functional.batch_norm(torch.tensor(X), *running, *arguments, training=True, momentum=0.2)
    (y**3).sum().backward()
    np.testing.assert_allclose(got["trained"], y.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got["dgamma"], tensors["gamma"].grad, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(got["mean"], running[0], rtol=1e-5)
    np.testing.assert_allclose(got["var"], running[1], rtol=1e-5)
    plain = torch.nn.functional.batch_norm(torch.tensor(X), tensors["mean"], tensors["var"], *arguments)
    np.testing.assert_allclose(got["used"], plain.detach(), rtol=1e-4, atol=1e-5)


def test_dropout_draws_in_training_alone_and_from_the_given_key() -> None:
    found = read_model(DROPPED)
    graph = R.Graph("drop", seed=3)
    x = graph.input(np.ones((40, 1000), np.float32))
    names: list[str] = []

    def key(name: str) -> R.Op:
        names.append(name)
        return R.random_key(7, 1, R.t(0))

    runs = [found.apply([x], training=True, key=key), found.apply([x], training=True, key=key), found.apply([x], training=True),
            found.apply([x], training=False), found.apply([x])]  # fmt: skip
    for number, (y, mask) in enumerate(run.outputs for run in runs):
        y.persist_op(f"y{number}")
        mask.persist_op(f"mask{number}")
    got = {name: np.asarray(value) for name, value in R.run_local(graph).items()}
    assert names == ["drop", "drop"]
    np.testing.assert_array_equal(got["y0"], got["y1"])
    assert (got["y0"] != got["y2"]).any()
    np.testing.assert_allclose(got["y0"], got["mask0"] / 0.75, rtol=1e-6)
    assert abs(got["mask0"].mean() - 0.75) < 0.01
    for number in (3, 4):
        assert (got[f"y{number}"] == 1).all()
        assert got[f"mask{number}"].all()


def test_random_operators_draw_what_they_say_and_the_same_each_time() -> None:
    nodes = [
        helper.make_node("RandomUniform", [], ["uniform"], shape=[200, 100], low=2.0, high=4.0),
        helper.make_node("RandomNormalLike", ["x"], ["normal"], mean=-1.0, scale=0.5, dtype=11),
        helper.make_node("Bernoulli", ["x"], ["coin"], dtype=7),
        helper.make_node("Multinomial", ["logits"], ["choice"], sample_size=20000),
    ]
    p = np.full((200, 100), 0.3, np.float32)
    logits = np.log(np.array([[0.2, 0.5, 0.3]], np.float32))
    kinds = {"uniform": "float32", "normal": "float64", "coin": "int64", "choice": "int32"}
    made = model(nodes, {"x": p, "logits": logits}, {name: (kind, None) for name, kind in kinds.items()})
    drawn = []
    for seed in (1, 1, 2):
        graph = R.Graph("random", seed=seed)
        for name, op in zip(kinds, R.import_onnx(made, p, logits), strict=True):
            op.persist_op(name)
        drawn.append({name: np.asarray(value) for name, value in R.run_local(graph).items()})
    first = drawn[0]
    for name, kind in kinds.items():
        assert first[name].dtype == kind
        np.testing.assert_array_equal(first[name], drawn[1][name])
        assert (first[name] != drawn[2][name]).any()
    assert first["uniform"].min() >= 2
    assert first["uniform"].max() < 4
    np.testing.assert_allclose(first["uniform"].mean(), 3, atol=0.02)
    np.testing.assert_allclose([first["normal"].mean(), first["normal"].std()], [-1, 0.5], atol=0.02)
    np.testing.assert_allclose(first["coin"].mean(), 0.3, atol=0.02)
    np.testing.assert_allclose(np.bincount(first["choice"].ravel()) / 20000, [0.2, 0.5, 0.3], atol=0.02)
