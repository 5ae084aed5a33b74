"""`x[key]` and `set_value` for drawn keys against NumPy; gradients of indexing against PyTorch; graphs that are not current."""

import random

import numpy as np
import pytest
import torch

import ravop as R

KEYS = [
    np.s_[-7:0:-1],
    np.s_[:, 0:4:-3],
    np.s_[4:3:3, None, [True, False, False], 0, ..., [-1, -1, -2]],
    np.s_[1, ..., [0, 2], [1, 0]],
    np.s_[[0, 1], ..., [0, 1], [1, 0]],
    np.s_[0, 1, -1, None, 1],
    np.s_[[[0], [1]], :, [2, 0, 1]],
    np.s_[..., None, ::-2, 1],
    np.s_[:, [True, False, True], 1:, [0, 1]],
    np.s_[None, [1], None, 2, None],
]
SHAPE = (2, 3, 4, 2)


def drawn(number):
    """Keys of whole numbers, slices, new axes, dots, lists and masks, in any order."""
    draw = random.Random(7)
    for _ in range(number):
        key, dots = [], False
        axes = draw.randint(0, len(SHAPE))
        for axis in range(axes):
            n = SHAPE[axis] if not dots else SHAPE[axis - axes]
            kind = draw.randrange(7)
            bounds = [draw.choice([None, *range(-n - 2, n + 3)]) for _ in range(2)]
            key.append((
                draw.randrange(-n, n), slice(*bounds, draw.choice([None, 1, 2, -1, -2])), slice(*bounds),
                [draw.randrange(-n, n) for _ in range(2)], [[draw.randrange(-n, n)]], slice(None), [True] * 2 + [False] * (n - 2),
            )[kind])  # fmt: skip
            if draw.random() < 0.2:
                key.append(None)
            if not dots and draw.random() < 0.2:
                key.append(...)
                dots = True
        yield tuple(key)


@pytest.mark.parametrize("as_ops", [False, True], ids=["lists", "ops"])
def test_keys_as_numpy(evaluate, as_ops):
    x = np.arange(48, dtype=np.float32).reshape(SHAPE)
    R.Graph()
    op = R.t(x)
    ours, wanted = [], []
    for key in [*KEYS, *drawn(90)]:
        part = x[key]
        given = key if isinstance(key, tuple) else (key,)
        if as_ops:
            given = tuple(R.t(item) if isinstance(item, list) else item for item in given)
        new = -np.arange(1, part.size + 1, dtype=np.float32).reshape(part.shape)
        changed = x.copy()
        changed[key] = new
        ours += [op[given] * 1, R.set_value(op, given, new) * 1]
        wanted += [(key, part), (key, changed)]
    for value, (key, expected) in zip(evaluate(*ours, engines=("onnxruntime",)), wanted, strict=True):
        assert value.shape == expected.shape, key
        np.testing.assert_array_equal(value, expected, err_msg=str(key))


def test_gradients_of_indexing_as_pytorch(evaluate):
    keys = [np.s_[1, ..., [0, 2], [1, 0]], np.s_[[0, 0], ..., [0, 0], [1, 1]], np.s_[0, 1, -1, None, 1], np.s_[:, [0, 0, 2]],
            np.s_[[[0], [1]], :, [2, 0, 1]], np.s_[..., None, 1], np.s_[:, 1:, ::2]]  # fmt: skip
    x = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    R.Graph()
    op, ours, wanted = R.t(x), [], []
    for key in keys:
        theirs = torch.tensor(x, requires_grad=True)
        (theirs[key] ** 3).sum().backward()
        ours.append(R.grad((op[key] ** 3).sum(), [op])[0])
        wanted.append(theirs.grad.numpy())
    for value, expected in zip(evaluate(*ours, engines=("onnxruntime",)), wanted, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_operators_stay_in_the_graph_of_their_operands():
    """Also those that make constants, ranges and zeros of their own."""
    graph = R.Graph()
    x, i = R.t([[2.0, 1.0, 3.0], [0.5, 1.0, 4.0], [1.0, 0.0, 2.0]]), R.t([2, 0, 1])
    other = R.Graph()
    nodes = len(other.main.ir)
    made = [
        x.median(),
        x.quantile([0.2, 0.7], 0),
        x.sort(0),
        x.tril(),
        x.diag(),
        i.diag(),
        i.bincount(),
        x.histogram(3)[0],
        x.cumprod(1),
        x.pad(2, "symmetric"),
        x.repeat(2, 0),
        x.roll(1),
        x.nan_to_num(),
        x.inv(),
        x.det(),
        x.trace(),
        x.norm(),
        i.one_hot(3),
        x.mode(),
        x.set_value(0, 1),
        x.interp([0, 1], [1, 2]),
        R.einsum("ij,ji", x, x),
        R.kron(x, x),
        x.insert(1, 5),
        x.digitize([1, 2]),
        x.argwhere(),
        x.full_like(1),
        x.mean(0),
        x[:0].mean(0),
        x[[0, 1], [1, 2]],
        x.var(ddof=1),
        x.unique(),
        x.rot90(),
        R.where(x > 1, x, 0),
        x.tile(2),
        x.slogdet()[1],
        x.matrix_power(3),
        x.cov(),
        x.cross(x),
        i.searchsorted(2),
        x.histogram([0, 1, 2])[0],
        x.softmax(),
        x.qr()[0],
    ]
    assert {op.graph for op in made} == {graph}
    assert len(other.main.ir) == nodes
