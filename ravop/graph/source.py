"""The user's own source line, for errors: the innermost frame outside this project's packages."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path

from ravop.errors import RavenError

_ROOT = Path(__file__).resolve().parents[2]
_INTERNAL = tuple(str(_ROOT / name) + ("\\" if "\\" in str(_ROOT) else "/") for name in ("ravop", "ravdl"))

MAX_CODE = 120
"""Characters of a line of code that are told."""

Line = tuple[str, int]
"""File name and line number."""

_internal_files: dict[str, bool] = {}


def user_line() -> Line:
    """Where the user's script is now; `("", 0)` when only this project is on the stack."""
    frame = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        internal = _internal_files.get(filename)
        if internal is None:
            internal = _internal_files[filename] = filename.startswith(_INTERNAL) or filename.startswith(
                "<frozen "
            )
        if not internal:
            return filename, frame.f_lineno
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "", 0


def describe(line: Line) -> str:
    """`path:line: code`, with the path relative to the working directory's name where it lies below it."""
    filename, number = line
    if not filename:
        return ""
    code = linecache.getline(filename, number).strip()
    if len(code) > MAX_CODE:
        code = code[: MAX_CODE - 1] + "…"
    path = Path(filename)
    return (
        f"{path.parent.name}/{path.name}:{number}: {code}"
        if path.parent.name
        else f"{path.name}:{number}: {code}"
    )


def located(error: RavenError, op: str) -> RavenError:
    """The error with the user's present line and the operator's name, where it does not tell a line yet."""
    p = error.problem
    if p.source:
        return error
    return type(error)(
        p.message,
        expected=p.expected,
        received=p.received,
        hint=p.hint,
        op=p.op or op,
        source=describe(user_line()),
    )
