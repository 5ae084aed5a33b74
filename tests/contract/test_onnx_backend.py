"""ONNX's own backend node tests, through `R.import_onnx` and what a provider computes with; see `support/backend.py`."""

from __future__ import annotations

import json
from importlib.metadata import version

import backend
import pytest

from docs.generate import __main__ as generate

TOLD = json.loads(backend.TABLE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found() -> dict[str, backend.Outcome]:
    return backend.outcomes()


def test_all_cases_pass_but_those_that_are_listed_with_a_reason(found: dict[str, backend.Outcome]) -> None:
    """Also the other way round: a listed case that passes must leave the list."""
    listed = {name: reason for reason, names in TOLD["refused"].items() for name in names}
    for name, outcome in found.items():
        assert outcome.reason == listed.get(name, backend.PASSED), f"{name}: {outcome}"
    assert listed.keys() <= found.keys()


def test_at_least_the_promised_share_of_the_standard_domain_passes(found: dict[str, backend.Outcome]) -> None:
    passed = sum(outcome.reason == backend.PASSED for outcome in found.values())
    assert passed >= 0.95 * len(found)


def test_what_the_documentation_tells_is_what_was_run(found: dict[str, backend.Outcome]) -> None:
    if (TOLD["onnx"], TOLD["onnxruntime"]) == (version("onnx"), version("onnxruntime")):
        assert backend.table(found) == TOLD


def test_most_cases_are_computed_by_the_engine_and_not_at_the_import(
    found: dict[str, backend.Outcome],
) -> None:
    engines = [outcome.engine for outcome in found.values()]
    assert engines.count("onnxruntime") > 0.85 * len(engines)


def test_the_page_is_up_to_date() -> None:
    text = (generate.FOLDER / "onnx.md").read_text(encoding="utf-8")
    assert text == generate.text_of("onnx.md"), "run python -m docs.generate"
