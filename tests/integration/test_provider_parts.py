"""Two real providers that compute a loop together, exchanging values through a small coordinator: against NumPy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import gang_parts as parts
import numpy as np
import psutil
import pytest
from coordinators import serving
from fake_coordinator import FakeCoordinator
from rich.console import Console
from subgraphs import output

import ravop as R
from provider import control
from provider.display import Display
from provider.home import Home
from provider.launch import serve
from provider.settings import Settings
from provider.wire import Measured
from ravop.protocol.messages import HeldTask, Recall, Register, Report, Task, TaskFailure
from ravop.protocol.parts import Part
from ravop.protocol.tensors import Array, Blob, decode_tensor, resolve

SIDE, LENGTH = 300, 60
VALUES = parts.problem(SIDE, LENGTH)


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    coordinator = FakeCoordinator()
    async with coordinator.listening():
        yield coordinator


@asynccontextmanager
async def provider(folder: Path, name: str, url: str, token: str = "token") -> AsyncIterator[None]:
    home = Home(folder, name)
    home.folder.mkdir(parents=True)
    home.keep_speed(
        f"onnxruntime {version('onnxruntime')}", 1, Measured(matmul_gflops=50.0, conv_gflops=30.0)
    )
    settings = Settings(
        url=url, token=token, name=name, slots=1, max_memory=256 * 2**20, max_cache=64 * 2**20
    )
    with home.lock():
        daemon = asyncio.create_task(serve(settings, home, Display(Console(quiet=True))))
        try:
            yield
        finally:
            await asyncio.to_thread(control.ask, home, "stop")
            await daemon


@pytest.fixture
async def gang(coordinator: FakeCoordinator, tmp_path: Path) -> AsyncIterator[FakeCoordinator]:
    """The coordinator, with two providers."""
    async with AsyncExitStack() as stack:
        for name in ("one", "two"):
            await stack.enter_async_context(provider(tmp_path / name, name, coordinator.url))
            await coordinator.next(Register)
        yield coordinator


def part_task(
    coordinator: FakeCoordinator, rank: int, part: Part | None = None, attempt: int = 1, **changes: Array
) -> Task:
    """What rank `rank` gets: iterations 10 to 59; rank 0 gives the state, rank 1 the norms."""
    for data in parts.models(SIDE).values():
        coordinator.put(data)
    given = parts.inputs_of(rank, VALUES) | changes
    return coordinator.task(
        1,
        b"the model of the whole chunk, which no rank needs",
        tuple(coordinator.tensor(name, array) for name, array in given.items()),
        (output("x", (SIDE,)) if rank == 0 else output("norms", (LENGTH - 10,)),),
        attempt=attempt,
        part=part or parts.part(rank, SIDE, 10, LENGTH, LENGTH),
    )


async def assign(coordinator: FakeCoordinator, *tasks: Task) -> None:
    for place, task in enumerate(tasks):
        await coordinator.assign(task, place=place)


async def results(coordinator: FakeCoordinator) -> dict[str, Array]:
    """The outputs of both ranks."""

    def read(blob: Blob) -> Array:
        return decode_tensor(coordinator.blobs[blob.sha])

    done = [result for _ in range(2) for result in (await coordinator.next(Report)).done]
    return {out.name: resolve(out.ref, read) for result in done for out in result.outputs}


async def failure(coordinator: FakeCoordinator) -> TaskFailure:
    (failed,) = (await coordinator.next(Report)).failed
    return failed


def assert_right(found: dict[str, Array]) -> None:
    wanted = parts.expected(VALUES, 10, LENGTH)
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, wanted[name], rtol=1e-3, atol=1e-4)


def own_workers() -> set[int]:
    children = psutil.Process().children()
    return {child.pid for child in children if "provider.worker" in child.cmdline()}


async def test_two_providers_give_what_numpy_gives(gang: FakeCoordinator) -> None:
    await assign(gang, part_task(gang, 0), part_task(gang, 1))
    assert_right(await results(gang))


async def test_a_gang_that_is_broken_off_ends_quietly_and_its_workers_go_on_with_the_next(
    gang: FakeCoordinator,
) -> None:
    await gang.assign(part_task(gang, 0), place=0)
    while not gang.ranks:  # rank 0 waits for the other one
        await asyncio.sleep(0.01)
    workers = own_workers()
    await gang.break_off()
    await assign(gang, part_task(gang, 0, attempt=2), part_task(gang, 1, attempt=2))
    assert_right(await results(gang))
    assert workers <= own_workers()


async def test_a_recalled_part_leaves_the_worker_as_it_was(gang: FakeCoordinator) -> None:
    await gang.assign(part_task(gang, 0), place=0)
    while not gang.ranks:
        await asyncio.sleep(0.01)
    workers = own_workers()
    await gang.send(Recall(tasks=(HeldTask(task_id=1, attempt=1),)), place=0)
    while gang.ranks:
        await asyncio.sleep(0.01)
    await assign(gang, part_task(gang, 0, attempt=2), part_task(gang, 1, attempt=2))
    assert_right(await results(gang))
    assert workers <= own_workers()


async def test_a_rank_that_fails_is_told_of_and_the_other_one_just_stops(gang: FakeCoordinator) -> None:
    columns = np.arange(SIDE // 2) + SIDE  # the model's node n0 finds no such element
    await assign(gang, part_task(gang, 0), part_task(gang, 1, columns=columns))
    failed = await failure(gang)
    assert failed.problem.code == "compute"
    assert failed.node == 0
    await assign(gang, part_task(gang, 0, attempt=2), part_task(gang, 1, attempt=2))
    assert_right(await results(gang))


async def test_a_part_that_makes_no_sense_is_refused(gang: FakeCoordinator) -> None:
    await gang.assign(part_task(gang, 0, parts.part(0, SIDE, 10, LENGTH + 1, LENGTH)), place=0)
    failed = await failure(gang)
    assert failed.problem.code == "message"


def two_branches() -> R.Graph:
    """A loop whose body has two halves, of which each iteration needs the sum."""
    random = np.random.default_rng(7)
    weights = [(random.standard_normal((800, 800)) / 40).astype(np.float32) for _ in range(2)]
    graph = R.Graph(name="two branches")
    left, right = R.t(weights[0]), R.t(weights[1])

    def half(state: R.Op, matrix: R.Op) -> R.Op:
        for _ in range(6):
            state = R.tanh(state @ matrix)
        return R.mean(state, axis=0)

    def step(state: R.Op, x: R.Op) -> tuple[R.Op, R.Op]:
        mean = half(state + x, left) + half(state - x, right)
        return state * 0.5 + mean, R.sum(mean)

    state = R.t(random.standard_normal((800, 800)).astype(np.float32))
    last, sums = R.scan(step, state, random.standard_normal((12, 800)).astype(np.float32))
    R.mean(last, axis=0).persist_op("last")
    sums.persist_op("sums")
    return graph


async def test_a_loop_with_two_branches_is_what_one_session_gives_in_a_gang_or_not(tmp_path: Path) -> None:
    graph = two_branches()
    local = R.run_local(graph)
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serving(tmp_path / "coordinator"))
        for name in ("one", "two"):
            token = served.token("provider", name)
            await stack.enter_async_context(provider(tmp_path / name, name, served.url, token))
        alice = await stack.enter_async_context(served.requester())
        graph_id = await alice.run(graph)
        ended = await alice.until(lambda info: info.state in ("done", "failed"))
        assert ended.state == "done", ended.problem
        for name, value in zip(local, await alice.fetch(graph_id, *local), strict=True):
            np.testing.assert_allclose(value, local[name], rtol=1e-3, atol=1e-4, err_msg=name)
