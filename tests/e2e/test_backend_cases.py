"""A hundred of ONNX's own backend node tests in one graph, through a real coordinator and a real provider."""

from __future__ import annotations

import json
from typing import Any

import backend
from processes import Lab

import ravop as R
from ravop.errors import RavenError
from ravop.protocol.messages import OutputSpec

COUNT = 100
TOLD = json.loads(backend.TABLE.read_text(encoding="utf-8"))
LEFT_OUT = {*TOLD["drawn"], *(name for names in TOLD["refused"].values() for name in names)}


def chosen() -> dict[str, Any]:
    """Cases from all over the alphabet of operators, none of which must know its inputs beforehand."""
    found = {}
    names = sorted(name for name, case in backend.cases().items() if backend.is_standard(case))
    names = [name for name in names if name not in LEFT_OUT]
    for start in range(COUNT):
        for name in names[start * len(names) // COUNT : (start + 1) * len(names) // COUNT]:
            case = backend.cases()[name]
            if fits(case):
                found[name] = case
                break
    return found


def fits(case: Any) -> bool:
    try:
        return backend.outcome_of(case, known="").reason == backend.PASSED
    except RavenError:
        return False


def test_cases_in_one_graph_through_coordinator_and_provider(lab: Lab) -> None:
    picked = chosen()
    assert len(picked) > 0.9 * COUNT
    lab.coordinator()
    (provider,) = lab.providers(1).values()
    R.initialize(lab.token("requester", "anna"), url=lab.url)
    graph = R.Graph("backend cases")
    wanted, expected = {}, {}
    for name, case in picked.items():
        inputs, expected[name] = backend.data_sets(case)[0]
        specs: dict[str, OutputSpec] = {}
        outputs = backend.add(graph, case, inputs)
        wanted[name] = [backend.persisted(op, f"{name} {place}", specs) for place, op in enumerate(outputs)]
    R.activate()
    R.execute()
    R.track_progress()
    got = R.fetch_many(list(graph.persisted))
    for name, case in picked.items():
        assert (
            backend.different(case, expected[name], [backend.filled(one, got) for one in wanted[name]]) == ""
        ), name
    assert "task" not in provider.output or "failed" not in provider.output
