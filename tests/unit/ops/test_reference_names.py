"""What Raven's scripts call: every operator of the family by its name and parameters, as a function and as a method, against
NumPy; the losses against PyTorch; graphs and ops by what scripts ask of them.
"""

import numpy as np
import pytest
import torch

import ravop as R

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 4)).astype(np.float32)
B = RNG.normal(size=(3, 4)).astype(np.float32) + 2
POSITIVE = np.abs(A) + np.float32(0.1)
SQUARE = RNG.normal(size=(3, 3)).astype(np.float32)
V = np.array([3, 1, 2, 1], np.float32)
I = np.array([3, 1, 2, 1])  # noqa: E741
CUBE = RNG.normal(size=(2, 4, 6)).astype(np.float32)
IMAGES = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
PLACES = ([0, 2, 0], [1, 0, 1], [4, 2, 4])
PARTS = [RNG.normal(size=(n, 2)).astype(np.float32) for n in (3, 5, 9)]
MEANS, VARIANCES = ([getattr(np, name)(part, axis=0) for part in PARTS] for name in ("mean", "var"))

SAME = {
    "abs": "absolute", "add": "add", "argmax": "argmax", "argmin": "argmin", "average": "average",
    "cube_root": "cbrt", "div": "divide",
    "dot": "dot", "equal": "equal", "exp": "exp", "expand_dims": "expand_dims", "flatten": "ravel", "greater": "greater",
    "greater_equal": "greater_equal", "inv": "linalg.inv", "less": "less", "less_equal": "less_equal",
    "logical_and": "logical_and",
    "logical_not": "logical_not", "logical_or": "logical_or", "logical_xor": "logical_xor", "matmul": "matmul", "max": "max",
    "mean": "mean", "median": "median", "min": "min", "mul": "multiply", "multiply": "multiply", "natlog": "log",
    "neg": "negative",
    "not_equal": "not_equal", "pad": "pad", "percentile": "percentile", "pos": "positive", "pow": "power", "prod": "prod",
    "ravel": "ravel", "repeat": "repeat", "reshape": "reshape", "reverse": "flip", "sign": "sign", "size": "size", "sort": "sort",
    "split": "split", "square": "square", "square_root": "sqrt", "squeeze": "squeeze", "std": "std", "sub": "subtract",
    "sum": "sum",
    "tile": "tile", "transpose": "transpose", "unique": "unique", "variance": "var", "where": "where", "bincount": "bincount",
}  # fmt: skip
"""Our name → NumPy's, where both take the same."""

CALLS = [
    *[(name, (A, B), {}) for name in ("add", "sub", "mul", "multiply", "div", "greater", "greater_equal", "less", "less_equal")],
    *[(name, (A > 0, B > 2), {}) for name in ("logical_and", "logical_or", "logical_xor", "equal", "not_equal")],
    *[(name, (A,), {})
      for name in ("pos", "neg", "exp", "square", "cube_root", "abs", "sign", "logical_not", "ravel", "flatten", "size")],
    *[(name, (CUBE,), {"axis": axis, "keepdims": keepdims})
      for name in ("sum", "mean", "variance", "std", "max", "min", "prod", "average", "median")
      for axis, keepdims in ((None, False), (-1, True), ((0, 2), False))],
    *[(name, (CUBE,), {"axis": axis, "keepdims": True}) for name in ("argmax", "argmin") for axis in (None, -2)],
    *[("pad", (A,), {"pad_width": width, "mode": mode})
      for width in (1, ((0, 1), (2, 1))) for mode in ("constant", "edge", "reflect", "wrap")],
    ("natlog", (POSITIVE,), {}), ("square_root", (POSITIVE,), {}), ("pow", (POSITIVE, B), {}), ("matmul", (A, CUBE[0]), {}),
    ("dot", (A, V), {}), ("inv", (SQUARE,), {}), ("transpose", (CUBE,), {"axes": (1, 0, 2)}),
    ("average", (A,), {"axis": 1, "weights": V}), ("percentile", (A,), {"q": 30, "axis": 1}),
    ("reshape", (A,), {"shape": (4, -1)}), ("expand_dims", (A,), {"axis": -1}), ("squeeze", (A[:, :1],), {"axis": 1}),
    ("split", (A,), {"sections": 2, "axis": 1}), ("split", (A,), {"sections": [1, 3], "axis": -1}),
    ("tile", (A,), {"reps": (2, 1, 2)}), ("repeat", (A,), {"repeats": [1, 0, 2], "axis": 0}), ("unique", (I,), {}),
    ("sort", (A,), {"axis": 0}), ("reverse", (A,), {"axis": 1}), ("bincount", (I,), {"minlength": 6}),
    ("where", (A > 0, A, B), {}),
]  # fmt: skip
"""(name, arguments, parameters by name), as NumPy takes them too."""

SET, ADDED = A.copy(), np.zeros_like(IMAGES)
SET[1] = 7
np.add.at(ADDED, np.s_[:, *PLACES], 1)

OURS = [
    ("cube", (A,), {}, A**3), ("mode", (I,), {"axis": 0}, 1),
    ("clip", (A,), {"lower_limit": -0.5, "upper_limit": 0.5}, A.clip(-0.5, 0.5)),
    ("shape", (A,), {}, [3, 4]), ("gather", (A, [2, -1]), {"axis": 1}, A[:, [2, -1]]),
    ("slice", (A,), {"begin": [1, 0], "size": [2, 3]}, A[1:, :3]),
    ("index", (A, np.s_[1:, ::-2]), {}, A[1:, ::-2]), ("set_value", (A, 1, 7.0), {}, SET), ("find_indices", (I, 1), {}, [1, 3]),
    ("one_hot_encoding", (I,), {"depth": 4}, np.eye(4)[I]), ("foreach", (A,), {"operation": "sum"}, A.sum(1)),
    ("join_to_list", (V, A), {}, np.append(V, A)), ("combine_to_list", (A, B), {}, np.stack([A, B])),
    ("concat", (A, B), {"axis": 1}, np.hstack([A, B])), ("stack", (A, B), {"axis": -1}, np.stack([A, B], -1)),
    ("ravint", (A * 3,), {}, np.trunc(A * 3)), ("cnn_index", (IMAGES, *PLACES), {}, IMAGES[:, *PLACES]),
    ("cnn_index_2", (IMAGES, 1, 3, 0, 4), {}, IMAGES[:, :, 1:3, :4]),
    ("cnn_add_at", (np.zeros_like(IMAGES), np.ones((2, 3), np.float32), *PLACES), {}, ADDED),
    ("federated_mean", (np.array(MEANS),), {"counts": [3, 5, 9]}, np.concatenate(PARTS).mean(0)),
    ("federated_variance", (np.array(VARIANCES),), {"means": MEANS, "counts": [3, 5, 9]}, np.concatenate(PARTS).var(0)),
    ("federated_standard_deviation", (np.array(VARIANCES),), {"means": MEANS, "counts": [3, 5, 9]}, np.concatenate(PARTS).std(0)),
]  # fmt: skip
"""(name, arguments, parameters by name, what is to come out)."""


def by_numpy(name, arguments, parameters):
    module, _, function = SAME[name].rpartition(".")
    theirs = {"indices_or_sections" if key == "sections" else key: value for key, value in parameters.items()}
    return getattr(getattr(np, module) if module else np, function)(*arguments, **theirs)


def test_operators_take_what_scripts_give_them_and_give_what_numpy_gives():
    R.Graph(name="names")
    cases = [(n, a, k, by_numpy(n, a, k)) for n, a, k in CALLS] + OURS
    wanted = {}
    for number, (name, arguments, parameters, value) in enumerate(cases):
        made = {"function": getattr(R, name)(*arguments, **parameters)}
        if name != "shape":  # of an op, that is what it knows already
            made["method"] = getattr(R.t(arguments[0]), name)(*arguments[1:], **parameters)
        for form, outputs in made.items():
            several = isinstance(value, tuple | list) and isinstance(outputs, tuple)
            pairs = zip(outputs, value, strict=True) if several else [(outputs, value)]
            for part, (op, expected) in enumerate(pairs):
                label = f"{number} {name} {form} {part}"
                wanted[label] = expected
                op.persist_op(name=label)
    found = R.run_local()
    for label, value in wanted.items():
        np.testing.assert_allclose(found[label], value, rtol=1e-4, atol=1e-5, err_msg=label)
        assert np.shape(found[label]) == np.shape(value), label


def test_signs_are_operators(evaluate):
    R.Graph()
    a, m = R.t(A), R.t(SQUARE)
    ours = [1 - a, 2 * a, 1 / a, 2**a, A + a, A / a, SQUARE @ m, ~m, a > 0, a[1:, ::-1], abs(-a)]
    wanted = [
        1 - A,
        2 * A,
        1 / A,
        2**A,
        A + A,
        A / A,
        SQUARE @ SQUARE,
        np.linalg.inv(SQUARE),
        A > 0,
        A[1:, ::-1],
        abs(A),
    ]
    for value, expected in zip(evaluate(*ours, rtol=1e-4, atol=1e-5), wanted, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


def test_numbers_that_have_a_name(evaluate):
    R.Graph()
    made = [R.e(), R.pi(), R.inf(), R.nan(), R.one(), R.minus_one(), R.epsilon()]
    wanted = [np.e, np.pi, np.inf, np.nan, 1, -1, 1e-12]
    np.testing.assert_allclose(evaluate(*made), wanted, rtol=1e-6)
    assert [op.shape for op in made] == [()] * len(made)


def test_losses_and_their_gradients_are_those_of_pytorch(evaluate):
    logits, classes, weights = A * 9, np.array([3, 0, 1]), POSITIVE / POSITIVE.sum(1, keepdims=True)
    R.Graph()
    z, p = R.t(logits), R.t(POSITIVE)
    ours = [
        R.square_loss(B, z),
        R.cross_entropy_loss(classes, R.softmax(z)),
        R.cross_entropy_loss(weights, z.softmax()),
    ]
    ours.append(R.cross_entropy_loss(classes, p))  # which need not add up to 1
    slopes = [R.grad(loss, p if loss is ours[-1] else z) for loss in ours]
    tz, tp = (torch.tensor(x, requires_grad=True) for x in (logits, POSITIVE))
    functional, rows = torch.nn.functional, tp / tp.sum(1, keepdim=True)
    theirs = [
        functional.mse_loss(tz, torch.tensor(B)), functional.cross_entropy(tz, torch.tensor(classes)),
        functional.cross_entropy(tz, torch.tensor(weights)), functional.nll_loss(rows.log(), torch.tensor(classes)),
    ]  # fmt: skip
    wanted = [
        torch.autograd.grad(loss, tp if loss is theirs[-1] else tz, retain_graph=True)[0] for loss in theirs
    ]
    for found, value in zip(evaluate(*ours, *slopes, rtol=1e-4, atol=1e-5), [*theirs, *wanted], strict=True):
        np.testing.assert_allclose(found, value.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_losses_refuse_truths_of_another_shape():
    R.Graph()
    with pytest.raises(R.errors.ShapeError, match="element by element"):
        R.square_loss(A, A[:, :1])
    for truth in (A[:2], np.array([0.0, 1.0, 0.0]), 1):
        with pytest.raises(R.errors.ShapeError, match="do not fit the probabilities"):
            R.cross_entropy_loss(truth, POSITIVE)


def test_graphs_and_ops_tell_what_scripts_ask_them():
    graph = R.Graph(name="asked", algorithm="mean", approach="federated", rules={"age": 3})
    op = R.mean([[1.0, 2.0]], axis=0).persist_op(name="middle")
    assert op.get_dtype() == "float32"
    assert op.get_shape() == (2,)
    assert [found.name for found in graph.get_ops_by_name("middle")] == [op.name]
    assert op.name in [found.name for found in graph.get_ops_by_name("ReduceMean")]
    assert op.name in [found.name for found in graph.ops]
    assert [port.shape for port in R.read_model(graph.model()).outputs] == [(2,)]
    graph.end()
    with pytest.raises(R.errors.NoGraphError):
        R.t(1)
