"""`docs/ops.md`: every operator, by family: signature, meaning, other names, whether it has a gradient, and an example."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ravop as R
from docs.generate.examples import Example, examples_of, results_of, value_of
from ravop.autodiff.sweep import sweep
from ravop.errors import RavenError
from ravop.graph.dtypes import is_float
from ravop.graph.op import CATALOGUE
from ravop.ops.catalogue import CREATORS

HEAD = """\
# Operators

Made by `python -m docs.generate` from the operator catalogue: do not edit.

`import ravop as R`. Each operator is a function `R.name(...)`, and unless it is said otherwise a method of every op too:
`R.sum(x, axis=0)` is `x.sum(axis=0)`. Operands are ops, NumPy arrays, nested lists or numbers. The meaning is NumPy's:
shapes broadcast, negative axes count from the end, dtypes are promoted as in NumPy 2, with one exception: an integer that
meets float32 gives float32, and Python's floats make float32, so that float32 stays the default. Nothing is computed
while the script runs; what the examples show is there once the graph was computed.
"""


class Entry(NamedTuple):
    name: str
    function: Callable[..., Any]
    others: tuple[str, ...]
    """Other names of the same operator."""
    method: bool
    example: Example | None


_CONTROL: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (R.scan, R.while_loop, R.fori_loop, R.map, R.cond, R.function)
}
"""What takes functions of ops."""


def entries() -> list[Entry]:
    """Every operator once, in the order of families and names."""
    found: dict[Callable[..., Any], list[str]] = {}
    for name, function in [*CATALOGUE.items(), *CREATORS.items(), *_CONTROL.items()]:
        names = found.setdefault(function, [])
        if name not in names:
            names.append(name)
    made = []
    for function, names in found.items():
        own = function.__name__
        example = next(iter(examples_of(function)), None)
        made.append(
            Entry(
                own,
                function,
                tuple(sorted(n for n in names if n != own)),
                any(n in CATALOGUE for n in names),
                example,
            )
        )
    return sorted(made, key=lambda entry: (entry.function.__module__, entry.name))


def has_gradient(entry: Entry) -> bool:
    """Whether a gradient flows from what the example gives to its first operand that can be a float."""
    if entry.example is None:
        return False
    call = next(_calls(entry), None)
    if call is None:
        return False
    for place in range(len(call.args)):
        R.Graph()
        try:
            x = R.t(value_of(ast.unparse(call.args[place])), "float32")
            if any(_flows(x, output) for output in _ops(_called(call, place, x))):
                return True
        except (RavenError, TypeError, ValueError):
            continue  # this argument is no tensor, or must be one of integers
    return False


def _called(call: ast.Call, place: int, x: R.Op) -> Any:
    """What the call gives when its argument at `place` is x."""
    arguments = [ast.unparse(argument) for argument in (*call.args, *call.keywords)]
    arguments[place] = "x"
    return value_of(f"{ast.unparse(call.func)}({', '.join(arguments)})", x=x)


def _calls(entry: Entry) -> Iterator[ast.Call]:
    """The calls of the operator by its function in its example."""
    assert entry.example is not None
    for node in ast.walk(ast.parse(entry.example.code, mode="eval")):
        if not isinstance(node, ast.Call):
            continue
        function = (
            node.func.func if isinstance(node.func, ast.Call) else node.func
        )  # or what it gives is called
        if isinstance(function, ast.Attribute) and function.attr == entry.name:
            yield node


def _ops(made: Any) -> list[R.Op]:
    if isinstance(made, R.Op):
        return [made]
    return [op for part in made for op in _ops(part)] if isinstance(made, tuple | list) else []


def _flows(x: R.Op, output: R.Op) -> bool:
    if not is_float(output.dtype):
        return False
    loss = output.sum()
    try:
        return sweep({loss: R.t(1, loss.dtype)}, [x])[0] is not None
    except RavenError:
        return False


def page() -> str:
    made = entries()
    results = results_of(entry.example.code for entry in made if entry.example)
    parts = [HEAD]
    family = ""
    for entry in made:
        if entry.function.__module__ != family:
            family = entry.function.__module__
            parts.append(_family(family))
        parts.append(_text(entry, results))
    return "\n".join(parts)


def _family(module: str) -> str:
    summary = _first_paragraph(sys.modules[module].__doc__ or "")
    name = module.removeprefix("ravop.").removeprefix("ops.").replace("_", " ").replace(".", ": ")
    return f"## {name.capitalize()}\n\n{summary}\n"


def _text(entry: Entry, results: dict[str, str]) -> str:
    signature = _signature(entry.function)
    facts = ["gradient: yes" if has_gradient(entry) else "gradient: no"]
    if entry.others:
        facts.append("also " + ", ".join(f"`{name}`" for name in entry.others))
    if not entry.method:
        facts.append("a function only")
    lines = [
        f"### {entry.name}",
        "",
        f"`R.{entry.name}{signature}` · {' · '.join(facts)}",
        "",
        _first_paragraph(inspect.getdoc(entry.function) or ""),
        "",
    ]
    if entry.example:
        lines += ["```pycon", f">>> {entry.example.code}", results[entry.example.code], "```", ""]
    return "\n".join(lines)


def _signature(function: Callable[..., Any]) -> str:
    """The parameters with their defaults, without types."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>|dtype\('(\w+)'\)", lambda m: m[1] or m[2], text)


def _first_paragraph(doc: str) -> str:
    return " ".join(inspect.cleandoc(doc).split("\n\n")[0].split())
