"""Initializers have the moments of their definitions; regularizers are PyTorch's sums; both are saved with their layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ravop as R
from ravdl.neural_networks import NeuralNetwork, load_model
from ravdl.neural_networks import initializers as I
from ravdl.neural_networks import regularizers as P
from ravdl.neural_networks.layers import GRU, Conv2D, Dense, Embedding
from ravdl.neural_networks.layers.registry import LAYERS
from ravdl.neural_networks.loss_functions import LOSSES, SquareLoss
from ravdl.neural_networks.metrics import METRIC_CLASSES
from ravdl.neural_networks.optimizers import OPTIMIZERS, SGD
from ravdl.neural_networks.schedules import SCHEDULES
from ravop.errors import ArgumentError, ShapeError

SHAPE, INTO, OUT = (300, 500), 300, 500

MOMENTS: dict[str, tuple[float, float, float]] = {
    "glorot_uniform": (0, 2 / (INTO + OUT), math.sqrt(6 / (INTO + OUT))),
    "glorot_normal": (0, 2 / (INTO + OUT), 2 * math.sqrt(2 / (INTO + OUT)) / 0.8796),
    "he_uniform": (0, 2 / INTO, math.sqrt(6 / INTO)),
    "he_normal": (0, 2 / INTO, 2 * math.sqrt(2 / INTO) / 0.8796),
    "lecun_uniform": (0, 1 / INTO, math.sqrt(3 / INTO)),
    "lecun_normal": (0, 1 / INTO, 2 / math.sqrt(INTO) / 0.8796),
    "variance_scaling": (0, 1 / INTO, 2 / math.sqrt(INTO) / 0.8796),
    "random_normal": (0, 0.05**2, math.inf),
    "random_uniform": (0, 0.05**2 / 3, 0.05),
    "truncated_normal": (0, (0.05 * 0.8796) ** 2, 0.1),
    "constant": (0, 0, 0),
    "zeros": (0, 0, 0),
    "ones": (1, 0, 1),
}
"""Mean, variance, largest magnitude."""

OBJECTS: list[tuple[I.InitializerObject, tuple[float, float, float]]] = [
    (I.Constant(0.3), (0.3, 0, 0.3001)),
    (I.RandomNormal(1.0, 0.5), (1, 0.25, math.inf)),
    (I.RandomUniform(0.0, 1.0), (0.5, 1 / 12, 1)),
    (I.TruncatedNormal(2.0, 0.1), (2, (0.1 * 0.8796) ** 2, 2.2)),
    (I.VarianceScaling(3.0, "fan_out", "uniform"), (0, 3 / OUT, math.sqrt(9 / OUT))),
    (I.VarianceScaling(3.0, "fan_avg", "untruncated_normal"), (0, 6 / (INTO + OUT), math.inf)),
]


def test_every_initializer_has_its_moments() -> None:
    cases: list[tuple[Any, tuple[float, float, float]]] = [
        *((I.INITIALIZERS[name], moments) for name, moments in MOMENTS.items()), *OBJECTS
    ]  # fmt: skip
    for initializer, (mean, variance, largest) in cases:
        drawn = initializer(SHAPE, I.generator_for(4, "w"))
        assert drawn.dtype == np.float32
        deviation = math.sqrt(variance)
        np.testing.assert_allclose(
            drawn.mean(), mean, atol=0.01 * deviation + 1e-7, err_msg=repr(initializer)
        )
        np.testing.assert_allclose(drawn.std(), deviation, rtol=0.01, atol=1e-6, err_msg=repr(initializer))
        assert abs(drawn).max() <= largest * (1 + 1e-4)
        np.testing.assert_array_equal(drawn, initializer(SHAPE, I.generator_for(4, "w")))
    assert set(MOMENTS) | {"orthogonal", "identity"} == set(I.INITIALIZERS)
    np.testing.assert_array_equal(I.IdentityMatrix(2.0)((3, 4), I.generator_for(0, "")), 2 * np.eye(3, 4))
    rows = I.Orthogonal(0.5)((4, 9), I.generator_for(0, ""))
    np.testing.assert_allclose(rows @ rows.T, 0.25 * np.eye(4), atol=1e-6)


def rising(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape)


def test_layers_take_objects_and_functions_and_are_saved_with_them(tmp_path: Path) -> None:
    model = NeuralNetwork(SGD(), SquareLoss, seed=2)
    for layer in (
        Embedding(7, 3, input_shape=(4,), initializer=I.RandomUniform(1.0, 2.0), regularizer=P.L2(0.1)),
        GRU(3, recurrent_initializer=I.IdentityMatrix(0.5), recurrent_regularizer=P.OrthogonalRegularizer(0.2, "columns")),
        Dense(2, initializer=rising, bias_initializer=I.Constant(0.3), regularizer=P.L1L2(0.1, 0.2)),
    ):  # fmt: skip
        model.add(layer)
    found = dict(zip(model.weight_names, model.get_weights(), strict=True))
    assert 1 <= found["Embedding_1_W"].min() <= found["Embedding_1_W"].max() < 2
    np.testing.assert_array_equal(found["GRU_1_U"], 0.5 * np.eye(3, 9))
    np.testing.assert_array_equal(found["Dense_1_W"], np.arange(6).reshape(3, 2))
    np.testing.assert_allclose(found["Dense_1_w0"], [0.3, 0.3])
    back = load_model(model.save(tmp_path / "m"), {"rising": rising})
    assert repr(back.layers) == repr(model.layers)


def test_regularizers_are_the_sums_of_their_definitions(graph: R.Graph) -> None:
    w = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    t = torch.tensor(w)
    rows, columns = map(_cosines, (t, t.T))
    cases: dict[str, tuple[P.Regularizer, Any]] = {
        "L1": (P.L1(0.2), 0.2 * t.abs().sum()),
        "L2": (P.L2(0.3), 0.3 * t.norm() ** 2),
        "L1L2": (P.L1L2(0.2, 0.3), 0.2 * t.abs().sum() + 0.3 * t.norm() ** 2),
        "rows": (P.OrthogonalRegularizer(0.5), 0.5 * rows.mean()),
        "columns": (P.OrthogonalRegularizer(0.5, "columns"), 0.5 * columns.mean()),
    }
    for name, (regularizer, _) in cases.items():
        regularizer(R.t(w)).persist_op(name)
    results = R.run_local()
    for name, (_, expected) in cases.items():
        np.testing.assert_allclose(results[name], expected, rtol=1e-5, err_msg=name)


def _cosines(matrix: torch.Tensor) -> torch.Tensor:
    """Magnitudes of the cosines between each two rows."""
    pairs = torch.combinations(torch.arange(len(matrix)))
    return torch.cosine_similarity(matrix[pairs[:, 0]], matrix[pairs[:, 1]]).abs()


BAD: dict[str, tuple[type[Exception], Callable[[], Any]]] = {
    "a negative deviation": (ArgumentError, lambda: I.RandomNormal(stddev=-1)),
    "a mode": (ArgumentError, lambda: I.VarianceScaling(mode="fan")),
    "text": (ArgumentError, lambda: I.Constant("1")),  # type: ignore[arg-type]
    "an identity of three axes": (ShapeError, lambda: I.IdentityMatrix()((2, 2, 2), I.generator_for(0, ""))),
    "a function of another shape": (ShapeError, lambda: started(lambda shape, generator: np.zeros(3))),
    "an identity for a convolution": (
        ShapeError,
        lambda: NeuralNetwork(SGD(), SquareLoss).add(Conv2D(2, 3, input_shape=(1, 4, 4), initializer="identity")),
    ),
    "a regularizer's factor": (ArgumentError, lambda: P.L2(-0.1)),
    "a regularizer's mode": (ArgumentError, lambda: P.OrthogonalRegularizer(mode="both")),
    "no matrix": (ShapeError, lambda: P.OrthogonalRegularizer()(R.ones((3,)))),
}  # fmt: skip


def started(initializer: Any) -> None:
    NeuralNetwork(SGD(), SquareLoss).add(Dense(2, input_shape=(2,), initializer=initializer))


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused(name: str, graph: R.Graph) -> None:
    error, make = BAD[name]
    with pytest.raises(error):
        make()


def test_no_two_things_that_a_file_may_name_have_one_name() -> None:
    tables = [LAYERS, LOSSES, METRIC_CLASSES, OPTIMIZERS, SCHEDULES, I.INITIALIZER_CLASSES, P.REGULARIZERS]
    assert sum(map(len, tables)) == len({name for table in tables for name in table})
