"""The user's line, as errors tell it."""

from __future__ import annotations

from pathlib import Path

from ravop.graph.source import MAX_CODE, describe


def test_a_long_line_of_code_is_cut(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("a = 1\nb = [" + "1, " * 500 + "]\n")
    assert describe((str(script), 1)) == f"{tmp_path.name}/script.py:1: a = 1"
    code = describe((str(script), 2)).split(":2: ")[1]
    assert code.startswith("b = [1, 1, ")
    assert code.endswith("…")
    assert len(code) == MAX_CODE
