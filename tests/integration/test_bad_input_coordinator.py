"""What goes wrong at or behind a coordinator, as the requester hears it: models that lie, providers that run out of memory
or crash, disks that are full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import numpy as np
import onnx
import pytest
import sqlalchemy as sa
from coordinators import FakeProvider, branches, expected, loop, serving
from onnx import TensorProto, helper

import ravop as R
from ravop.client.uploads import pack
from ravop.errors import (
    BlobError,
    CrashedError,
    InvalidModelError,
    MessageError,
    OutOfMemoryError,
    Problem,
    RavenError,
    StorageFullError,
    VersionError,
)
from ravop.graph.manifest import decode_manifest, encode_manifest
from ravop.protocol import messages as m
from ravop.protocol.tensors import sha256
from ravsock.core import deadlines


# ── models that nobody should run ────────────────────────────────────────────────────────────────────────────────────
def edited(edit: Callable[[onnx.ModelProto], None]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        edit(model)
        return model.SerializeToString()

    return apply


def external(model: onnx.ModelProto) -> None:
    tensor = TensorProto(
        name="stolen", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.initializer.append(tensor)


def foreign(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node[0].domain = "com.microsoft"


def heavy(model: onnx.ModelProto) -> None:
    shape = helper.make_tensor("huge", TensorProto.INT64, [2], [2**30, 2**30])
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["huge"], ["too_much"], name="bomb"))


def future(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


MODELS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "malformed": (lambda data: data[: len(data) // 2], ""),
    "nothing": (lambda data: b"", ""),
    "external data": (edited(external), "other files"),
    "foreign domain": (edited(foreign), "another domain"),
    "too much memory": (edited(heavy), "too much memory"),
    "a version to come": (edited(future), "version"),
}


async def test_models_that_nobody_should_run_are_refused_with_the_reason(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        graph = branches(1)
        package = pack(graph)
        activate = await alice.upload(graph)
        for case, (damage, words) in MODELS.items():
            data = damage(package.blobs[package.model])
            await alice.blobs.put(data, sha256(data))
            with pytest.raises(InvalidModelError) as caught:
                await alice.call(
                    m.Activate(graph_id=graph.id, model=sha256(data), manifest=activate.manifest)
                )
            assert words in str(caught.value), case
        assert (await alice.call(m.ListGraphs())).graphs == ()
        await alice.call(activate)


async def test_manifests_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        graph = branches(1)
        activate = await alice.upload(graph)
        manifest = decode_manifest(pack(graph).blobs[activate.manifest])
        cases: list[tuple[bytes, type[RavenError]]] = [
            (b"nonsense", MessageError),
            (encode_manifest(manifest)[:-3], MessageError),
            (encode_manifest(type(manifest)(graph_id=graph.id, name="x", version=99)), VersionError),
        ]
        for data, kind in cases:
            await alice.blobs.put(data, sha256(data))
            with pytest.raises(kind):
                await alice.call(m.Activate(graph_id=graph.id, model=activate.model, manifest=sha256(data)))
        assert (await alice.call(m.ListGraphs())).graphs == ()


# ── providers that cannot ────────────────────────────────────────────────────────────────────────────────────────────
MEMORY = OutOfMemoryError(
    "the subgraph needed more memory than offered", expected="4 GiB", received="8 GiB"
).problem
CRASH = CrashedError("the process that computed died: SIGSEGV").problem


async def fails(provider: FakeProvider, problem: Problem) -> None:
    task = await provider.take()
    await provider.fail(task, problem, node=0)


@pytest.mark.parametrize("problem", [MEMORY, CRASH], ids=lambda problem: problem.code)
async def test_a_task_that_one_provider_cannot_do_is_done_by_another(
    tmp_path: Path, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "FIRST_REST_SECONDS", 60.0)  # however long it takes the other to come
    async with serving(tmp_path) as served, served.requester() as alice, served.provider("small") as small:
        graph_id = await alice.run(branches(1))
        await fails(small, problem)
        async with served.provider("large") as large:
            large.keep_working()
            done = await alice.until_state(graph_id, "done")
        assert done.problem is None
        assert small.tasks.empty()
        (value,) = await alice.fetch(graph_id, "branch_0")
        np.testing.assert_allclose(value, expected(0), rtol=1e-5)


@pytest.mark.parametrize("problem", [MEMORY, CRASH], ids=lambda problem: problem.code)
async def test_what_three_providers_cannot_do_fails_with_reason_op_and_line(
    tmp_path: Path, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "FIRST_REST_SECONDS", 0.01)
    graph = R.Graph(name="doomed")
    with graph.label("my_layer"):
        R.matmul(R.t(np.eye(8)), R.t(np.ones((8, 8)))).persist_op("y")  # the line at fault
    async with serving(tmp_path) as served, served.requester() as alice:
        await alice.call(await alice.upload(graph))
        await alice.call(m.Watch(graph_id=graph.id))
        await alice.call(m.Execute(graph_id=graph.id))
        for name in ("a", "b", "c"):
            async with served.provider(name) as provider:
                await fails(provider, problem)
        failed = await alice.until_state(graph.id, "failed")
        told = failed.problem
        assert told is not None
        assert told.code == "graph_failed"
        assert problem.code in told.message
        assert problem.message in told.message
        assert told.op.startswith("my_layer/")
        assert "test_bad_input_coordinator.py" in told.source
        assert told.source.endswith("# the line at fault")
        fetched = await alice.call(m.Fetch(graph_id=graph.id, names=("y",)))
        assert fetched.values[0].problem == told


async def test_who_claims_much_and_answers_nothing_is_not_waited_for(tmp_path: Path) -> None:
    huge = {"gflops": 1e9, "slots": 1024, "memory": 1 << 62}
    async with (
        serving(tmp_path) as served, served.requester() as alice, served.provider("boaster", **huge) as boaster,
    ):  # fmt: skip
        graph_id = await alice.run(loop(1000))
        await boaster.take()
        async with served.provider("modest") as modest:
            modest.keep_working()
            await alice.until_state(graph_id, "done")
            assert boaster.recalled


# ── results with NaN ─────────────────────────────────────────────────────────────────────────────────────────────────
async def spoil(provider: FakeProvider, task: m.Task) -> m.Reported:
    """Deliver NaN."""
    nothing = [np.full([size or 1 for size in spec.shape], np.nan, np.float32) for spec in task.outputs]
    outputs = [await provider.output(spec.name, nan) for spec, nan in zip(task.outputs, nothing, strict=True)]
    return await provider.deliver(task, tuple(outputs))


async def test_nan_of_one_provider_is_checked_by_another_and_refuted(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider("broken") as broken:
        graph_id = await alice.run(branches(1))
        task = await broken.take()
        async with served.provider("sound") as sound:
            assert not (await spoil(broken, task)).accepted
            assert not (await spoil(broken, task)).accepted, "a report that is sent again changes nothing"
            await sound.work(await sound.take())
            await alice.until_state(graph_id, "done")
            (value,) = await alice.fetch(graph_id, "branch_0")
            np.testing.assert_allclose(value, expected(0), rtol=1e-5)
            told = {p.provider_id: p.resting for p in (await alice.call(m.ListProviders())).providers}
            assert "1 failures" in told["broken"]
            assert not told["sound"]


async def test_nan_that_two_providers_give_is_a_value_and_not_doubted_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider("first") as first:
        await alice.run(branches(2))
        task, another = await first.take(), await first.take()
        async with served.provider("second") as second:
            assert not (await spoil(first, task)).accepted
            again = await second.take()
            assert again.task_id == task.task_id
            assert (await spoil(second, again)).accepted
            assert (await spoil(first, another)).accepted
            await alice.until(lambda info: info.state == "done")


async def test_nan_of_the_only_provider_is_accepted(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice, served.provider("only") as only:
        await alice.run(branches(1))
        assert (await spoil(only, await only.take())).accepted


# ── connections that send no packets ─────────────────────────────────────────────────────────────────────────────────
LEAVE = "1"
"""How Engine.IO tells the other side to close."""


@pytest.mark.parametrize(
    "sent",
    [("4nonsense",), (b"\x92\x01",), ("455-[]", b"x", b"x"), ("459999999999-[]",), ('451-["raven"]', b"x")],
    ids=repr,
)
async def test_what_is_no_packet_ends_the_connection_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: tuple[str | bytes, ...]
) -> None:
    async with serving(tmp_path) as served, aiohttp.ClientSession() as http:
        url = f"{served.url}/socket.io/?EIO=4&transport=websocket"
        async with http.ws_connect(url) as socket, asyncio.timeout(5):
            for frame in sent:
                await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))
            while await socket.receive_str() != LEAVE:
                pass
        assert not [record for record in caplog.records if record.levelname not in ("INFO", "DEBUG")]


# ── disks that are full ──────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_full_database_refuses_the_graph_and_takes_it_when_there_is_room(tmp_path: Path) -> None:
    graph = R.Graph(name="large")
    for number in range(200):
        (R.t([float(number)]) + 1).persist_op("n" * 300 + str(number))
    async with serving(tmp_path) as served, served.requester() as alice:
        activate = await alice.upload(graph)
        with served.store.read() as connection:
            most = [connection.exec_driver_sql("PRAGMA page_count").scalar_one()]
        sa.event.listen(  # whichever connection of the pool is used
            served.store._engine,
            "checkout",
            lambda used, *_: used.execute(f"PRAGMA max_page_count={most[0]}"),
        )
        with pytest.raises(StorageFullError) as caught:
            await alice.call(activate)
        assert caught.value.problem.hint
        most[0] = 1_000_000
        await alice.call(activate)
        assert [info.graph_id for info in (await alice.call(m.ListGraphs())).graphs] == [graph.id]


async def test_bytes_that_do_not_match_their_name_name_both(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        with pytest.raises(BlobError) as caught:
            await alice.blobs.put(b"other bytes", "a" * 64)
        assert "a" * 64 in caught.value.problem.expected + caught.value.problem.message
        assert sha256(b"other bytes") in caught.value.problem.received
