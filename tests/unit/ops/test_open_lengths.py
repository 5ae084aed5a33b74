"""Operators on tensors whose batch is of unknown length, as in exported models: computed by ONNX Runtime as NumPy computes."""

import numpy as np
import onnxruntime
import pytest

import ravop as R
from ravop.errors import ShapeError
from ravop.graph.serde import to_bytes

rng = np.random.default_rng(7)
WEIGHTS = rng.normal(size=(4, 3)).astype(np.float32)
PLACES = np.array([[2, 0], [1, 3]])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ROWS = {  # over (batch, 4): ours, NumPy's
    "sort": (lambda x: R.sort(x), lambda x: np.sort(x)),
    "argsort": (lambda x: R.argsort(x, descending=True), lambda x: np.argsort(-x)),
    "top_k": (lambda x: R.top_k(x, 2)[0], lambda x: -np.sort(-x)[:, :2]),
    "split": (lambda x: R.split(x, [1], axis=1)[1], lambda x: x[:, 1:]),
    "array_split": (lambda x: R.array_split(x, 3, axis=-1)[0], lambda x: x[:, :2]),
    "glu": (lambda x: R.glu(x), lambda x: x[:, :2] * sigmoid(x[:, 2:])),
    "roll": (lambda x: R.roll(x, 1, axis=1), lambda x: np.roll(x, 1, axis=1)),
    "repeat": (lambda x: R.repeat(x, [1, 0, 2, 1], axis=1), lambda x: np.repeat(x, [1, 0, 2, 1], axis=1)),
    "delete": (lambda x: R.delete(x, [0, 2], axis=1), lambda x: np.delete(x, [0, 2], axis=1)),
    "diff": (lambda x: R.diff(x, 2), lambda x: np.diff(x, 2)),
    "cumprod": (lambda x: R.cumprod(x, axis=1), lambda x: np.cumprod(x, axis=1)),
    "trapezoid": (lambda x: R.trapezoid(x), lambda x: np.trapezoid(x)),
    "median": (lambda x: R.median(x, axis=1), lambda x: np.median(x, axis=1)),
    "quantile": (
        lambda x: R.quantile(x, [0.1, 0.6], axis=1, keepdims=True),
        lambda x: np.quantile(x, [0.1, 0.6], axis=1, keepdims=True),
    ),
    "variance": (lambda x: R.variance(x, axis=1, ddof=1), lambda x: np.var(x, axis=1, ddof=1)),
    "mode": (lambda x: R.mode(R.round(x), axis=1), lambda x: [mode_of(row) for row in np.round(x)]),
    "full_like": (lambda x: R.full_like(x, 2.5), lambda x: np.full_like(x, 2.5)),
    "affine": (lambda x: R.affine(x, 2.0, 0.5), lambda x: 2 * x + 0.5),
    "tensordot": (lambda x: R.tensordot(x, WEIGHTS, 1), lambda x: np.tensordot(x, WEIGHTS, 1)),
    "inner": (lambda x: R.inner(WEIGHTS.T, x), lambda x: np.inner(WEIGHTS.T, x)),
    "norm": (lambda x: R.norm(x, keepdims=True), lambda x: np.linalg.norm(x, keepdims=True)),
    "take_along_axis": (
        lambda x: R.take_along_axis(x, R.argsort(x), axis=1), lambda x: np.take_along_axis(x, np.argsort(x), axis=1),
    ),
    "average": (
        lambda x: R.average(x, axis=1, weights=[1, 2, 3, 4]), lambda x: np.average(x, axis=1, weights=[1, 2, 3, 4]),
    ),
}  # fmt: skip

IMAGES = {  # over (batch, 2, 4, 4)
    "diagonal": (
        lambda x: R.diagonal(x, 1, axis1=2, axis2=3),
        lambda x: np.diagonal(x, 1, axis1=2, axis2=3),
    ),
    "trace": (lambda x: R.trace(x, axis1=-2, axis2=-1), lambda x: np.trace(x, axis1=-2, axis2=-1)),
    "median": (lambda x: R.median(x, axis=(1, 3)), lambda x: np.median(x, axis=(1, 3))),
    "frobenius": (
        lambda x: R.norm(x, 1, axis=(2, 3), keepdims=True),
        lambda x: np.linalg.norm(x, 1, axis=(2, 3), keepdims=True),
    ),
    "max_pool2d": (
        lambda x: R.max_pool2d(x, 2),
        lambda x: x.reshape(len(x), 2, 2, 2, 2, 2).max(axis=(3, 5)),
    ),
    "conv2d": (
        lambda x: R.conv2d(x, np.ones((3, 2, 1, 1), np.float32), pads="same"),
        lambda x: np.repeat(x.sum(axis=1, keepdims=True), 3, axis=1),
    ),
}


def mode_of(row):
    values, counts = np.unique(row, return_counts=True)
    return values[counts.argmax()]


@pytest.mark.parametrize(("cases", "sample"), [(ROWS, (4,)), (IMAGES, (2, 4, 4))], ids=["rows", "images"])
def test_operators_ask_only_for_the_axes_that_they_need(cases, sample):
    graph = R.Graph()
    x = graph.placeholder(np.dtype(np.float32), ("batch", *sample))
    made = {name: ours(x).persist_op(name).name for name, (ours, _) in cases.items()}
    session = onnxruntime.InferenceSession(to_bytes(graph.model()), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        data = rng.normal(size=(batch, *sample)).astype(np.float32)
        found = dict(zip(made, session.run(list(made.values()), {x.name: data}), strict=True))
        for name, (_, numpys) in cases.items():
            np.testing.assert_allclose(found[name], numpys(data), rtol=1e-5, atol=1e-5, err_msg=name)


def test_an_axis_of_unknown_length_is_named():
    x = R.Graph().placeholder(np.dtype(np.float32), ("batch", 4))
    with pytest.raises(ShapeError, match="known length") as caught:
        R.sort(x, axis=0)
    assert "axis 0" in caught.value.problem.expected
