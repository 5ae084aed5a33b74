"""The examples in the docstrings of the operators: reading them, and computing what they give, all in one graph.

An example is one expression of ops, and under it what it gives, as nested lists rounded to four digits:

    Example:
        >>> R.cumsum([1, 2, 3])
        [1, 3, 6]
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

import ravop as R
from ravop.protocol.tensors import Array

DIGITS = 4
_HEAD, _PROMPT, _MORE = "Example:", ">>> ", "... "


class Example(NamedTuple):
    code: str
    result: str
    """As the docstring has it."""


def examples_of(function: Callable[..., Any]) -> list[Example]:
    """What stands in the `Example:` section of its docstring."""
    _, _, section = (inspect.getdoc(function) or "").partition(_HEAD)
    found: list[Example] = []
    code: list[str] = []
    result: list[str] = []
    for line in [*map(str.strip, section.splitlines()), _PROMPT]:
        if line.startswith(_MORE.strip()) and code and not result:
            code.append(line.removeprefix(_MORE))
        elif line.startswith(_PROMPT.strip()):
            if code:
                found.append(Example(" ".join(code), " ".join(result)))
            code, result = [line.removeprefix(_PROMPT)], []
        elif line and code:
            result.append(line)
    return found


def value_of(code: str, **names: Any) -> Any:
    """What an expression makes, in the current graph; random ops draw as the first of a graph would. `names` are further
    ones that it may use.
    """
    R.t(0).graph.draws = 0
    return eval(code, {"R": R, "np": np, **names})  # noqa: S307 - the text is this repository's own


def results_of(codes: Iterable[str]) -> dict[str, str]:
    """What each example gives, computed in one graph, as the docstrings write it."""
    R.Graph(name="examples")
    names: dict[str, Any] = {}
    for number, code in enumerate(dict.fromkeys(codes)):
        names[code] = _persisted(value_of(code), f"example{number}")
    if not names:
        return {}
    values = R.run_local()
    return {code: text(_filled(tree, values)) for code, tree in names.items()}


def _persisted(made: Any, name: str) -> Any:
    """The ops in `made` replaced by the names that their values are kept under."""
    if isinstance(made, R.Op):
        made.persist_op(name)
        return name
    return tuple(_persisted(part, f"{name}_{number}") for number, part in enumerate(made))


def _filled(names: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(names, tuple):
        return tuple(_filled(name, values) for name in names)
    return np.asarray(values[names])


def text(value: Array | tuple[Any, ...]) -> str:
    """Nested lists of an array's elements, rounded; a tuple of them for a tuple."""
    if isinstance(value, tuple):
        return f"({', '.join(text(part) for part in value)}{',' if len(value) == 1 else ''})"
    if value.dtype.kind not in "biu":
        value = np.round(value.astype(np.float64), DIGITS) + 0.0  # no minus before a zero
    return str(value.tolist())
