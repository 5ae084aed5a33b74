"""Shaping, creating and windows against NumPy and PyTorch, on both engines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

import ravop as R
from ravop.engine import ENGINES
from ravop.errors import ArgumentError, DTypeError, ShapeError

EXAMPLES = settings(max_examples=10, deadline=None)
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
COLUMN = np.arange(3, dtype=np.int64).reshape(1, 3, 1)

SHAPED = [
    (lambda x: R.reshape(x, (4, 6)), X.reshape(4, 6)), (lambda x: x.reshape(4, -1), X.reshape(4, -1)),
    (lambda x: x.reshape(-1), X.ravel()),
    (lambda x: x.reshape([2, 12]), X.reshape(2, 12)), (lambda x: x.T, X.T),
    (lambda x: R.transpose(x, (0, 2, 1)), X.transpose(0, 2, 1)),
    (lambda x: x.transpose([-1, 0, 1]), X.transpose(-1, 0, 1)), (lambda x: x.swapaxes(0, -1), X.swapaxes(0, -1)),
    (lambda x: x.expand_dims(0), X[None]), (lambda x: x.expand_dims(-1), X[..., None]),
    (lambda x: x.expand_dims((0, 2)), X[None, :, None]),
    (lambda x: R.squeeze(COLUMN), COLUMN.squeeze()), (lambda x: R.squeeze(COLUMN, axis=-1), COLUMN.squeeze(-1)),
    (lambda x: x.flatten(), X.ravel()), (lambda x: x.ravel(), X.ravel()),
    (lambda x: R.concat(x, x, axis=1), np.concatenate([X, X], 1)),
    (lambda x: R.concat([x, X, x]), np.concatenate([X, X, X])), (lambda x: R.stack(x, x, axis=-1), np.stack([X, X], -1)),
    (lambda x: R.stack([x, x]), np.stack([X, X])), (lambda x: R.stack([1, 2, 3.5]), np.array([1, 2, 3.5], dtype=np.float32)),
    (lambda x: x.tile(2), np.tile(X, 2)), (lambda x: x.tile((2, 1, 3)), np.tile(X, (2, 1, 3))),
    (lambda x: x.tile((2, 1, 1, 2)), np.tile(X, (2, 1, 1, 2))), (lambda x: x.repeat(2), np.repeat(X, 2)),
    (lambda x: x.repeat(3, axis=1), np.repeat(X, 3, 1)), (lambda x: x.repeat([1, 0, 2], axis=1), np.repeat(X, [1, 0, 2], 1)),
    (lambda x: x.pad(1), np.pad(X, 1)), (lambda x: x.pad((1, 2)), np.pad(X, (1, 2))),
    (lambda x: x.pad([(0, 1), (1, 0), (2, 2)], constant_values=7), np.pad(X, [(0, 1), (1, 0), (2, 2)], constant_values=7)),
    (lambda x: x.pad(1, mode="edge"), np.pad(X, 1, mode="edge")),
    (lambda x: x.pad(1, mode="reflect"), np.pad(X, 1, mode="reflect")),
    (lambda x: R.pad(x, ((0, 0), (1, 1), (0, 0)), "wrap"), np.pad(X, ((0, 0), (1, 1), (0, 0)), "wrap")),
    (lambda x: R.shape(x), np.array([2, 3, 4])), (lambda x: R.size(x), np.array(24)),
    (lambda x: R.broadcast_to(x, (5, 2, 3, 4)), np.broadcast_to(X, (5, 2, 3, 4))),
    (lambda x: R.broadcast_to(3.5, (2, 2)), np.full((2, 2), 3.5)),
    (lambda x: R.join_to_list(x, [1, 2]), np.append(X, [1, 2])), (lambda x: R.combine_to_list(x, x), np.array([X, X])),
    (lambda x: R.foreach(x, "sum"), X.sum(axis=(1, 2))), (lambda x: x.foreach(lambda row: row * 2), X * 2),
    (lambda x: R.ravint(x / 5), (X / 5).astype(int)),
    (lambda x: R.reverse(x), X[::-1, ::-1, ::-1]), (lambda x: R.reverse(x, axis=1), X[:, ::-1]),
    (lambda x: R.zeros((2, 3)), np.zeros((2, 3))), (lambda x: R.ones(20, dtype="int64"), np.ones(20)),
    (lambda x: R.full((5, 5), 2.5), np.full((5, 5), 2.5)),
    (lambda x: R.full((2,), True), [True, True]), (lambda x: R.zeros_like(x), np.zeros_like(X)),
    (lambda x: R.ones_like(x, "int32"), np.ones_like(X)),
    (lambda x: R.full_like(x, 3), np.full_like(X, 3)), (lambda x: R.eye(3), np.eye(3)),
    (lambda x: R.eye(2, 4, dtype="bool"), np.eye(2, 4, dtype=bool)),
    (lambda x: R.arange(5), np.arange(5)), (lambda x: R.arange(2, 11, 3), np.arange(2, 11, 3)),
    (lambda x: R.arange(5, 0, -2), np.arange(5, 0, -2)),
    (lambda x: R.arange(0.5, 3, 0.25), np.arange(0.5, 3, 0.25)), (lambda x: R.arange(4, dtype="float32"), np.arange(4)),
    (lambda x: R.linspace(-1, 2, 7), np.linspace(-1, 2, 7)), (lambda x: R.linspace(3, 4, 1), [3]),
    (lambda x: x.astype("int64"), X.astype(int)),
    (lambda x: R.one() + R.minus_one(), 0), (lambda x: R.pi() * 2, 2 * np.pi), (lambda x: R.inf(), np.inf),
    (lambda x: R.epsilon(), 1e-12),
    (lambda x: R.stop_gradient(x), X), (lambda x: R.t("[[1, 2.5], [3, 4]]"), [[1, 2.5], [3, 4]]),
    (lambda x: R.Tensor([1, 2]) + R.Scalar(3), [4, 5]),
]  # fmt: skip


@pytest.mark.parametrize(("made", "expected"), SHAPED, ids=range(len(SHAPED)))
def test_shaping_and_creating(evaluate, made, expected):
    R.Graph()
    (got,) = evaluate(made(R.t(X)))
    assert got.shape == np.shape(expected)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@EXAMPLES
@given(shape=array_shapes(min_dims=1, max_dims=3, max_side=6), data=st.data())
def test_split_and_join(evaluate, shape, data):
    x = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    length = shape[axis]
    parts = data.draw(st.sampled_from([n for n in range(1, length + 1) if length % n == 0]))
    cuts = sorted(
        data.draw(st.lists(st.integers(-length, length), max_size=3, unique=True), label="cuts"),
        key=lambda c: c % (length + 1),
    )
    cuts = sorted({min(c + length, length) if c < 0 else c for c in cuts})
    R.Graph()
    op = R.t(x)
    equal, at = R.split(op, parts, axis=axis), R.split(op, cuts, axis=axis)
    wanted = [*np.split(x, parts, axis=axis), *np.split(x, cuts, axis=axis), x]
    got = evaluate(*equal, *at, R.concat(*equal, axis=axis))
    for value, expected in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda x: x.reshape(5, 5), ShapeError), (lambda x: x.reshape(-1, -1), ArgumentError),
        (lambda x: x.reshape(2.5), DTypeError),
        (lambda x: x.transpose([0, 1]), ArgumentError), (lambda x: x.expand_dims(5), ArgumentError),
        (lambda x: x.squeeze(0), ShapeError),
        (lambda x: R.concat([]), ArgumentError), (lambda x: R.concat(x, x[0]), ShapeError),
        (lambda x: R.stack(x, x[0]), ShapeError),
        (lambda x: x.split(5), ShapeError), (lambda x: x.split([2, 1], axis=3), ArgumentError),
        (lambda x: x.pad(-1), ArgumentError),
        (lambda x: x.pad(1, mode="other"), ArgumentError), (lambda x: R.broadcast_to(x, (3, 4, 5)),
            ShapeError), (lambda x: R.zeros(-1), ArgumentError),
        (lambda x: R.t("text"), DTypeError), (lambda x: R.t([[1, 2], [3]]), DTypeError), (lambda x: R.t(None), DTypeError),
        (lambda x: R.t(["a"]), DTypeError), (lambda x: x.astype("complex64"), DTypeError), (lambda x: x + "a", DTypeError),
        (lambda x: R.arange(0, 1, 0), ArgumentError), (lambda x: R.ones(3, dtype="uint8") + 300,
            ArgumentError), (lambda x: ~x, ShapeError),
        (lambda x: R.reshape(x, R.sum(x).astype("int64")), ArgumentError), (lambda x: R.foreach(x, "nothing"), ArgumentError),
        (lambda x: x + R.t([1.0, 2.0, 3.0]), ShapeError), (lambda x: bool(x), DTypeError), (lambda x: -R.t(True), DTypeError),
    ],
)  # fmt: skip
def test_wrong_use_tells_the_line(wrong, error):
    R.Graph()
    with pytest.raises(error) as caught:
        wrong(R.t(X))
    assert caught.value.problem.source.startswith("ops/test_shape_ops.py:")


def test_error_shows_folder_file_line_and_code():
    R.Graph()
    x = R.t(X)
    with pytest.raises(ShapeError) as caught:
        x + np.ones(7)  # the line at fault
    folder_and_file, line, code = caught.value.problem.source.split(":", 2)
    assert (folder_and_file, code.strip()) == ("ops/test_shape_ops.py", "x + np.ones(7)  # the line at fault")
    with open(__file__, encoding="utf-8") as file:
        assert file.read().splitlines()[int(line) - 1].strip() == code.strip()


WINDOWS = [{}, {"strides": 2}, {"pads": 1}, {"pads": (2, 1), "strides": (1, 2)}, {"dilations": 2, "pads": 2}]


@pytest.mark.parametrize("options", [*WINDOWS, {"group": 2, "pads": 1}], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_conv2d(evaluate, options, bias):
    import torch

    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 4, 8, 7)).astype(np.float32)
    w = rng.normal(size=(6, 4 // options.get("group", 1), 3, 3)).astype(np.float32)
    b = rng.normal(size=6).astype(np.float32) if bias else None
    R.Graph()
    (got,) = evaluate(R.conv2d(R.t(x), w, b, **options), rtol=1e-4, atol=1e-4)
    theirs = {"strides": "stride", "pads": "padding", "dilations": "dilation", "group": "groups"}
    expected = torch.nn.functional.conv2d(
        torch.tensor(x),
        torch.tensor(w),
        None if b is None else torch.tensor(b),
        **{theirs[k]: v for k, v in options.items()},
    )
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [*WINDOWS, {"group": 2}, {"strides": 2, "output_padding": 1}], ids=str)
def test_conv_transpose2d(evaluate, options):
    import torch

    rng = np.random.default_rng(4)
    x = rng.normal(size=(2, 4, 5, 6)).astype(np.float32)
    w = rng.normal(size=(4, 6, 3, 3)).astype(np.float32)
    b = rng.normal(size=6 * options.get("group", 1)).astype(np.float32)
    R.Graph()
    engines = ("onnxruntime",) if "group" in options else ENGINES  # ONNX's evaluator fails on groups
    (got,) = evaluate(R.conv_transpose2d(R.t(x), w, b, **options), rtol=1e-4, atol=1e-4, engines=engines)
    theirs = {
        "strides": "stride",
        "pads": "padding",
        "dilations": "dilation",
        "group": "groups",
        "output_padding": "output_padding",
    }
    expected = torch.nn.functional.conv_transpose2d(
        torch.tensor(x), torch.tensor(w), torch.tensor(b), **{theirs[k]: v for k, v in options.items()}
    )
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"strides": 1}, {"strides": 2, "pads": 1}, {"strides": (1, 2)}], ids=str
)
def test_pooling(evaluate, options):
    import torch

    x = -np.abs(np.random.default_rng(5).normal(size=(2, 3, 8, 7))).astype(np.float32) - 1
    R.Graph()
    op = R.t(x)
    got = evaluate(op.max_pool2d((3, 2), **options), op.average_pool2d((3, 2), **options),
                   op.average_pool2d((3, 2), count_include_pad=True, **options))  # fmt: skip
    theirs = {{"strides": "stride", "pads": "padding"}[k]: v for k, v in options.items()}
    functional = torch.nn.functional
    expected = [
        functional.max_pool2d(torch.tensor(x), (3, 2), **theirs),
        functional.avg_pool2d(torch.tensor(x), (3, 2), count_include_pad=False, **theirs),
        functional.avg_pool2d(torch.tensor(x), (3, 2), **theirs),
    ]
    for value, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(value, wanted.numpy(), rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [6, 7])
def test_same_padding(stride, size):
    R.Graph()
    x = R.zeros((1, 2, size, size))
    assert R.conv2d(x, R.zeros((5, 2, 4, 4)), strides=stride, pads="same").shape == (
        1,
        5,
        -(-size // stride),
        -(-size // stride),
    )
    assert R.max_pool2d(x, 2, strides=stride, pads="same").shape == (
        1,
        2,
        -(-size // stride),
        -(-size // stride),
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, w: R.conv2d(x[0], w), lambda x, w: R.conv2d(x, w[:, :1]), lambda x, w: R.conv2d(x, w, strides=0),
        lambda x, w: R.conv2d(x, w, pads=-1), lambda x, w: R.conv_transpose2d(x, w), lambda x, w: R.max_pool2d(x, (1, 2, 3)),
    ],
)  # fmt: skip
def test_windows_that_do_not_fit(wrong):
    R.Graph()
    with pytest.raises((ShapeError, ArgumentError), match=r"test_shape_ops\.py"):
        wrong(R.zeros((1, 2, 5, 5)), R.zeros((3, 2, 3, 3)))
