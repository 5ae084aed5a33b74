"""Where NumPy's meaning is decided at the edges: nothing, scalars, NaNs, truth values, unsigned integers, mixed dtypes, and
shapes of arguments. Many calls in one graph, each against NumPy's value and dtype.
"""

import itertools

import numpy as np
import pytest

import ravop as R
from ravop.errors import ArgumentError, DTypeError, ShapeError

RNG = np.random.default_rng(5)
T = RNG.normal(size=(2, 3, 4)).astype(np.float32)
V = RNG.normal(size=5).astype(np.float32)
NONE = np.zeros((2, 0, 3), np.float32)
HOLES = np.where(RNG.random((4, 5)) < 0.3, np.nan, RNG.normal(size=(4, 5))).astype(np.float32)
ENDLESS = np.array([1, np.inf, np.nan, -np.inf], np.float32)
LIMITS = np.array(
    [[np.inf, -np.inf], [3e38, 3e38], [np.inf, np.nan], [-np.inf, -np.inf], [np.nan, -0.0]], np.float32
)
TRUTH = RNG.random((3, 4)) < 0.5
BYTES = RNG.integers(1, 10, (3, 4)).astype(np.uint8)
S = np.float32(2.5).reshape(())
FALLING = np.sort(V)[::-1].copy()

CASES = [
    *[(name, NONE, *more) for name in ("mean", "var", "std", "sum", "prod", "all", "any", "median")
      for more in ((), (1,), (-2,), ((0, 1),))],
    *[(name, HOLES, *more) for name in ("max", "min", "ptp", "sort", "median", "sum", "nanvar") for more in ((), (0,), (1,))],
    *[(name, LIMITS, 1) for name in ("max", "min")], ("max", LIMITS), ("max", LIMITS[:2]),
    ("nanvar", ENDLESS), ("nanstd", ENDLESS), ("sort", ENDLESS),
    *[(name, BYTES, *more) for name in ("sum", "prod", "cumsum", "cumprod") for more in ((), (1,))],
    *[(name, TRUTH, TRUTH[::-1]) for name in ("add", "multiply", "maximum", "outer", "inner", "kron", "tensordot")],
    ("matmul", TRUTH, TRUTH.T), ("dot", TRUTH, TRUTH.T), *[(name, TRUTH) for name in ("abs", "floor", "ceil", "trunc", "square")],
    ("trace", BYTES), ("argwhere", S), ("argwhere", S * 0), ("full", (2, 3), [1, 2, 3]), ("full", (2, 2), [[1.5], [2]]),
    ("full", (), 7), ("array_split", V, 7), ("array_split", NONE, 2, 1), ("split", T, [2, 1], 1), ("array_split", T, [3, -2], 2),
    ("roll", T, (1, 2), 0), ("roll", T, 3, (0, 2)), ("rollaxis", T, 1, -1), ("rollaxis", T, -1, -2), ("pad", S, 1, "edge"),
    ("insert", V, [0], [1, 2, 3]), ("insert", T, 1, T[:, 0, :], 1), ("insert", V, slice(0, 2), 9), ("delete", V, slice(0, 3, 2)),
    ("insert", T[0], 1, [7, 8, 9], 1), ("delete", V, [True, False, True, False, True]), ("compress", TRUTH[0], V),
    ("histogram", NONE, 4), ("searchsorted", V[:0], T), ("digitize", T, FALLING), ("digitize", T, FALLING, True),
    ("digitize", V, V[:0]), ("average", T, (0, 2), T[:, 0] > 0), ("average", T, (2, 0), T[:, 0].T ** 2), ("convolve", V, 2.5),
    ("atleast_1d", S, V), ("atleast_2d", V, T), ("atleast_3d", V, S), ("choose", [0, 1], [[True, False], [True, True]]),
    ("bincount", TRUTH[0]),
    *[("quantile", T, q, axis, method) for method in ("linear", "lower", "higher", "nearest", "midpoint")
      for q, axis in ((0.5, None), ([0.2, 0.75, 1], 1), ([[0.1], [0.4]], (0, 2)))],
    *[("einsum", equation, *[RNG.normal(size=shape).astype(np.float32) for shape in shapes]) for equation, *shapes in (
        ("...ij,...jk->...ik", (5, 1, 2, 3), (2, 3, 4)), ("...a,...b->...ab", (2, 3), (4,)), ("...,...", (2, 3), (3,)),
        ("Ab,bC", (2, 3), (3, 4)), ("ii", (3, 3)), ("iij->ji", (2, 2, 3)),
        ("ij,ij->ij", (1, 3), (2, 3)), ("ba,bc", (2, 3), (2, 4)),
        ("ij,jk->ik", (2, 0), (0, 3)), (",i->i", (), (3,)), ("i...->...", (2, 3, 4)), ("ijk,ilm,njm,nlk->i", (2, 3, 4), (2, 2, 3),
        (2, 3, 3), (2, 2, 4)), ("xy, yz ,zw->xw", (2, 3), (3, 2), (2, 4)), ("...ii->...i", (2, 3, 3)),
    )],
]  # fmt: skip
KEYWORDS = {"quantile": ("q", "axis", "method"), "average": ("axis", "weights")}


def called(function, name, arguments):
    first, *rest = arguments
    keys = KEYWORDS.get(name)
    return function(first, **dict(zip(keys, rest, strict=True))) if keys else function(first, *rest)


def as_operand(value):
    """Arrays as ops, except what decides a shape or an order."""
    return R.t(value, value.dtype) if isinstance(value, np.ndarray) and value is not FALLING else value


def parts(value):
    return list(value) if isinstance(value, tuple | list) else [value]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_edges_as_numpy(evaluate):
    R.Graph()
    ours, wanted, labels = [], [], []
    for name, *arguments in CASES:
        made = parts(called(getattr(R, name), name, [as_operand(a) for a in arguments]))
        expected = [np.asarray(e) for e in parts(called(getattr(np, name), name, arguments))]
        assert len(made) == len(expected), name
        # The graph is the model's: what is made twice is kept once.
        ours, wanted = [*ours, *(op + op.graph.tensor(0, op.dtype) for op in made)], [*wanted, *expected]
        labels += [(name, *arguments)] * len(made)
    for value, expected, label in zip(evaluate(*ours, engines=("onnxruntime",)), wanted, labels, strict=True):
        assert value.shape == expected.shape, label
        if expected.dtype.kind != "f" and label[0] != "full":
            assert value.dtype == expected.dtype, label
        np.testing.assert_allclose(
            value.astype(float), expected.astype(float), rtol=2e-5, atol=2e-6, err_msg=str(label)
        )


DTYPES = ["bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "floor_divide", "greater", "power"])
def test_pairs_of_dtypes_as_numpy(evaluate, name):
    """Except that an integer does not widen a float; nor does a float of Python."""
    R.Graph()
    values = {dtype: np.array([1, 3, 2, 1]).astype(dtype) for dtype in DTYPES}
    pairs = [(values[a], values[b]) for a, b in itertools.product(DTYPES, DTYPES)]
    pairs += [(values[dtype], number) for dtype in DTYPES for number in (1, 1.5, True)]
    made = [getattr(R, name)(as_operand(a), as_operand(b)) for a, b in pairs]
    got = evaluate(*made, engines=("onnxruntime",))
    for (a, b), value in zip(pairs, got, strict=True):
        expected = getattr(np, name)(a, b)
        floats = [x.dtype for x in (a, b) if getattr(x, "dtype", None) is not None and x.dtype.kind == "f"]
        dtype = expected.dtype
        if dtype.kind == "f" and not (floats == [] and isinstance(b, np.ndarray)):
            dtype = np.result_type(*floats) if floats else np.dtype(np.float32)
        assert value.dtype == dtype, (a.dtype, b)
        np.testing.assert_allclose(value.astype(float), expected.astype(float), rtol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda x: R.einsum("ij->ii", x), ArgumentError), (lambda x: R.einsum("ij->k", x), ArgumentError),
        (lambda x: R.einsum("....i->i", x), ArgumentError), (lambda x: R.einsum("i1->i", x), ArgumentError),
        (lambda x: R.einsum("...ij->ij", x), ArgumentError), (lambda x: R.einsum("ij,jk", x), ArgumentError),
        (lambda x: R.einsum("ij,jk", x, x), ShapeError), (lambda x: R.einsum("ijk", x), ShapeError),
        (lambda x: R.einsum(x, x), DTypeError), (lambda x: R.quantile(x, 0.5, method="median"), ArgumentError),
        (lambda x: R.quantile(x, 1.5), ArgumentError), (lambda _: R.full((2, 3), [1, 2]), ShapeError),
        (lambda x: R.array_split(x, 0), ArgumentError), (lambda x: R.average(x, 0, weights=[1, 2, 3]), ShapeError),
        (lambda x: R.roll(x, (1, 2, 3), (0, 1)), ArgumentError),
        (lambda x: x + 1j, DTypeError), (lambda _: R.t([1j]), DTypeError),
        (lambda x: x.astype("complex128"), DTypeError),
        (lambda x: x[..., ...], ArgumentError), (lambda x: x[0, 0, 0], ArgumentError),
    ],
)  # fmt: skip
def test_what_numpy_would_not_take_is_told_with_its_line(wrong, error):
    R.Graph()
    with pytest.raises(error, match=r"test_numpy_edges\.py"):
        wrong(R.t(np.ones((2, 3), np.float32)))
