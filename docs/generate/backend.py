"""`docs/onnx.md`: what of ONNX is supported, from the tables of the code and from the run of ONNX's backend node tests that
`backend.json` keeps. `python tests/support/backend.py` writes that file anew, and a test compares it with a run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ravop.graph.dtypes import to_ir
from ravop.graph.infer import LATER, OPSET
from ravop.graph.limits import REFUSED
from ravop.importing.vet import OLDEST
from ravop.protocol.tensors import DTYPES, NARROW

TABLE = Path(__file__).with_name("backend.json")

_HEAD = """# ONNX models

Made by `python -m docs.generate` from the code and from a run of ONNX's own tests; do not edit.

`R.import_onnx` takes ONNX models of opsets {oldest} to {newest} and writes their nodes into the current graph, as standard
operators of opset {opset}. From there on they are ops like all others: split, computed by providers, differentiated, exported."""

_TESTS = """## ONNX's backend node tests

The `onnx` package {onnx} brings {all} small models with the results that they must give, {standard} of them of the standard
domain. Each of those is imported by `R.import_onnx`, checked as a provider checks what it is sent, and computed by what
a provider computes subgraphs with (onnxruntime {onnxruntime}). Values, dtypes and shapes are compared, with the test's
own tolerance, or what rounding in the dtype allows where that is more.

**{passed} of {standard} pass: {percent:.1f} %.**"""

_DRAWN = """Values that a random generator draws are others than in the test, on purpose: ravop's random operators give
the same values wherever they are computed. Of these cases dtype, shape and range are compared: {names}."""

_KNOWN = """Inputs are bound to the graph, so that the import does not know their values, unless it needs them, as shapes or
as the lengths of sequences:"""

_ENGINES = """### What computes them

ONNX Runtime computes a model wherever it has kernels for all of its nodes and their dtypes. Where it lacks one, ONNX's
reference evaluator computes that model instead: correct, but slow. Before that, kernels of wider dtypes are borrowed, where
nobody can tell by the results: those of float32 for bfloat16, those of int32 or int64 for shorter integers."""

_DTYPES = """## Dtypes

Names are NumPy's; the narrow ones come from the `ml_dtypes` package. Strings and complex numbers are refused. Graphs
with a dtype that opset {opset} lacks are written in the first opset that has it."""

_REFUSED = """## Operators that no graph holds

A graph that is sent away may not hold these. The import resolves many of them before: sequences and optional values whose
length is known, and random draws, which become reproducible ones."""


def page() -> str:
    told = json.loads(TABLE.read_text(encoding="utf-8"))
    percent = 100 * told["passed"] / told["standard"]
    lacking = {_kernel(text): count for text, count in told["fallbacks"].items()}
    parts = [
        _HEAD.format(opset=OPSET, oldest=OLDEST, newest=told["opset"]),
        _TESTS.format(**told, percent=percent),
        _refusals(told),
        _KNOWN,
        _counts("values known to the import", told["known"]),
        _DRAWN.format(names=", ".join(f"`{name}`" for name in told["drawn"])),
        _ENGINES,
        _counts("computed by", told["engines"]),
        "Kernels that ONNX Runtime lacked, with the versions of the operators, and how many cases needed them:",
        _counts("lacking", lacking),
        _DTYPES.format(opset=OPSET),
        _dtypes(),
        _REFUSED,
        _operators(),
    ]
    return "\n\n".join(parts)


def _refusals(told: dict[str, Any]) -> str:
    rows = [
        f"| {reason} | {len(names)} | {', '.join(f'`{name}`' for name in names)} |"
        for reason, names in told["refused"].items()
    ]
    return "\n".join(["| not passing, because | cases | which |", "|---|---:|---|", *rows])


def _counts(head: str, counts: dict[str, int]) -> str:
    rows = [f"| {name} | {count} |" for name, count in counts.items()]
    return "\n".join([f"| {head} | cases |", "|---|---:|", *rows])


def _kernel(text: str) -> str:
    return f"`{text.rpartition(' ')[2]}`"


def _dtypes() -> str:
    rows = []
    for dtype in sorted(DTYPES, key=lambda dtype: int(to_ir(dtype))):
        name = str(dtype)
        kind = to_ir(dtype).name
        rows.append(
            f"| `{name}` | {kind} | {LATER.get(name, OPSET)} | {'ml_dtypes' if name in NARROW else 'NumPy'} |"
        )
    return "\n".join(["| dtype | in ONNX | opset | from |", "|---|---|---:|---|", *rows])


def _operators() -> str:
    reasons: dict[tuple[str, str], list[str]] = {}
    for operator, reason in REFUSED.items():
        reasons.setdefault(reason, []).append(operator)
    rows = [
        f"| {', '.join(f'`{name}`' for name in sorted(names))} | {why} | {hint} |"
        for (why, hint), names in reasons.items()
    ]
    return "\n".join(["| operators | why | instead |", "|---|---|---|", *rows])
