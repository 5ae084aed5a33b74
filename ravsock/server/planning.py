"""Checking and planning a graph that was sent to be activated: a small one on a thread, a large one in a process of its own.

ONNX's native code keeps Python's lock for as long as it takes, seconds for a large model: no connection would be served
meanwhile, and clients would take the coordinator for dead. A model that crashes that code ends the process alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

import msgspec

from ravop.environment import without_secrets
from ravop.errors import InvalidModelError, Problem, RavenError, error_from_problem
from ravop.graph.check import check_model
from ravop.graph.manifest import Manifest
from ravsock.core.fleet import Fleet
from ravsock.core.planner import Planned, plan_graph
from ravsock.server.admission import check_manifest

SMALL = 512 * 1024
"""Bytes of a model that is planned on a thread: its inference takes less than starting a process."""
AT_ONCE = 2
"""Processes, each with a model in its memory."""
COMMAND = [sys.executable, "-P", "-m", __name__]


class Question(msgspec.Struct, frozen=True):
    """A graph as it was uploaded, and for whom it is planned."""

    graph_id: str
    model: bytes
    manifest: Manifest
    fleet: Fleet


class Answer(msgspec.Struct, frozen=True):
    """One of both."""

    planned: Planned | None = None
    problem: Problem | None = None


class Planning:
    """Call it with a graph. For one event loop."""

    def __init__(self) -> None:
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, question: Question) -> Planned:
        """Raises `InvalidModelError`, `MessageError`, … for what is wrong with the graph."""
        if len(question.model) <= SMALL:
            return await asyncio.to_thread(plan, question)
        async with self._gate:
            return await _elsewhere(question)


def plan(question: Question) -> Planned:
    """Raises what is wrong with the graph."""
    model = check_model(question.model)
    check_manifest(question.graph_id, model, question.manifest)
    return plan_graph(model, question.manifest, question.fleet)


async def _elsewhere(question: Question) -> Planned:
    environment = without_secrets(os.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(*COMMAND, stdin=PIPE, stdout=PIPE, env=environment)
    try:
        output, _ = await process.communicate(msgspec.msgpack.encode(question))
    finally:
        if process.returncode is None:  # this coordinator ends
            process.kill()
    if process.returncode:
        raise InvalidModelError(
            "the process that checked and planned the graph broke down",
            received=f"exit code {process.returncode}",
            hint="the model may need more memory than the coordinator has; make it smaller, or try again",
        )
    answer = msgspec.msgpack.decode(output, type=Answer)
    if answer.planned is None:
        raise error_from_problem(answer.problem or RavenError("there is no plan").problem)
    return answer.planned


def main() -> None:
    """The process: a question on standard input, its answer on standard output."""
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Question)
    try:
        answer = Answer(planned=plan(question))
    except RavenError as error:
        answer = Answer(problem=error.problem)
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()
