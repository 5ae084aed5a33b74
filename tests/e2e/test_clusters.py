"""Clusters as providers: one daemon for all of their workers, whichever come, go or are killed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator, Callable

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from fake_coordinator import FakeCoordinator
from grids import Grid
from processes import Lab, Process, free_port
from subgraphs import gather_model, inline, loop_inputs, loop_model, matmul_model, output
from workloads import assert_equals_local, training, wait_until_step

import ravop as R
from provider.cli import main
from ravop.client.api import session
from ravop.protocol.messages import HeldTask, ListProviders, Providers, Recall, Register, Report, Task
from ravop.protocol.tensors import Blob, decode_tensor

pytestmark = pytest.mark.alone

LEFT, RIGHT = (np.random.default_rng(0).normal(size=(200, 200)).astype("float32") for _ in range(2))
SMALL = ("--max-memory", "256MiB")


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    coordinator = FakeCoordinator()
    async with coordinator.listening():
        yield coordinator


def test_a_training_on_a_dask_cluster_that_is_lost_in_the_middle(lab: Lab) -> None:
    lab.coordinator()
    grid = Grid(lab)
    scheduler, worker = grid.scheduler(), grid.worker(threads=2)
    place = ["--executor", "dask", "--dask-scheduler", grid.address]
    provider = lab.provider(lab.token("provider", "cluster"), "gateway", *place)
    R.initialize(lab.token("requester", "anna"), url=lab.url)
    graph = training(steps=400)
    R.activate()
    R.execute()
    wait_until_step(graph, 1)
    scheduler.kill()
    provider.wait_for("not connected: the connection to the Dask scheduler was lost")
    shown = CliRunner().invoke(main, ["status"], env={"RAVENVERSE_HOME": str(lab.folder / "home")})
    assert "Dask scheduler" in shown.output
    worker.kill()
    grid.scheduler()
    grid.worker(threads=1)
    R.track_progress()
    assert_equals_local("losses", "first", "second", "third")
    (seen,) = session().call(ListProviders(), Providers).providers
    assert seen.slots == 1
    assert not re.search("task [0-9]+ failed", provider.output)


async def test_batches_on_a_dask_cluster_that_grows_and_loses_a_worker(
    lab: Lab, coordinator: FakeCoordinator
) -> None:
    grid = Grid(lab)
    await asyncio.to_thread(grid.scheduler)
    first = await asyncio.to_thread(grid.worker, threads=1)
    place = ["--executor", "dask", "--dask-scheduler", grid.address, *SMALL]
    await started(lab, coordinator, *place)
    registered = await coordinator.next(Register)
    assert (registered.profile.slots, registered.profile.memory) == (1, 256 * 2**20)
    await assert_computes(coordinator)

    second = await asyncio.to_thread(grid.worker, threads=1)
    assert (await coordinator.next(Register)).profile.slots == 2
    await coordinator.assign(loop_task(coordinator, 5))
    await coordinator.assign(loop_task(coordinator, 6))
    await until(lambda: computing(first) and computing(second))
    first.kill()
    assert (await coordinator.next(Register)).profile.slots == 1
    third = await asyncio.to_thread(grid.worker, threads=1)
    widened = await coordinator.next(Register)
    assert widened.profile.slots == 2
    assert {key.task_id for key in widened.holding} == {5, 6}
    await until(lambda: computing(third))  # it has what the first one had

    await coordinator.send(Recall(tasks=tuple(HeldTask(task_id=number, attempt=1) for number in (5, 6))))
    await until(lambda: not any(map(computing, (second, third))))
    await assert_computes(coordinator, number=7)


async def test_batches_on_a_ray_cluster(lab: Lab, coordinator: FakeCoordinator) -> None:
    port = str(free_port())
    with tempfile.TemporaryDirectory(prefix="r") as folder:  # a short path: sockets lie there
        ports = ["--port", port]
        extent = ["--num-cpus", "2", "--memory", str(2**30), "--object-store-memory", str(100 * 2**20)]
        rest = ["--temp-dir", folder, "--include-dashboard", "false", "--disable-usage-stats", "--block"]
        head = lab.start(["ray", "start", "--head", "--node-ip-address", "127.0.0.1", *ports, *extent, *rest])
        await asyncio.to_thread(head.wait_for, "Ray runtime started")
        place = ["--executor", "ray", "--ray-address", f"127.0.0.1:{port}", *SMALL]
        await started(lab, coordinator, *place)
        assert (await coordinator.next(Register)).profile.slots == 2
        await assert_computes(coordinator)
        head.clean()


async def started(lab: Lab, coordinator: FakeCoordinator, *options: str) -> Process:
    """A provider that has found its cluster and the coordinator."""
    return await asyncio.to_thread(lab.provider, "token", "gateway", *options, url=coordinator.url)


async def assert_computes(coordinator: FakeCoordinator, number: int = 1) -> None:
    """Large tensors go directly to workers and back, once; a failure names its node."""
    coordinator.transfers.clear()
    inputs = (coordinator.tensor("a", LEFT), coordinator.tensor("b", RIGHT + number))
    task = coordinator.task(number, matmul_model(200), inputs, (output("c", (200, 200)),))
    await coordinator.assign(task)
    report = await coordinator.next(Report)
    (result,) = report.done
    (made,) = result.outputs
    assert isinstance(made.ref, Blob)
    np.testing.assert_allclose(
        decode_tensor(coordinator.blobs[made.ref.sha]), LEFT @ (RIGHT + number), rtol=1e-4, atol=1e-4
    )
    assert coordinator.transfers.count(("PUT", made.ref.sha)) == 1
    assert all(coordinator.transfers.count(one) == 1 for one in coordinator.transfers)
    wrong = (inline("a", [1, 2, 3]), inline("i", [9], "int64"))
    await coordinator.assign(coordinator.task(number + 1, gather_model(), wrong, (output("c", (1,)),)))
    (failure,) = (await coordinator.next(Report)).failed
    assert (failure.task_id, failure.node) == (number + 1, 1)


def loop_task(coordinator: FakeCoordinator, number: int) -> Task:
    """It ends when somebody ends it."""
    return coordinator.task(number, loop_model(), loop_inputs(), (output("sum", ()),))


def computing(worker: Process) -> bool:
    """Whether one of the processes in which a cluster's worker computes is at it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = [child for child in worker.children() if "provider.worker" in child.cmdline()]
        return any(child.status() == psutil.STATUS_RUNNING for child in found)
    return False


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.05)
