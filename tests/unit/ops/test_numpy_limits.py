"""What stops programs or leaves numbers' range: integer divisors 0 and −1, NaNs in an order, infinities, gradients where a
spread is 0, booleans that are subtracted. Against NumPy and PyTorch.
"""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import ravop as R
from ravop.errors import ArgumentError, DTypeError

INTEGERS = ["int8", "uint8", "int16", "int32", "int64", "uint64"]
DIVISIONS = ["floor_divide", "mod", "fmod", "remainder", "divmod"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_integers_are_divided_by_anything_as_numpy():
    graph = R.Graph()
    wanted = {}
    for dtype in INTEGERS:
        limits = np.iinfo(dtype)
        x = np.array([limits.min, limits.max, 7, 0, 5, limits.min], dtype)
        y = np.array([limits.max if limits.min == 0 else -1, 0, 0, 0, 3, 3], dtype)
        computed = graph.placeholder(y.dtype, y.shape)
        graph.inputs[computed.name] = y
        for name in DIVISIONS:
            for form, divisor in (("known", R.t(y, dtype)), ("computed", computed), ("zero", 0)):
                made, expected = (
                    getattr(R, name)(R.t(x, dtype), divisor),
                    getattr(np, name)(x, 0 if form == "zero" else y),
                )
                pairs = [(made, expected)] if isinstance(made, R.Op) else zip(made, expected, strict=True)
                for part, (op, value) in enumerate(pairs):
                    label = f"{name}_{dtype}_{form}_{part}"
                    graph.apply("Identity", [op])[0].persist_op(label)
                    wanted[label] = value
    results = R.run_local()
    for label, value in wanted.items():
        np.testing.assert_array_equal(results[label], value, err_msg=label)
        assert results[label].dtype == value.dtype, label


def test_a_divisor_that_is_known_and_harmless_costs_nothing():
    graph = R.Graph()
    R.t([7, 8]) // 2 + R.t([7, 8]) % R.t([2, 3])
    assert "Where" not in {node.op_type for node in graph.main.ir}


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint8"])
def test_imported_models_divide_integers_by_anything(dtype):
    limits = np.iinfo(dtype)
    x, y = (
        np.array([limits.min, 7, -7 % 256, 9], dtype),
        np.array([-1 % 256 if not limits.min else -1, 0, 3, 2], dtype),
    )
    of = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Div", ["x", "y"], ["a"]), helper.make_node("Mod", ["x", "y"], ["b"]),
        helper.make_node("Mod", ["x", "y"], ["c"], fmod=1), helper.make_node("Div", ["x", "k"], ["d"]),
    ]  # fmt: skip
    known = helper.make_tensor("k", of, [4], y)
    ports = [helper.make_tensor_value_info(n, of, [4]) for n in "xyabcd"]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ports[:2], ports[2:], [known]),
        opset_imports=[helper.make_opsetid("", 21)],
    )
    onnx.checker.check_model(model)
    assert of != TensorProto.UNDEFINED
    graph = R.Graph()
    inputs = [graph.placeholder(v.dtype, v.shape) for v in (x, y)]
    graph.inputs.update({op.name: v for op, v in zip(inputs, (x, y), strict=True)})
    for name, op in zip("abcd", R.import_onnx(model, *inputs), strict=True):
        op.persist_op(name)
    results = R.run_local()
    np.testing.assert_array_equal(results["a"], results["d"])
    np.testing.assert_array_equal(results["a"][2:], (x[2:].astype(float) / y[2:]).astype(int))
    np.testing.assert_array_equal(results["b"][2:], np.mod(x, [1, 1, *y[2:]])[2:])
    np.testing.assert_array_equal(results["c"][2:], np.fmod(x, [1, 1, *y[2:]])[2:])


def test_what_integers_and_booleans_have_not_is_told():
    R.Graph()
    for wrong in (lambda: R.t([2, 3]) ** -1, lambda: R.t([2, 3]) ** R.t([1, -2]), lambda: 2 ** R.t([-1])):
        with pytest.raises(ArgumentError, match=r"test_numpy_limits\.py"):
            wrong()
    with pytest.raises(DTypeError, match="logical_xor"):
        R.t([True, False]) - R.t([True, True])


def test_gradients_at_a_spread_of_zero_are_pytorchs():
    forms = {
        "norm": (R.norm, torch.linalg.norm),
        "fro": (lambda x: R.norm(x, "fro"), lambda x: torch.linalg.matrix_norm(x, "fro")),
        "std": (R.std, lambda x: torch.std(x, correction=0)),
        "std1": (lambda x: R.sum(R.std(x, 1, ddof=1)), lambda x: torch.std(x, 1).sum()),
        "nanstd": (R.nanstd, lambda x: torch.std(x, correction=0)),
    }
    at = {
        "zero": np.zeros((2, 3), np.float32),
        "constant": np.full((2, 3), 2.5, np.float32),
        "any": np.array([[1, -2, 3], [0, 0.5, 4]], np.float32),
    }
    R.Graph()
    wanted = {}
    for name, (ours, theirs) in forms.items():
        for place, value in at.items():
            x, y = R.t(value), torch.tensor(value, requires_grad=True)
            loss, other = ours(x), theirs(y)
            other.backward()
            loss.persist_op(f"{name}_{place}")
            R.grad(loss, [x])[0].persist_op(f"{name}_{place}_grad")
            wanted |= {f"{name}_{place}": other.detach().numpy(), f"{name}_{place}_grad": y.grad.numpy()}
    results = R.run_local()
    for label, value in wanted.items():
        np.testing.assert_allclose(results[label], value, rtol=1e-5, atol=1e-6, err_msg=label)


def test_nans_in_an_order_are_as_numpys(evaluate):
    x = np.array([np.inf, np.nan, 1, -0.0, np.nan, 0, -np.inf, 1])
    edges, wanted = np.array([1, 2, np.inf, np.nan]), np.array([np.nan, np.inf, 1.5, -np.inf])
    R.Graph()
    made, expected = [], []
    for dtype in ("float16", "float32", "float64"):
        made += R.unique(R.t(x.astype(dtype), dtype).reshape((2, 4)), True, True, True)
        expected += np.unique(x.astype(dtype).reshape(2, 4), True, True, True)
    made.append(R.unique(R.t(np.zeros(0, np.float32))) + 0)
    expected.append(np.zeros(0, np.float32))
    for side in ("left", "right"):
        made.append(R.searchsorted(edges, R.t(wanted), side))
        expected.append(np.searchsorted(edges, wanted, side))
        for bins in (edges[:3], edges[2::-1].copy()):
            made.append(R.digitize(R.t(wanted), bins, side == "left") + 0)
            expected.append(np.digitize(wanted, bins, side == "left"))
    for value, right in zip(evaluate(*made, engines=("onnxruntime",)), expected, strict=True):
        np.testing.assert_array_equal(value, right)


def test_inverse_hyperbolic_functions_far_out():
    x = np.array([np.inf, -np.inf, 1e300, -1e300, 1e20, 3e9, 1e9, 1e3, 0.5, -1e-9, 0.0])
    graph = R.Graph()
    wanted = {}
    for dtype in ("float32", "float64"):
        values = x.astype(dtype) if dtype == "float64" else np.clip(x, -1e30, 1e30).astype(dtype)
        for name, low in (("arcsinh", -np.inf), ("arccosh", 2)):
            part = values[(values > low) & (values < np.inf)] if low > 0 else values
            given = graph.tensor(part, dtype)
            op = graph.apply("Identity", [given])[0]
            made = getattr(R, name)(op)
            other = torch.tensor(part, requires_grad=True)
            getattr(torch, name)(other.clone()).sum().backward()
            made.persist_op(f"{name}_{dtype}")
            R.grad(R.sum(made), [op])[0].persist_op(f"{name}_{dtype}_grad")
            wide = part.astype("float64")
            exact = (
                1 / np.hypot(wide, 1) if name == "arcsinh" else 1 / (np.sqrt(wide - 1) * np.sqrt(wide + 1))
            )
            wanted |= {f"{name}_{dtype}": getattr(np, name)(part), f"{name}_{dtype}_grad": exact}
    results = R.run_local()
    for label, value in wanted.items():
        np.testing.assert_allclose(results[label], value, rtol=1e-6, atol=0, err_msg=label)
