"""Functions given to loops and branches that cannot be called as they will be, and names of other libraries, are told."""

import pytest

import ravop as R
from ravop.errors import ArgumentError, DTypeError


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: R.while_loop(lambda n, k: n < k, lambda n, k: (n + 1, k), (a, a)),
        lambda a: R.while_loop(lambda c: c[0] < 3, lambda n, k: (n + 1, k), (a, a)),
        lambda a: R.while_loop(lambda c: c < 3, lambda: a, a, max_iterations=3, differentiable=True),
        lambda a: R.cond(a > 0, lambda x: x, lambda: a, a),
        lambda a: R.map(lambda x, y: x + y, [1.0, 2.0]),
        lambda a: R.scan(lambda carry: (carry, carry), a, [1.0, 2.0]),
        lambda a: R.fori_loop(0, 3, lambda carry: carry, a),
        lambda a: R.fori_loop(3, 3, lambda carry: carry, a),
    ],
)
def test_functions_of_other_arguments_are_told_with_the_line(wrong):
    R.Graph()
    with pytest.raises(ArgumentError, match="one tree") as caught:
        wrong(R.t(1.0))
    problem = caught.value.problem
    assert "graph/test_called_functions.py:" in problem.source
    assert "<lambda>(" in problem.received
    assert problem.expected


def test_functions_with_more_and_builtin_ones_still_fit():
    R.Graph()
    made = R.map(max, [[1.0], [2.0]]), R.cond(R.t(1.0) > 0, lambda *xs: xs[0], lambda x, more=1: x, R.t(2.0))
    made[1].persist_op("chosen")
    assert R.run_local()["chosen"] == 2


def test_names_of_other_libraries_are_told():
    R.Graph()
    for name in ("array", "asarray", "tensor"):
        with pytest.raises(AttributeError, match=r"ravop\.t "):
            getattr(R, name)
    op = R.t(1.0) + 1
    for name in ("item", "numpy", "tolist"):
        with pytest.raises(AttributeError, match=r"ravop\.run_local\(\).*ravop\.fetch"):
            getattr(op, name)
    for convert in (float, int):
        with pytest.raises(DTypeError, match=r"ravop\.run_local\(\)"):
            convert(op)
