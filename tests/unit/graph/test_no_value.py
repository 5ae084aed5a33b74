"""An op has no value while the script runs, and says so to whoever asks for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ravop as R
from ravop.errors import ArgumentError, DTypeError


@pytest.mark.parametrize("ask", [np.array, np.asarray, float, int, lambda op: np.array([op, op])])
def test_asking_an_op_for_its_value_is_told(ask: Callable[[Any], Any]) -> None:
    R.Graph()
    with pytest.raises(DTypeError, match=r"no value: nothing is computed(?s:.*)test_no_value\.py"):
        ask(R.t([1.0]))


def test_assigning_to_elements_is_told_the_operator_for_it() -> None:
    R.Graph()
    op = R.t([1.0, 2.0])
    with pytest.raises(ArgumentError, match=r"x\.set_value(?s:.*)") as caught:
        op[0] = 3.0
    assert "test_no_value.py" in str(caught.value)


def test_a_graph_shows_its_name_id_and_state() -> None:
    graph = R.Graph(name="line")
    assert repr(graph) == f"<Graph 'line' ({graph.id}), defining>"


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda op: np.sin(op), "use ravop.sin"),
        (lambda op: np.mean(op, axis=0), "use ravop.mean"),
        (lambda op: np.concatenate([op, op]), "did you mean ravop.concat"),
        (lambda op: np.add.reduce(op), "numpy.add takes arrays"),
    ],
)
def test_numpys_functions_are_told_apart_from_ravops(call: Callable[[Any], Any], hint: str) -> None:
    R.Graph()
    with pytest.raises(DTypeError, match=hint):
        call(R.t([1.0]))


def test_arrays_and_scalars_of_numpy_meet_ops_in_pythons_operators() -> None:
    R.Graph()
    op = R.t([2.0, 3.0])
    array = np.array([5.0, 7.0], np.float32)
    made = {
        "sub": array - op, "div": array / op, "mod": array % op, "pow": np.float64(2) ** op, "less": array < op,
        "matmul": array @ op, "and": np.array([True, False]) & (op > 0),
    }  # fmt: skip
    for name, result in made.items():
        result.persist_op(name=name)
    there = np.array([2.0, 3.0], np.float32)
    expected = {
        "sub": array - there, "div": array / there, "mod": array % there, "pow": np.float32(2) ** there,
        "less": array < there, "matmul": array @ there, "and": np.array([True, False]),
    }  # fmt: skip
    results = R.run_local()
    for name, value in expected.items():
        assert results[name].dtype == value.dtype, name
        np.testing.assert_allclose(results[name], value, rtol=1e-6)
    assert (np.shape(op), np.ndim(op)) == ((2,), 1)


def test_names_that_are_none_are_told_what_is_like_them() -> None:
    R.Graph()
    with pytest.raises(AttributeError, match="did you mean sigmoid"):
        _ = R.sigmiod
    with pytest.raises(AttributeError, match="did you mean persist_op"):
        R.t([1.0]).persistop(name="x")


def test_text_that_is_no_tensor_is_told_what_t_takes() -> None:
    R.Graph()
    with pytest.raises(DTypeError, match=r"(?s)ravop\.t makes a tensor.*nested\) lists.*'abc'"):
        R.t("abc")
