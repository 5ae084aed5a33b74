"""The page of gradients says what the sweep does."""

from pathlib import Path

from onnx import defs

from docs.generate import gradients

PAGE = Path(gradients.__file__).parents[1] / "gradients.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8").rstrip() == gradients.page().rstrip(), (
        "run python -m docs.generate"
    )


def test_every_operator_is_listed_once_and_what_has_no_gradient_says_why():
    rows = gradients.rows()
    names = [row.name for row in rows]
    assert sorted(set(names)) == names
    assert set(names) == {s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}
    assert all(row.note for row in rows if row.kind == "none")
