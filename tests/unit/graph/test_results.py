"""Names of persisted ops and of the elements of series."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravop.errors import UnknownNameError
from ravop.graph.manifest import Persisted
from ravop.graph.results import Results, match

LOSSES = Persisted(name="training_loss_epoch_{}_batch_{}", value="v1", axes=2, first=(1, 1))
WEIGHTS = Persisted(name="w", value="v2")
STEPS = Persisted(name="step.{}", value="v3", axes=1, first=(0,))
ALL = (LOSSES, WEIGHTS, STEPS)


def results():
    return Results(
        ALL, {"v1": np.arange(6.0).reshape(2, 3), "v2": np.ones((2, 2)), "v3": np.arange(8).reshape(4, 2)}
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("w", (WEIGHTS, ())), ("training_loss_epoch_1_batch_1", (LOSSES, (0, 0))),
        ("training_loss_epoch_12_batch_3", (LOSSES, (11, 2))),
        ("step.0", (STEPS, (0,))), ("step.{}", (STEPS, ())), ("training_loss_epoch_{}_batch_{}", (LOSSES, ())),
    ],
)  # fmt: skip
def test_match(name, expected):
    assert match(ALL, name) == expected


@pytest.mark.parametrize(
    "name",
    ["", "W", "training_loss_epoch_0_batch_1", "training_loss_epoch_1_batch_",
        "training_loss_epoch_01_batch_1", "stepx0", "step.-1",
     "step.1.5", "step.１", "step." + "9" * 5000, "training_loss_epoch_1_batch_1\n"],
)  # fmt: skip
def test_unknown_names(name):
    with pytest.raises(UnknownNameError):
        match(ALL, name)


def test_unknown_names_are_told_what_looks_alike():
    with pytest.raises(UnknownNameError, match=r"did you mean training_loss_epoch_\{\}_batch_\{\}\?"):
        match(ALL, "training_los_epoch_{}_batch_{}")
    with pytest.raises(UnknownNameError, match="nothing is persisted"):
        match((), "w")


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 5), st.integers(0, 5))
def test_names_and_indices_correspond(i, j, first_i, first_j):
    series = Persisted(name="a{}b{}", value="v", axes=2, first=(first_i, first_j))
    assert match((series,), f"a{i + first_i}b{j + first_j}") == (series, (i, j))


def test_a_name_of_its_own_goes_before_a_series():
    exact = Persisted(name="step.3", value="v9")
    assert match((STEPS, exact), "step.3") == (exact, ())


def test_results_are_a_mapping_of_every_element():
    found = results()
    assert len(found) == 6 + 1 + 4 == len(list(found))
    assert list(found)[:2] == ["training_loss_epoch_1_batch_1", "training_loss_epoch_1_batch_2"]
    assert found["training_loss_epoch_2_batch_3"] == 5
    assert isinstance(found["training_loss_epoch_2_batch_3"], np.ndarray)
    np.testing.assert_array_equal(found["step.2"], [4, 5])
    np.testing.assert_array_equal(found["step.{}"], np.arange(8).reshape(4, 2))
    assert "w" in found
    assert "other" not in found
    assert "other" not in dict(found)
    assert dict(found)["w"].shape == (2, 2)


@pytest.mark.parametrize("name", ["training_loss_epoch_3_batch_1", "training_loss_epoch_1_batch_4", "step.4"])
def test_elements_past_the_end(name):
    with pytest.raises(UnknownNameError, match="shorter"):
        results()[name]


def test_making_results_does_not_expand_a_series():
    million = Results((STEPS,), {"v3": np.zeros(10_000_000)})
    assert len(million) == 10_000_000
    assert next(iter(million)) == "step.0"


def test_unknown_names_are_told_the_nearest_first_and_what_libraries_keep_last():
    weights = [Persisted(name=f"Dense_{i}_W", value="v", inner=True) for i in range(20)]
    others = [Persisted(name=f"{letter * 9}", value="v") for letter in "abcdefgh"]
    with pytest.raises(UnknownNameError) as caught:
        match((*weights, *others, Persisted(name="prediction", value="v")), "predictoin")
    told = caught.value.problem.expected
    assert told.startswith("prediction, ")
    assert all(entry.name in told for entry in others)
    assert told.endswith("… and 19 more")
