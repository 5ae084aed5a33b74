"""What layers draw: dropout and other noise in training, weights at the start. Values are in `test_layer_battery`."""

from __future__ import annotations

import math

import numpy as np

import ravop as R
from ravdl.neural_networks.initializers import INITIALIZERS, generator_for
from ravdl.neural_networks.layers import (
    AlphaDropout,
    Conv2D,
    Dense,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    Layer,
    Moment,
    MultiHeadAttention,
    SpatialDropout1D,
    SpatialDropout2D,
    TimeDistributed,
)


def dropped(graph: R.Graph, p: float, seed: int, step: int, name: str = "Dropout_1") -> np.ndarray:
    layer = Dropout(p)
    layer.build(name, (500,))
    y, _ = layer.train(R.ones((200, 500)), {}, Moment(seed, R.t(step)))
    y.persist_op(f"{p} {seed} {step} {name}")
    return y


def test_dropout_keeps_the_mean_and_drops_the_share(graph: R.Graph) -> None:
    for p in (0.2, 0.9):
        dropped(graph, p, 1, 1)
    results = R.run_local()
    for p in (0.2, 0.9):
        y = results[f"{p} 1 1 Dropout_1"]
        np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - p)], rtol=1e-6)
        assert abs((y == 0).mean() - p) < 0.005
        # Neither rows nor columns are favoured: binomial, five deviations.
        assert abs((y == 0).mean(axis=0) - p).max() < 5 * math.sqrt(p * (1 - p) / 200)
        assert abs((y == 0).mean(axis=1) - p).max() < 5 * math.sqrt(p * (1 - p) / 500)


def test_dropout_masks_depend_on_seed_step_and_layer_alone(graph: R.Graph) -> None:
    keys = [(1, 1, "Dropout_1"), (1, 2, "Dropout_1"), (2, 1, "Dropout_1"), (1, 1, "Dropout_2")]
    for key in keys:
        dropped(graph, 0.5, *key)
    results = R.run_local()
    masks = [results[f"0.5 {seed} {step} {name}"] > 0 for seed, step, name in keys]
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            assert abs((mask == other).mean() - 0.5) < 0.01

    R.Graph(seed=99)
    R.random_uniform(size=(3,)).persist_op("something before it")
    dropped(graph, 0.5, 1, 1)
    np.testing.assert_array_equal(R.run_local()["0.5 1 1 Dropout_1"] > 0, masks[0])


def test_dropout_passes_gradients_of_what_it_kept(graph: R.Graph) -> None:
    layer = Dropout(0.5)
    layer.build("Dropout_1", (50,))
    x = R.ones((20, 50)) * 1.0
    y, _ = layer.train(x, {}, Moment(1, R.t(1)))
    y.persist_op("y")
    R.grad(R.sum(y), x).persist_op("gradient")
    results = R.run_local()
    np.testing.assert_array_equal(results["gradient"], results["y"])


def test_initializers_have_the_variance_of_their_papers() -> None:
    layer = Dense(300, initializer="he_normal")
    layer.build("Dense_1", (200,))
    he = layer.weights()[0].initializer((200, 300), generator_for(0, "a"))
    assert he.dtype == np.float32
    assert abs(he.var() / (2 / 200) - 1) < 0.02
    convolution = Conv2D(40, 5)
    convolution.build("Conv2D_1", (30, 8, 8))
    spec = convolution.weights()[0]
    glorot = spec.initializer(spec.shape, generator_for(0, "a"))
    assert abs(glorot.var() / (2 / (30 * 25 + 40 * 25)) - 1) < 0.02
    assert abs(glorot).max() <= math.sqrt(6 / (30 * 25 + 40 * 25))
    assert not np.array_equal(he, layer.weights()[0].initializer((200, 300), generator_for(1, "a")))


def test_orthogonal_weights_are() -> None:
    tall, wide = (INITIALIZERS["orthogonal"](shape, generator_for(0, "a")) for shape in ((9, 4), (4, 9)))
    np.testing.assert_allclose(tall.T @ tall, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(wide @ wide.T, np.eye(4), atol=1e-6)


def test_noise_has_the_moments_of_its_papers(graph: R.Graph) -> None:
    """For standard normal inputs: mean and variance of the output, and of what was done to each input."""
    x = generator_for(3, "x").standard_normal((200, 500)).astype(np.float32)
    layers: dict[str, Layer] = {
        "noise": GaussianNoise(0.5),
        "gaussian": GaussianDropout(0.2),
        "alpha": AlphaDropout(0.3),
    }
    for name, layer in layers.items():
        layer.build(name, (500,))
        y, _ = layer.train(R.t(x), {}, Moment(1, R.t(4)))
        y.persist_op(name)
    results = R.run_local()
    added = results["noise"] - x
    np.testing.assert_allclose((added.mean(), added.std()), (0, 0.5), atol=0.01)
    factor = results["gaussian"] / x
    np.testing.assert_allclose((np.mean(factor), np.std(factor)), (1, math.sqrt(0.2 / 0.8)), atol=0.01)
    alpha = results["alpha"]
    np.testing.assert_allclose((alpha.mean(), alpha.std()), (0, 1), atol=0.015)
    values, counts = np.unique(alpha, return_counts=True)
    assert (
        abs(counts.max() / alpha.size - 0.3) < 0.005
    )  # all that is dropped has one value, below all others' mean
    assert values[counts.argmax()] < -1


def test_spatial_dropout_drops_whole_channels(graph: R.Graph) -> None:
    for layer, shape in ((SpatialDropout1D(0.4), (7, 90)), (SpatialDropout2D(0.4), (90, 3, 2))):
        layer.build(type(layer).__name__, shape)
        y, _ = layer.train(R.ones((60, *shape)), {}, Moment(1, R.t(4)))
        y.persist_op(layer.name)
    results = R.run_local()
    series, images = results["SpatialDropout1D"], results["SpatialDropout2D"]
    assert (series == series[:, :1]).all()
    assert (images == images[:, :, :1, :1]).all()
    for kept in (series[:, 0], images[:, :, 0, 0]):
        np.testing.assert_allclose(np.unique(kept), [0, 1 / 0.6], rtol=1e-6)
        assert abs((kept == 0).mean() - 0.4) < 5 * math.sqrt(0.24 / kept.size)


def test_layers_inside_of_others_draw_too(graph: R.Graph) -> None:
    steps = TimeDistributed(Dropout(0.5))
    steps.build("TimeDistributed_1", (4, 50))
    y, _ = steps.train(R.ones((30, 4, 50)), {}, Moment(1, R.t(4)))
    y.persist_op("steps")
    heads = MultiHeadAttention(1, 3, p=0.5)
    heads.build("MultiHeadAttention_1", (6, 3))
    weights = {
        spec.name: R.t(np.eye(3, dtype=np.float32) if spec.name[0] == "W" else np.zeros(3))
        for spec in heads.weights()
    }
    x = R.ones((40, 6, 3))
    (z,), _ = heads.train_all([x], weights, Moment(1, R.t(4)))
    z.persist_op("heads")
    results = R.run_local()
    dropped = results["steps"] == 0
    assert abs(dropped.mean() - 0.5) < 0.05
    assert not (dropped[:, 0] == dropped[:, 1]).all()
    # with equal inputs each of six weights of attention is 1/6, doubled where it was kept
    np.testing.assert_allclose(np.unique(np.round(results["heads"] * 3)), range(7))
    assert abs(results["heads"].mean() - 1) < 0.1
