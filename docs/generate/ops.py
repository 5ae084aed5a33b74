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

*gradient: yes* means that `R.grad` flows through the operator to a tensor of its example; where none can, it is said why.
"""


class Entry(NamedTuple):
    name: str
    function: Callable[..., Any]
    others: tuple[str, ...]
    """Other names of the same operator."""
    method: bool
    examples: tuple[Example, ...]


_OTHERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (R.scan, R.while_loop, R.fori_loop, R.map, R.cond, R.function, R.grad)
}
"""What is no operator of its own: it takes functions of ops, or differentiates."""


def entries() -> list[Entry]:
    """Every operator once, in the order of families and names."""
    found: dict[Callable[..., Any], list[str]] = {}
    for name, function in [*CATALOGUE.items(), *CREATORS.items(), *_OTHERS.items()]:
        names = found.setdefault(function, [])
        if name not in names:
            names.append(name)
    made = []
    for function, names in found.items():
        own = function.__name__
        made.append(
            Entry(
                own,
                function,
                tuple(sorted(n for n in names if n != own)),
                any(n in CATALOGUE for n in names),
                tuple(examples_of(function)),
            )
        )
    return sorted(made, key=lambda entry: (entry.function.__module__, entry.name))


def gradient(entry: Entry) -> str:
    """Whether a gradient flows from what an example gives to a tensor in it, and if none does, why."""
    flowing = [_flows(x, output) for x, made in _differentiable(entry) for output in _ops(made)]
    if any(flowing):
        return "yes"
    if entry.name in _BY_REASON:
        return f"no ({_BY_REASON[entry.name]})"
    if not entry.method:
        return "no (made of no tensor)"
    R.Graph()
    outputs = [op for example in entry.examples for op in _ops(value_of(example.code))]
    return "no (its slope is 0)" if any(is_float(op.dtype) for op in outputs) else "no (gives no floats)"


_SEARCH = "found by a loop of as many steps as it takes: see `while_loop`"
_CLASSES = "gives classes"
_BY_REASON = {
    "kmeans": _SEARCH,
    "logistic_regression": _CLASSES,
    "one_hot": "takes integers",
    "stop_gradient": "its purpose",
    "svm_svc": _CLASSES,
    "svm_svr": _SEARCH,
    "unique": "nor has it in PyTorch",
}
"""Why there is none, where the example does not tell."""


def _differentiable(entry: Entry) -> Iterator[tuple[R.Op, Any]]:
    """Each argument of the operator in its examples, and each tensor named there, as a float op, with what is made of it."""
    for example in entry.examples:
        for number in range(len(_places(entry.name, example.code))):
            call, place = _places(entry.name, example.code)[number]
            value = ast.unparse(place.value if isinstance(place, ast.NamedExpr) else place)
            R.Graph()
            try:
                x = R.t(value_of(value), "float32")
                yield x, value_of(ast.unparse(_Replaced(place).visit(call)), x=x)
            except (NameError, RavenError, TypeError, ValueError):
                continue  # this argument is no tensor, or must be one of integers


def _places(name: str, code: str) -> list[tuple[ast.Call, ast.expr]]:
    """The calls of operator `name`, or of what it gives, and each argument there."""
    found: list[tuple[ast.Call, ast.expr]] = []
    for node in ast.walk(ast.parse(code, mode="eval")):
        if isinstance(node, ast.Call):
            function = node.func.func if isinstance(node.func, ast.Call) else node.func
            if isinstance(function, ast.Attribute) and function.attr == name:
                named = [inner for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr)]
                values = [*node.args, *(keyword.value for keyword in node.keywords), *named]
                found += [(node, value) for value in values]
    return found


class _Replaced(ast.NodeTransformer):
    """x in place of one expression."""

    def __init__(self, place: ast.expr) -> None:
        self.place = place

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.Name("x") if node is self.place else self.generic_visit(node)


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
    results = results_of(example.code for entry in made for example in entry.examples)
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
    facts = [f"gradient: {gradient(entry)}"]
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
    if entry.examples:
        shown = [f">>> {example.code}\n{results[example.code]}" for example in entry.examples]
        lines += ["```pycon", *shown, "```", ""]
    return "\n".join(lines)


def _signature(function: Callable[..., Any]) -> str:
    """The parameters with their defaults, without types."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>|dtype\('(\w+)'\)", lambda m: m[1] or m[2], text)


def _first_paragraph(doc: str) -> str:
    return " ".join(inspect.cleandoc(doc).split("\n\n")[0].split())
