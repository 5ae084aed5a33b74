"""ONNX's own backend node tests, run as a provider would run them: imported into a graph, checked, computed by `Runner`.

`python tests/support/backend.py` writes `TABLE`, from which `docs/onnx.md` is made; with names it runs those cases and
prints what is wrong with them.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests

import ravop as R
from provider.engine import Runner
from ravop.errors import RavenError
from ravop.graph.dtypes import is_float
from ravop.graph.serde import to_bytes
from ravop.protocol.messages import OutputSpec

TABLE = Path(__file__).parents[2] / "docs" / "generate" / "backend.json"
MEMORY = 4 * 1024**3
STANDARD = frozenset({"", "ai.onnx"})
PASSED = "passed"

REASONS = {
    "works on text": r"is text|text|words",
    "decodes image files": r"image files",
    "is of an opset before 7": r"version of the ONNX operators",
    "reads the bits of numbers that only the run knows": r"BitCast",
    "has sequences or optional values that only the run knows": r"sequence|optional",
}
"""Why a case is refused, by what the error says; the first that fits."""
OTHER = "is refused for another reason"
WRONG = "ONNX Runtime's values are not ONNX's"
FAILED = "ONNX Runtime fails"
KNOWN = {"nothing": "", "integers and booleans": "biu", "all": "biufV"}
"""Of which values the import is told, and their dtypes' kinds; tried in this order."""
TEXT = "OUST"

DRAWN = re.compile(r"^test_(bernoulli|training_dropout)")
"""Cases whose values come from a random generator: ours are others, and only their dtype, shape and range are compared."""


class Outcome(NamedTuple):
    """What became of a case: `PASSED`, or why not; `engine` is what computed it, with which inputs `known` to the import;
    `detail` is for whoever repairs it.
    """

    reason: str
    engine: str = ""
    detail: str = ""
    fallback: str = ""
    known: str = ""


# ── cases ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@cache
def cases() -> dict[str, Any]:
    """All node tests by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ONNX computes some expected values with overflows
        return {case.name: case for case in load_model_tests(kind="node")}


def is_standard(case: Any) -> bool:
    """Whether all its nodes are of the standard domain."""
    return all(node.domain in STANDARD for node in _nodes(case.model.graph.node))


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g.node)


def data_sets(case: Any) -> list[tuple[list[Any], list[Any]]]:
    """Inputs and expected outputs, as arrays and lists of arrays."""
    return [tuple([_plain_data(value) for value in side] for side in pair) for pair in case.data_sets]  # type: ignore[misc]


def _plain_data(value: Any) -> Any:
    match value:
        case onnx.TensorProto():
            return onnx.numpy_helper.to_array(value)
        case onnx.SequenceProto():
            return [_plain_data(one) for one in onnx.numpy_helper.to_list(value)]
        case onnx.OptionalProto():
            return _plain_data(onnx.numpy_helper.to_optional(value))
        case list() | tuple():
            return [_plain_data(one) for one in value]
        case None:
            return None
    return np.asarray(value)


# ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def run(case: Any) -> Outcome:
    """Import the case and compute it. Inputs are known to the import only where it needs them, as shapes or lengths: none,
    else the integers, else all."""
    outcome = Outcome("no data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the reference evaluator, and of NumPy in it
        for known, kinds in KNOWN.items():
            try:
                outcome = outcome_of(case, kinds)._replace(known=known)
            except RavenError as error:
                outcome = Outcome(_reason(error.problem.text()), detail=error.problem.text())
            if outcome.reason in (PASSED, WRONG):
                return outcome
    return outcome


def _reason(text: str) -> str:
    return next((reason for reason, pattern in REASONS.items() if re.search(pattern, text)), OTHER)


def outcome_of(case: Any, known: str) -> Outcome:
    """What becomes of it with the values of inputs known to the import whose dtypes are of the kinds in `known`.

    Raises what the import raises.
    """
    outcome = Outcome("no data")
    for given, expected in data_sets(case):
        graph = R.Graph(case.name)
        values, outcome = _computed(graph, add(graph, case, given, known))
        if outcome.reason != PASSED:
            return outcome
        wrong = different(case, expected, values)
        if wrong:
            return outcome._replace(reason=WRONG, detail=wrong)
    return outcome


def add(graph: R.Graph, case: Any, inputs: Sequence[Any], known: str = "") -> Sequence[Any]:
    """Import the case into the graph; the values of inputs of the kinds in `known` are known to the import. → what it
    gives."""
    found = R.import_onnx(case.model, *[_bound(graph, value, known) for value in inputs])
    return found if isinstance(found, tuple) else (found,)


def _bound(graph: R.Graph, value: Any, known: str) -> Any:
    if isinstance(value, list):
        return [_bound(graph, one, known) for one in value]
    return value if value is None or value.dtype.kind in TEXT + known else graph.input(value)


def _computed(graph: R.Graph, outputs: Sequence[Any]) -> tuple[list[Any], Outcome]:
    specs: dict[str, OutputSpec] = {}
    wanted = [persisted(output, f"output {place}", specs) for place, output in enumerate(outputs)]
    if not specs:
        return wanted, Outcome(PASSED, "the import")
    data = to_bytes(graph.model())
    runner = Runner(lambda sha: data, threads=1, memory=MEMORY)
    try:
        arrays = runner.run("model", graph.inputs, tuple(specs.values()))
    except RavenError as error:
        return [], Outcome(FAILED, detail=error.problem.text())
    session = runner.session("model")
    found = dict(zip(specs, arrays, strict=True))
    return [filled(one, found) for one in wanted], Outcome(PASSED, session.engine, fallback=session.fallback)


def persisted(output: Any, name: str, specs: dict[str, OutputSpec]) -> Any:
    """Persist the ops in `output`; → it with their names in their place."""
    if isinstance(output, list | tuple):
        return [persisted(one, f"{name}.{place}", specs) for place, one in enumerate(output)]
    if output is None:
        return None
    op = R.t(output)
    op.persist_op(name=name)
    value = op.graph.persisted[name].value
    shape = tuple(size if isinstance(size, int) else None for size in op.shape)
    specs[name] = OutputSpec(name=value, dtype=str(op.dtype), shape=shape)
    return name


def filled(wanted: Any, found: dict[str, Any]) -> Any:
    return [filled(one, found) for one in wanted] if isinstance(wanted, list) else found.get(wanted)


# ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────────────
def different(case: Any, expected: Any, got: Any) -> str:
    """What is different; empty where nothing is."""
    if isinstance(expected, list | tuple):
        if not isinstance(got, list | tuple) or len(got) < len(expected):
            return f"expected {len(expected)} values, received {len(got) if isinstance(got, list) else got}"
        told = (different(case, *pair) for pair in zip(expected, got, strict=False))
        return next(filter(None, told), "")
    if expected is None or got is None:
        return "" if expected is got else f"expected {expected!r}, received {got!r}"
    expected = np.asarray(expected)
    if expected.dtype.kind in "OUS":
        return "text is expected"
    if (expected.dtype, expected.shape) != (got.dtype, got.shape):
        return f"expected {expected.dtype} {expected.shape}, received {got.dtype} {got.shape}"
    if DRAWN.match(case.name):
        return _undrawable(case, got)
    try:
        np.testing.assert_allclose(_plain(got), _plain(expected), *_tolerance(case, expected))
    except AssertionError as error:
        return str(error)
    return ""


def _tolerance(case: Any, expected: Any) -> tuple[float, float]:
    """The case's own, but at least what the dtype can tell apart: of an element, and of a sum of elements as large as the
    largest one."""
    if not is_float(expected.dtype):
        return case.rtol, case.atol
    eps = float(ml_dtypes.finfo(expected.dtype).eps)
    finite = np.abs(_plain(expected))
    largest = float(finite[np.isfinite(finite)].max(initial=0.0))
    return max(case.rtol, 2 * eps), max(case.atol, min(8 * eps, 1e-3) * largest)


def _plain(array: Any) -> Any:
    return array if array.dtype.kind in "biu" else array.astype(np.float64)


def _undrawable(case: Any, got: Any) -> str:
    """Values that no draw gives: Bernoulli's are 0 and 1, Dropout's 0 and the scaled input."""
    x, *ratio = data_sets(case)[0][0]
    dropout = "dropout" in case.name and got.dtype.kind != "b"
    kept = x / (1 - np.float32(ratio[0] if ratio else 0.5)) if dropout else 1
    possible = (got == 0) | np.isclose(got, kept, rtol=1e-5)
    return "" if possible.all() else f"neither dropped nor kept: {got[~possible]}"


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────
def outcomes(names: Iterable[str] = ()) -> dict[str, Outcome]:
    """The outcome of each case of the standard domain, or of the named ones."""
    wanted = list(names) or [name for name, case in cases().items() if is_standard(case)]
    try:
        return {name: run(cases()[name]) for name in wanted}
    finally:
        R.graph.graph.set_current_graph(None)


def table(found: dict[str, Outcome]) -> dict[str, Any]:
    """What is kept of a run, as JSON has it."""
    refused: dict[str, list[str]] = {}
    for name, outcome in sorted(found.items()):
        if outcome.reason != PASSED:
            refused.setdefault(outcome.reason, []).append(name)
    passed = [outcome for outcome in found.values() if outcome.reason == PASSED]
    engines = Counter(outcome.engine for outcome in passed)
    known = Counter(outcome.known for outcome in passed)
    lacking = Counter(outcome.fallback for outcome in passed if outcome.fallback)
    return {
        "onnx": version("onnx"),
        "onnxruntime": version("onnxruntime"),
        "opset": onnx.defs.onnx_opset_version(),
        "all": len(cases()),
        "standard": len(found),
        "passed": len(passed),
        "known": {name: known[name] for name in KNOWN},
        "engines": dict(sorted(engines.items())),
        "fallbacks": dict(sorted(lacking.items())),
        "drawn": sorted(name for name in found if DRAWN.match(name)),
        "refused": dict(sorted(refused.items())),
    }


def main(names: list[str]) -> None:
    found = outcomes(names)
    if names:
        for name, outcome in found.items():
            print(f"── {name}: {outcome.reason} ({outcome.engine}) {outcome.fallback}\n{outcome.detail}")
        return
    kept = table(found)
    TABLE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(f"{kept['passed']} of {kept['standard']} pass; wrote {TABLE}")


if __name__ == "__main__":
    main(sys.argv[1:])
