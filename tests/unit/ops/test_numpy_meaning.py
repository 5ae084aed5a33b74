"""Operators that have a namesake in NumPy, called as NumPy's are: many calls in one graph, each against NumPy's value."""

import warnings

import numpy as np
import pytest

import ravop as R

RNG = np.random.default_rng(11)
A = RNG.normal(size=(3, 4)).astype(np.float32)
B = RNG.normal(size=(3, 4)).astype(np.float32)
T = RNG.normal(size=(2, 3, 4)).astype(np.float32)
V = np.array([3.0, -1.5, 2.0, 0.0, 2.0], np.float32)
I = np.array([[7, -7, 0], [12, 5, -3]])  # noqa: E741
J = np.array([3, 2, 5])
N = np.array([[1, np.nan, 3], [np.nan, np.nan, 0.5]], np.float32)
S = np.array([0.0, 1.5, 2.5, 7.0], np.float32)
U = np.array([0, 5, 200], np.uint8)
EDGES = np.array([-2, -1, 0, 1, 2.5], np.float32)
ODD = np.array([np.inf, -np.inf, np.nan, -0.0, 0.0, 2.0], np.float32)

CASES = {
    "arithmetic": [
        ("subtract", A, B), ("divide", A, B), ("power", np.abs(A), B), ("negative", A), ("positive", A), ("absolute", I),
        ("floor_divide", I, J), ("remainder", I, J), ("fmod", I, J), ("fmod", A, B), ("divmod", I, J), ("reciprocal", A),
        ("copysign", A, B), ("copysign", I, -J), ("signbit", A), ("signbit", ODD[:5]), ("signbit", I), ("square", I),
        ("heaviside", V, 0.5), ("heaviside", ODD, 0.5), ("divmod", A, 2), ("add", A, I[:, :1][:1]),
    ],
    "elementary": [
        ("cbrt", A), ("exp2", A), ("expm1", A * 5), ("log1p", np.abs(A)), ("logaddexp", A, B), ("logaddexp", ODD, ODD),
        ("logaddexp2", A, B), ("trunc", A * 3), ("fix", A * 3), ("rint", A * 3), ("around", A, 1), ("around", A * 100, -1),
        ("round", I, 1), ("round", I * 7, -1), ("trunc", I), ("rint", V),
    ],
    "trigonometry": [
        ("arcsin", A / 4), ("arccos", A / 4), ("arctan", A), ("arctan2", A, B), ("arctan2", V, V[::-1]), ("hypot", A, B),
        ("sinh", A), ("cosh", A), ("arcsinh", A * 9), ("arccosh", np.abs(A) + 1), ("arctanh", A / 4), ("sinc", V),
        ("sinc", A),
        ("deg2rad", A), ("rad2deg", A), ("radians", A), ("degrees", A), ("hypot", V * 0, V * 0), ("tan", A),
        ("arctan2", [1, 0, -1, 0], [0, 1, 0, -1]),
    ],
    "logic": [
        ("isclose", A, A + 1e-6), ("isclose", ODD, ODD), ("isclose", ODD, ODD, 1e-5, 1e-8, True), ("allclose", A, B),
        ("array_equal", A, A), ("array_equal", A, B), ("array_equal", A, V), ("isposinf", ODD), ("isneginf", ODD),
        ("isfinite", I),
        ("isinf", I), ("fmax", N, 1.0), ("fmin", N, 1.0), ("fmax", I, J), ("nonzero", I), ("where", I > 0),
        ("logical_xor", I, J),
    ],
    "bits": [
        ("bitwise_and", I, J), ("bitwise_or", I, J), ("bitwise_xor", I, J), ("invert", I), ("invert", I > 0),
        ("bitwise_and", I > 0, J > 2), ("left_shift", I, J), ("right_shift", I * 100, J), ("right_shift", U, np.uint8(2)),
        ("left_shift", U, np.uint8(3)), ("bitwise_not", U),
    ],
    "reductions": [
        ("ptp", A, 1), ("ptp", I), ("amax", A, 0), ("amin", A, -1), ("var", A, (0, 1)), ("count_nonzero", I, 1),
        ("count_nonzero", V),
        ("nansum", N, 0), ("nanprod", N, 1), ("nanmean", N, 0), ("nanvar", N, 1), ("nanstd", N), ("nanmax", N, 0),
        ("nanmin", N, 1), ("nanmax", I, 0), ("nancumsum", N, 1), ("nan_to_num", ODD),
        ("nan_to_num", ODD, True, 1.0, 2.0, 3.0),
        ("nanargmax", N, 1), ("nanargmin", N), ("cov", A), ("cov", A, None, False), ("cov", V), ("cov", A, None, True, True),
        ("corrcoef", A), ("corrcoef", A, None, False), ("median", T, 1), ("quantile", T, [0.1, 0.9], 2),
        ("percentile", T, 30, (0, 2)),
    ],
    "series": [
        ("cumprod", A, 1), ("cumprod", I), ("cumsum", T, 1), ("diff", A), ("diff", I, 2, 1), ("diff", I > 0, 1, 0),
        ("diff", T, 1, 1),
        ("ediff1d", A), ("trapezoid", A), ("trapezoid", A, None, 0.5, 0), ("trapezoid", A, S), ("interp", A, S, S**2),
        ("interp", V, [1.0], [2.0]),
        *[(name, a, b, mode) for name in ("convolve", "correlate") for a, b in ((V, S), (S, V), (V, S[:3]), (J, J), (V[:2], V))
          for mode in ("full", "same", "valid")],
    ],
    "axes": [
        ("moveaxis", T, 0, -1), ("moveaxis", T, [0, 1], [-1, 0]), ("rollaxis", T, 2), ("rollaxis", T, 1, 3),
        ("swapaxes", T, 0, -1),
        ("broadcast_arrays", V[:4], A), ("atleast_1d", 3), ("atleast_2d", V), ("atleast_3d", V), ("atleast_3d", A),
        ("flip", T, (0, 2)),
        ("flip", T), ("fliplr", A), ("flipud", A), ("rot90", A), ("rot90", A, 2), ("rot90", T, 3, (0, 2)),
        ("rot90", T, -1, (2, 1)),
        ("roll", A, 2), ("roll", T, -1, 1), ("roll", T, (1, 2), (0, 2)), ("roll", T, 1, (0, 2)), ("tril", A),
        ("triu", A, 1), ("triu", T, -1),
        ("tril", I, -1), ("tril", V), ("triu", I > 0), ("expand_dims", A, (0, 3)), ("squeeze", A[:1], 0),
        ("broadcast_to", V, (2, 5)),
    ],
    "joining": [
        ("concatenate", [A, B], 1), ("concatenate", [A, B], None), ("vstack", [V, V]), ("hstack", [V, V]),
        ("hstack", [A, B]), ("dstack", [A, B]),
        ("dstack", [V, V]), ("column_stack", [V, V]), ("column_stack", [A, V[:3]]), ("stack", [A, B], -1),
        ("array_split", V, 3),
        ("array_split", A, 3, 1), ("split", A, [1, -1], 1), ("hsplit", A, 2), ("vsplit", A, 3), ("dsplit", T, 2),
        ("append", A, B),
        ("append", A, B, 0), ("insert", V, 1, 9), ("insert", V, [1, 3], [7, 8]), ("insert", A, 1, 5, 1),
        ("insert", A, [0, 4], 5, 1),
        ("insert", A, 1, B[0], 0), ("delete", V, [0, -1]), ("delete", A, 1, 0), ("tile", A, (2, 1, 2)), ("repeat", A, 2, 1),
        ("repeat", V, [0, 1, 2, 0, 1]),
        *[("pad", A, width, mode) for width in (1, (2, 1), ((0, 1), (2, 0)), 7)
        for mode in ("constant", "edge", "reflect", "symmetric", "wrap")],
    ],
    "choosing": [
        ("take_along_axis", A, np.argsort(A, 1), 1), ("take_along_axis", A, np.argmax(A, 0)[None], 0),
        ("take_along_axis", V, J % 3, None),
        ("compress", [True, False, True], A, 0), ("extract", A > 0, A), ("select", [A > 1, A > 0], [A, B], 9.0),
        ("choose", I % 2, [I, I * 2]),
        ("argwhere", I > 0), ("flatnonzero", V), ("sort", T, 1), ("argsort", A, None), ("searchsorted", S, V),
        ("searchsorted", S, S, "right"),
        ("digitize", V, S), ("digitize", S, S, True), ("histogram", A), ("histogram", A, 4, (-1.0, 1.0)),
        ("histogram", A, EDGES),
        ("histogram", V, 3, None, True), ("histogram", V, 3, (0.0, 3.0), None, J[[0, 1, 2, 0, 1]]),
        ("histogram_bin_edges", A, 5),
        ("bincount", J), ("unique", I), ("unique", V, True), ("unique", V, True, True, True), ("unique", I, False, True),
        ("unique", np.array([[1, 2], [1, 2], [0, 3]]), False, False, True, 0),
    ],
    "making": [
        ("linspace", 0, 5, 6), ("linspace", 0, 5, 5, False), ("logspace", 0, 2, 4), ("logspace", 0, 3, 4, False, 2.0),
        ("geomspace", 1, 1000, 4),
        ("geomspace", -1, -8, 4), ("eye", 3, 4, 1), ("eye", 3, 3, -2), ("identity", 3), ("tri", 3, 4, 1),
        ("meshgrid", V, S, J), ("full", (2, 3), 7),
        ("arange", 5, 0, -2), ("arange", 0.5, 3.0, 0.5), ("zeros_like", I), ("ones_like", A), ("full_like", I, 3),
        ("linspace", 1, 2, 1),
    ],
}  # fmt: skip
"""(name, arguments, …); what NumPy takes in another order or under another name is in `NUMPYS`."""

NUMPYS = {
    "unique": lambda x, index=False, inverse=False, counts=False, axis=None: np.unique(
        x, return_index=index, return_inverse=inverse, return_counts=counts, axis=axis
    ),
    "nan_to_num": lambda x, nan=0.0, posinf=None, neginf=None: np.nan_to_num(
        x, nan=nan, posinf=posinf, neginf=neginf
    ),
    "cov": lambda x, rowvar=True, bias=False: np.cov(x, rowvar=rowvar, bias=bias),
    "corrcoef": lambda x, rowvar=True: np.corrcoef(x, rowvar=rowvar),
    "expand_dims": np.expand_dims,
    "logspace": lambda start, stop, num=50, endpoint=True, base=10.0: np.logspace(
        start, stop, num, endpoint, base
    ),
    "array_equal": lambda a, b: np.asarray(np.array_equal(a, b)),
    "allclose": lambda a, b: np.asarray(np.allclose(a, b)),
    "atleast_1d": np.atleast_1d,
    "count_nonzero": np.count_nonzero,
    "histogram": lambda x, bins=10, range=None, density=None, weights=None: np.histogram(
        x, bins, range, density, weights
    ),
}
KEYWORDS = {"concatenate": "axis", "stack": "axis"}
"""What is given by keyword after a list."""


def called(function, name, arguments):
    if name in KEYWORDS and len(arguments) > 1:
        return function(arguments[0], **{KEYWORDS[name]: arguments[1]})
    return function(*arguments)


def parts(value):
    return list(value) if isinstance(value, tuple | list) else [value]


def as_operand(value):
    """Arrays as ops, so that nothing is known but dtype and shape; plain arguments as they are."""
    return R.t(value, value.dtype) if isinstance(value, np.ndarray) and value.ndim else value


@pytest.mark.parametrize("family", CASES)
def test_as_numpy(evaluate, family):
    R.Graph()
    ours, wanted, labels = [], [], []
    plain = ("insert", "delete", "repeat")  # their positions decide a shape
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, *given in CASES[family]:
            arguments = [a for a in given if a is not None or name not in ("cov", "corrcoef", "nan_to_num")]
            if name == "nan_to_num" and len(arguments) > 1:
                arguments.pop(1)
            operands = arguments if name in plain else [as_operand(a) for a in arguments]
            made = parts(called(getattr(R, name), name, operands))
            expected = parts(called(NUMPYS.get(name) or getattr(np, name), name, arguments))
            assert len(made) == len(expected), name
            ours += made
            wanted += [np.asarray(value) for value in expected]
            labels += [(name, *given)] * len(made)
        got = evaluate(*ours, engines=("onnxruntime",))
    for value, expected, label in zip(got, wanted, labels, strict=True):
        assert value.shape == expected.shape, label
        assert (value.dtype.kind == "f") == (expected.dtype.kind == "f"), (label, value.dtype, expected.dtype)
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=3e-6, err_msg=str(label))
