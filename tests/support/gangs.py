"""Graphs whose loops two providers can compute together, with gangs written by hand, and providers that compute parts.

`add_gangs` has a gang added to the plan of `coordinators.loop`: each rank adds one half of the carry, both exchange
their halves; rank 0 gives the carry, rank 1 the sums.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from coordinators import FakeProvider, load
from onnx import TensorProto, helper
from subgraphs import FLOAT, Ports, model, node

from ravop.engine import Session
from ravop.protocol import exchange as frames
from ravop.protocol import messages as m
from ravop.protocol.parts import Compute, Exchange, PartCarry, PartStack, Repeat, Shared, Wire
from ravop.protocol.tensors import sha256
from ravop.transport import exchange as line
from ravsock.core import planner
from ravsock.core.plan import Gang, Loop, PartPlan
from ravsock.server import planning

WIDTH = 4


def half_model(rank: int) -> bytes:
    """`h = c[half] + 1`: the loop's data is one everywhere, and within its chunk model."""
    first = rank * WIDTH // 2
    bounds = [
        helper.make_tensor(name, TensorProto.INT64, [1], [value])
        for name, value in (("start", first), ("stop", first + WIDTH // 2))
    ]
    nodes = [
        node("Slice", ["c", "start", "stop"], ["c_half"], "n0"),
        node("Add", ["c_half", "one"], ["h"], "n1"),
    ]
    made = model(nodes, {"c": (FLOAT, [WIDTH])}, {"h": (FLOAT, [WIDTH // 2])})
    made.graph.initializer.extend([*bounds, helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])])
    return made.SerializeToString()


def whole_model() -> bytes:
    """`y = h0 ‖ h1` and `s = Σ y`."""
    nodes = [
        node("Concat", ["h0", "h1"], ["y"], "n0", axis=0),
        node("ReduceSum", ["y"], ["s"], "n1", keepdims=0),
    ]
    ports: Ports = {"h0": (FLOAT, [WIDTH // 2]), "h1": (FLOAT, [WIDTH // 2])}
    return model(nodes, ports, {"y": (FLOAT, [WIDTH]), "s": (FLOAT, [])}).SerializeToString()


MODELS = {sha256(data): data for data in (half_model(0), half_model(1), whole_model())}


def part(loop: Loop, rank: int) -> PartPlan:
    assert loop.chunk is not None
    inputs = {port.value: port.name for port in loop.chunk.inputs}
    outputs = {port.value: port.name for port in loop.chunk.outputs}
    (carry,), (stacked,) = loop.carries, loop.stacked
    mine, its = (Shared(name=f"h{r}", dtype="float32", shape=(WIDTH // 2,)) for r in (rank, 1 - rank))
    half, whole = sha256(half_model(rank)), sha256(whole_model())
    given = outputs[carry.final] if rank == 0 else outputs[stacked.stacked]
    return PartPlan(
        loop=Repeat(
            length=loop.length,
            carries=(
                PartCarry(init=inputs[carry.init], body_in="c", body_out="y", final=outputs[carry.final]),
            ),
            stacked=(PartStack(body_out="s", stacked=outputs[stacked.stacked]),),
            steps=(
                Compute(subgraph=half, inputs=(Wire("c", "c"),), outputs=(Wire("h", mine.name),)),
                Exchange(gives=(mine,), to=(1 - rank,), takes={1 - rank: (its,)}),
                Compute(
                    subgraph=whole,
                    inputs=(Wire("h0", "h0"), Wire("h1", "h1")),
                    outputs=(Wire("y", "y"), Wire("s", "s")),
                ),
            ),
        ),
        inputs=tuple(inputs.values()),
        outputs=(given,),
        peak_memory=1000,
    )


def add_gangs(monkeypatch: pytest.MonkeyPatch, seconds: float = 1e-9) -> None:
    """From now on loops are planned with a gang of two that seems to take so long for an iteration, and nothing to exchange."""

    def plan(*given: Any) -> planner.Planned:
        planned = planner.plan_graph(*given)
        main = planned.plan.main
        units = tuple(
            msgspec.structs.replace(
                unit,
                gangs=(
                    Gang(
                        parts=(part(unit, 0), part(unit, 1)), seconds=seconds, bytes=0, exchanges=0,
                        nodes=dict.fromkeys(MODELS, ("a node",) * 3),
                    ),
                ),
            )
            if isinstance(unit, Loop) and unit.chunk is not None
            else unit
            for unit in main.units
        )  # fmt: skip
        whole = msgspec.structs.replace(planned.plan, main=msgspec.structs.replace(main, units=units))
        return msgspec.structs.replace(planned, plan=whole, models=planned.models | MODELS)

    monkeypatch.setattr(planning, "plan_graph", plan)


class PartProvider(FakeProvider):
    """Computes parts too: one step at a time, over its line to the other ranks."""

    async def compute(self, task: m.Task) -> tuple[m.Output, ...]:
        if task.part is None:
            return await super().compute(task)
        for sha in m.models_needed(task):
            await self.blobs.get(sha, await self.blobs.size(sha))  # may it?
        inputs = {value.name: await load(self.blobs, value.ref) for value in task.inputs}
        results = await self.exchange_and_compute(task, inputs)
        return tuple([await self.output(spec.name, results[spec.name]) for spec in task.outputs])

    async def work(self, task: m.Task) -> m.Reported:
        """Compute and deliver; a part whose gang is broken off is left."""
        try:
            return await super().work(task)
        except line.GoneError:
            return m.Reported()

    async def join(self, task: m.Task) -> line.Exchange:
        """Come to the exchange, and wait for the others there."""
        assert task.part is not None
        ranks = range(task.part.ranks)
        joined = line.Exchange(self.url, self.token, {r: 1 << 20 for r in ranks if r != task.part.rank})
        held = m.HeldTask(task_id=task.task_id, attempt=task.attempt)
        try:
            await joined.connect(held, task.part.rank, 20.0)
        except BaseException:
            await joined.close(done=False)
            raise
        return joined

    async def exchange_and_compute(
        self, task: m.Task, inputs: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        assert task.part is not None
        joined, loop, done = await self.join(task), task.part.loop, False
        try:
            (carry,), (stacked,) = loop.carries, loop.stacked
            value, sums = inputs[carry.init], []
            for _ in range(task.part.start, task.part.stop):
                scope = {carry.body_in: value}
                for step in loop.steps:
                    await self._step(step, scope, joined)
                value = scope[carry.body_out]
                sums.append(scope[stacked.body_out])
            done = True
            return {carry.final: value, stacked.stacked: np.stack(sums)}
        finally:
            await joined.close(done=done)

    async def _step(self, step: Any, scope: dict[str, np.ndarray], joined: line.Exchange) -> None:
        if isinstance(step, Compute):
            session = Session(MODELS[step.subgraph])
            given = {wire.port: scope[wire.value] for wire in step.inputs}
            results = await asyncio.to_thread(session.run, given)
            scope |= {wire.value: results[wire.port] for wire in step.outputs}
            return
        (mine,), ((other, (its,)),) = step.gives, step.takes.items()
        await joined.send(step.to, memoryview(scope[mine.name].tobytes()))
        frame = await joined.receive()
        assert (frame.ranks, frame.last) == (other, True)
        scope[its.name] = np.frombuffer(frame.payload, np.float32)


def frame(ranks: Sequence[int], payload: bytes) -> bytes:
    return frames.pack_header(sum(1 << rank for rank in ranks), 0, True) + payload
