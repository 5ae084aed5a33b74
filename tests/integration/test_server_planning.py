"""Large graphs are checked and planned in a process of their own: with the same plan and the same errors, and if the process
breaks down, its graph alone is refused.
"""

import sys

import pytest

import ravop as R
from ravop.client.uploads import pack
from ravop.errors import InvalidModelError
from ravop.graph.manifest import decode_manifest
from ravsock.core.fleet import Fleet, ProviderSpeed
from ravsock.server import planning
from ravsock.server.planning import Planning, Question


@pytest.fixture
def question(monkeypatch: pytest.MonkeyPatch) -> Question:
    monkeypatch.setattr(planning, "SMALL", 0)
    graph = R.Graph(name="elsewhere", rules={"unit_seconds": 0.0})
    for number in range(3):
        R.sum(R.exp(R.t([1.0, 2.0]) * float(number))).persist_op(f"v_{number}")
    package = pack(graph)
    manifest = decode_manifest(package.blobs[package.manifest])
    return Question(graph.id, package.blobs[package.model], manifest, Fleet((ProviderSpeed(10.0, 1 << 30),)))


async def test_the_plan_is_the_same_there(question: Question) -> None:
    assert await Planning()(question) == planning.plan(question)


async def test_what_is_wrong_is_told_as_here(question: Question) -> None:
    broken = Question(question.graph_id, question.model[:-9], question.manifest, question.fleet)
    with pytest.raises(InvalidModelError) as here:
        planning.plan(broken)
    with pytest.raises(InvalidModelError) as there:
        await Planning()(broken)
    assert there.value.problem == here.value.problem


async def test_a_process_that_breaks_down_refuses_one_graph(
    question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "COMMAND", [sys.executable, "-c", "import os; os._exit(3)"])
    with pytest.raises(InvalidModelError, match="exit code 3"):
        await Planning()(question)
