"""Whatever an operator is given, it makes ops or raises a typed error that names the user's line; and so do graph,
loops and names.
"""

import linecache

import numpy as np
import pytest

import ravop as R
import ravop.ops as operators
from ravop.errors import (
    ArgumentError,
    DTypeError,
    DuplicateNameError,
    GradientError,
    GraphStateError,
    RavenError,
    ShapeError,
)
from ravop.graph import GraphState

THIS = "ops/test_bad_input_ops.py:"
RUBBISH = {
    "text": "abc", "nothing": None, "object": object(), "too large": 10**30, "nan": float("nan"), "ragged": [[1, 2], [3]],
    "dict": {"a": 1}, "other shape": np.zeros((5, 7, 1, 3), np.float32), "empty": [], "complex": 1j,
}  # fmt: skip


def is_signature(error):
    """Whether Python itself refused the call, for too few or too many arguments."""
    return isinstance(error, TypeError) and "argument" in str(error) and not isinstance(error, RavenError)


@pytest.mark.parametrize("kind", RUBBISH)
def test_no_operator_breaks_on_rubbish(kind):
    """Every operator with one, two and three arguments of which some are no fit."""
    found = []
    for name in operators.__all__:
        R.Graph()
        x, value = R.t(np.ones((2, 3), np.float32)), RUBBISH[kind]
        for arguments in ((value,), (value, value), (x, value), (x, 0, value)):
            try:
                getattr(R, name)(*arguments)
            except RavenError as error:
                if not (error.problem.source.startswith(THIS) and error.problem.op and error.problem.message):
                    found.append((name, arguments, error))
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, Warning) as error:
                if not is_signature(error):
                    found.append((name, arguments, error))
    assert not found


def test_what_an_operator_stumbles_over_is_told_with_what_it_takes():
    R.Graph()
    x = R.t(np.ones((2, 3), np.float32))
    with pytest.raises(DTypeError) as caught:
        R.dropout(x, x, p="half")
    problem = caught.value.problem
    assert "dropout(x: " in problem.expected
    assert "p: 'float'" in problem.expected
    assert "p='half'" in problem.received
    assert problem.hint
    assert problem.source.endswith('R.dropout(x, x, p="half")')
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(TypeError, match="missing"):
        R.add(x)


MISMATCHES = {
    "add": (lambda x: x + np.ones((4, 5)), ShapeError, "broadcast", "float32[2, 3], float32[4, 5]"),
    "matmul": (lambda x: x @ np.ones((4, 5)), ShapeError, "columns", "float32[2, 3], float32[4, 5]"),
    "matmul of a vector": (lambda x: x @ np.ones(4), ShapeError, "columns", "float32[2, 3], float32[4]"),
    "concat": (
        lambda x: R.concat(x, np.ones((3, 4))),
        ShapeError,
        "axis of joining",
        "float32[2, 3], float32[3, 4]",
    ),
    "where": (lambda x: R.where(x > 0, x, np.ones((7, 1, 4))), ShapeError, "broadcast", "[7, 1, 4]"),
    "reshape": (lambda x: x.reshape(4, 2), ShapeError, "6 elements", "[4, 2]"),
    "dtype": (lambda x: x.astype("complex64"), DTypeError, "float32", "complex64"),
    "text": (lambda x: x + "a", DTypeError, "float32", "str"),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_a_mismatch_tells_expected_received_and_line(case):
    make, kind, expected, received = MISMATCHES[case]
    R.Graph()
    x = R.t(np.ones((2, 3), np.float32))
    with pytest.raises(kind) as caught:
        make(x)
    problem = caught.value.problem
    assert expected in problem.expected
    assert received in problem.received
    file, line, code = problem.source.split(":", 2)
    assert f"{file}:" == THIS
    assert linecache.getline(__file__, int(line)).strip() == code.strip()


@pytest.mark.parametrize(
    "arguments",
    [{"name": 3}, {"name": None}, {"algorithm": 1}, {"approach": "magic"}, {"seed": "a"}, {"seed": 1.5}, {"seed": None},
     {"rules": {"unit_seconds": [1]}}, {"rules": {1: 1}}],
    ids=str,
)  # fmt: skip
def test_a_graph_refuses_what_it_could_not_send(arguments):
    before = R.Graph()
    with pytest.raises(ArgumentError) as caught:
        R.Graph(**arguments)
    assert caught.value.problem.expected
    assert caught.value.problem.source.startswith(THIS)
    assert R.t(1.0).graph is before


def test_no_gradient_of_what_is_no_op_and_no_ranks_or_sizes_beyond_all_bounds():
    R.Graph()
    x = R.t(np.ones((2, 3), np.float32))
    for wrong in (None, 3, "x", [None]):
        with pytest.raises(GradientError, match="only ops"):
            R.grad(R.sum(x), wrong)
    for make in (lambda: R.repeat(x, 2**62), lambda: R.broadcast_arrays(np.ones((1,) * 40), x)):
        with pytest.raises(RavenError) as caught:
            make()
        assert caught.value.problem.source.startswith(THIS)


def test_any_whole_number_is_a_seed():
    draws = []
    for seed in (7, np.int64(7), -1, 2**70):
        graph = R.Graph(seed=seed)
        R.random_uniform(size=3).persist_op("x")
        assert type(graph.seed) is int
        draws.append(R.run_local()["x"])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize("name", [3, None, b"x", "n" * 401])
def test_names_that_cannot_be_sent_are_refused_where_they_are_given(name):
    R.Graph()
    with pytest.raises(ArgumentError, match=r"name of a persisted op[\s\S]*test_bad_input_ops.py"):
        R.t(1.0).persist_op(name)


def test_a_name_in_use_is_told_with_line_and_way_out():
    R.Graph()
    x = R.t([1.0]).persist_op("x")
    for again in (
        lambda: (x + 1).persist_op("x"),
        lambda: x.persist_op("x"),
        lambda: R.stack(x, x).persist_each("x"),
    ):
        with pytest.raises(DuplicateNameError) as caught:
            again()
        assert caught.value.problem.source.startswith(THIS)
        assert caught.value.problem.hint


def test_what_is_added_after_activation_tells_the_line():
    graph = R.Graph(name="mine")
    x = R.t(1.0)
    graph.state = GraphState.ACTIVE
    for add in (
        lambda: x + 1,
        lambda: R.t(5.0),
        lambda: x.persist_op("x"),
        lambda: R.scan(lambda c, _: (c, c), x, length=2),
    ):
        with pytest.raises(GraphStateError) as caught:
            add()
        problem = caught.value.problem
        assert problem.source.startswith(THIS)
        assert "'mine'" in problem.received
        assert "ravop.Graph" in problem.hint


LOOPS = {
    "length of text": lambda x: R.scan(lambda c, _: (c, c), x, length="3"),
    "length of fractions": lambda x: R.scan(lambda c, _: (c, c), x, length=2.5),
    "length of none": lambda x: R.scan(lambda c, _: (c, c), x, length=0),
    "no length": lambda x: R.scan(lambda c, _: (c, c), x),
    "body": lambda x: R.scan(3, x, length=2),
    "no pair": lambda x: R.scan(lambda c, _: c, x, length=2),
    "xs without axis": lambda x: R.scan(lambda c, _: (c, c), x, R.t(1.0)),
    "xs of different lengths": lambda x: R.scan(lambda c, _: (c, c), x, [np.ones(2), np.ones(3)]),
    "carry of another shape": lambda x: R.scan(lambda c, _: (R.stack(c, c), c), x, length=2),
    "carry of another dtype": lambda x: R.scan(lambda c, _: (c > 0, c), x, length=2),
    "carry of another form": lambda x: R.scan(lambda c, _: ((c, c), c), x, length=2),
    "carry of text": lambda x: R.scan(lambda c, _: (c, c), "a", length=2),
}


@pytest.mark.parametrize("case", LOOPS)
def test_loops_that_cannot_be(case):
    R.Graph()
    with pytest.raises((ArgumentError, ShapeError, DTypeError)) as caught:
        LOOPS[case](R.t([1.0, 2.0]))
    assert caught.value.problem.expected
    assert caught.value.problem.received
    assert caught.value.problem.source.startswith(THIS)
