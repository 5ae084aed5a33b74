"""`docs/gradients.md`: for each operator of ONNX's standard domain, where its gradient comes from."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from onnx import defs

from ravop.autodiff.rules import CONSTANT, RULES, WITHOUT
from ravop.graph.bodies import has_body
from ravop.graph.infer import OPSET

HEAD = f"""\
# Gradients of ONNX operators

Made by `python -m docs.generate` from the table of rules: do not edit.

`R.grad(loss, ops)` differentiates graphs of the operators below, imported models among them. Graphs are written in opset
{OPSET}; newer operators of a model are written out at import. What each word means:

- **rule**: a rule of our own, written of operators, so that gradients can be differentiated again.
- **body**: ONNX defines the operator by others; the gradient is that of the definition.
- **constant**: the outputs do not change with small changes of the inputs, or are no floats: no gradient flows.
- **none**: asking for a gradient raises `GradientError`, which names the operator and the line that made it.
"""


class Row(NamedTuple):
    name: str
    kind: str
    note: str


def rows() -> list[Row]:
    """Every operator of the standard domain once, by name."""
    names = sorted({schema.name for schema in defs.get_all_schemas_with_history() if schema.domain == ""})
    return [Row(name, *_found(name)) for name in names]


def _found(name: str) -> tuple[str, str]:
    if name in RULES:
        return "rule", _told(RULES[name])
    if name in CONSTANT:
        return "constant", ""
    if defs.get_schema(name, "").deprecated:
        return "none", "deprecated: its successor takes its place at import"
    try:
        schema = defs.get_schema(name, OPSET, "")
    except defs.SchemaError:
        first = min(
            s.since_version for s in defs.get_all_schemas_with_history() if (s.domain, s.name) == ("", name)
        )
        if has_body(name, defs.onnx_opset_version()):
            return "body", f"since opset {first}, written out at import"
        return "none", f"since opset {first}, not in opset {OPSET}"
    if not any(map(_gives_floats, schema.outputs)):
        return "constant", "gives no floats" if _gives_tensors(schema) else "sequences are resolved at import"
    if name in WITHOUT:
        return "none", WITHOUT[name]
    if has_body(name):
        return "body", ""
    if any("seq(" in t or "optional(" in t for port in (*schema.inputs, *schema.outputs) for t in port.types):
        return "none", "sequences and optionals are resolved at import"
    return "none", "not written yet"


def _gives_floats(port: Any) -> bool:
    return any(text.startswith("tensor(") and ("float" in text or "double" in text) for text in port.types)


def _gives_tensors(schema: Any) -> bool:
    return any(text.startswith("tensor(") for port in schema.outputs for text in port.types)


def _told(function: Any) -> str:
    """The first sentence of a rule's docstring."""
    told = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    return told.replace("|", "\\|")


def _table(found: list[Row]) -> Iterator[str]:
    yield "| operator | gradient | how, or why not |"
    yield "|---|---|---|"
    for row in found:
        yield f"| {row.name} | {row.kind} | {row.note} |"


def page() -> str:
    """The whole page."""
    found = rows()
    counts = Counter(row.kind for row in found)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("rule", "body", "constant", "none"))
    return "\n".join([HEAD, f"Of {len(found)} operators: {told}.", "", *_table(found), ""])
