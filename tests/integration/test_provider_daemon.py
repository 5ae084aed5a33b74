"""The daemon with a real worker against a small coordinator on loopback: computing, losing the line, stopping."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from fake_coordinator import FakeCoordinator
from rich.console import Console
from subgraphs import add_model, gather_model, inline, loop_inputs, loop_model, matmul_model, output

from provider import control
from provider.cli import main
from provider.core.events import Quit
from provider.core.exits import Exit
from provider.display import Display
from provider.home import Home
from provider.launch import serve
from provider.settings import Settings
from provider.status import Status
from provider.wire import Measured
from ravop.errors import GraphStateError, NotRunningError, TokenError
from ravop.protocol.messages import (
    Earlier,
    GraphInfo,
    Graphs,
    HeldTask,
    JoinableGraphs,
    Recall,
    Refused,
    Register,
    Registered,
    Report,
    Reported,
    Task,
    TaskFailure,
    TaskInput,
    TaskResult,
)
from ravop.protocol.tensors import Blob, Inline, decode_tensor

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)
LEFT, RIGHT = (RNG.normal(size=(200, 200)).astype("float32") for _ in range(2))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A state folder in which the speed is measured already."""
    place = Home(tmp_path, "tester")
    place.folder.mkdir()
    place.keep_speed(
        f"onnxruntime {version('onnxruntime')}", 1, Measured(matmul_gflops=50.0, conv_gflops=30.0)
    )
    return place


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    coordinator = FakeCoordinator()
    async with coordinator.listening():
        yield coordinator


def settings(url: str, slots: int = 1) -> Settings:
    return Settings(
        url=url, token="token", name="tester", slots=slots, max_memory=256 * 2**20, max_cache=64 * 2**20
    )


@asynccontextmanager
async def running(home: Home, url: str) -> AsyncIterator[asyncio.Task[Quit]]:
    """The daemon, stopped at the end if it has not ended by itself."""
    display = Display(Console(quiet=True))
    with home.lock():
        daemon = asyncio.create_task(serve(settings(url), home, display))
        try:
            yield daemon
        finally:
            while not daemon.done():
                try:
                    await asyncio.to_thread(control.ask, home, "stop")
                    break
                except NotRunningError:  # it is just starting, or ending
                    await asyncio.wait({daemon}, timeout=0.05)
            await daemon


def add_task(coordinator: FakeCoordinator, number: int = 1, attempt: int = 1) -> Task:
    inputs = (inline("a", [1, 2, 3]), inline("b", [10, 20, 30]))
    return coordinator.task(number, add_model(), inputs, (output("c", (3,)),), attempt=attempt)


def gather_task(coordinator: FakeCoordinator, number: int = 1) -> Task:
    """Its node n1 fails."""
    inputs = (inline("a", [1, 2, 3]), inline("i", [9], "int64"))
    return coordinator.task(number, gather_model(), inputs, (output("c", (1,)),))


def matmul_task(coordinator: FakeCoordinator, number: int = 1) -> Task:
    inputs = (coordinator.tensor("a", LEFT), coordinator.tensor("b", RIGHT))
    return coordinator.task(number, matmul_model(200), inputs, (output("c", (200, 200)),))


def loop_task(coordinator: FakeCoordinator, number: int = 1, flops: float = 1e15) -> Task:
    return coordinator.task(number, loop_model(), loop_inputs(), (output("sum", ()),), flops=flops)


async def done(coordinator: FakeCoordinator) -> TaskResult:
    """The result in the next report, which has nothing else."""
    report = await coordinator.next(Report)
    assert (len(report.done), report.failed, report.returned) == (1, (), ())
    return report.done[0]


async def failed(coordinator: FakeCoordinator) -> TaskFailure:
    """The failure in the next report, which has nothing else."""
    report = await coordinator.next(Report)
    assert (report.done, len(report.failed), report.returned) == ((), 1, ())
    return report.failed[0]


async def given_back(coordinator: FakeCoordinator) -> int:
    """The number of the one task that the next report gives back."""
    report = await coordinator.next(Report)
    assert (report.done, report.failed, len(report.returned)) == ((), (), 1)
    return report.returned[0].task_id


def assert_added(done: TaskResult, number: int = 1, attempt: int = 1) -> None:
    assert (done.task_id, done.attempt) == (number, attempt)
    (result,) = done.outputs
    assert isinstance(result.ref, Inline)
    np.testing.assert_array_equal(decode_tensor(result.ref.data), np.array([11, 22, 33], "float32"))


async def test_a_coordinator_of_version_2_is_worked_for(home: Home) -> None:
    coordinator = FakeCoordinator(version=2)
    async with coordinator.listening() as url, running(home, url):
        assert isinstance(await coordinator.seen.get(), Register)
        await coordinator.assign(add_task(coordinator))
        assert_added(await done(coordinator))


async def status_when(home: Home, stage: str) -> Status:
    """The daemon's status, once a task is in this stage."""
    while True:
        status = await asyncio.to_thread(control.ask, home, "status")
        if any(task.stage == stage for task in status.tasks):
            return status
        await asyncio.sleep(0.02)


def own_workers() -> list[psutil.Process]:
    """This process's workers; other children belong to fixtures of other tests."""
    return [child for child in psutil.Process().children() if "provider.worker" in child.cmdline()]


async def gone(processes: list[psutil.Process]) -> bool:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 10)
    return not alive


async def test_registers_computes_and_delivers(home: Home, coordinator: FakeCoordinator) -> None:
    async with running(home, coordinator.url):
        register = await coordinator.next(Register)
        assert register.profile.matmul_gflops == 50.0
        assert register.profile.engine.startswith("onnxruntime")
        assert register.profile.memory == 256 * 2**20
        await coordinator.assign(add_task(coordinator))
        assert_added(await done(coordinator))
        assert {method for method, _ in coordinator.transfers} == {"GET"}, "sizes are known: nothing is asked"


async def test_large_tensors_travel_as_blobs_and_are_not_fetched_again(
    home: Home, coordinator: FakeCoordinator
) -> None:
    async with running(home, coordinator.url):
        await coordinator.next(Register)
        await coordinator.assign(matmul_task(coordinator))
        product = (await done(coordinator)).outputs[0].ref
        assert isinstance(product, Blob)
        np.testing.assert_allclose(
            decode_tensor(coordinator.blobs[product.sha]), LEFT @ RIGHT, rtol=1e-3, atol=1e-3
        )
        assert ("PUT", product.sha) in coordinator.transfers
        coordinator.transfers.clear()
        first = matmul_task(coordinator, 2)
        again = (first.inputs[0], type(first.inputs[1])(name="b", ref=product))
        await coordinator.assign(coordinator.task(2, matmul_model(200), again, first.outputs))
        await done(coordinator)
        assert not [sha for method, sha in coordinator.transfers if method == "GET"]


async def test_the_next_task_is_fetched_while_one_runs(home: Home, coordinator: FakeCoordinator) -> None:
    async with running(home, coordinator.url):
        await coordinator.next(Register)
        await coordinator.assign(loop_task(coordinator, 1))
        await status_when(home, "running")
        await coordinator.assign(matmul_task(coordinator, 2))
        ready = await status_when(home, "ready")
        assert {task.stage for task in ready.tasks} == {"running", "ready"}
        await coordinator.send(Recall(tasks=(HeldTask(task_id=1, attempt=1),)))
        assert (await done(coordinator)).task_id == 2


async def test_a_batch_is_computed_and_told_as_one(home: Home, coordinator: FakeCoordinator) -> None:
    first, failing, last = add_task(coordinator, 1), gather_task(coordinator, 3), add_task(coordinator, 4)
    taken = (TaskInput(name="a", ref=Earlier(task=0, output="c")), inline("b", [1, 1, 1]))
    second = coordinator.task(2, add_model(), taken, first.outputs)
    async with running(home, coordinator.url):
        await coordinator.next(Register)
        await coordinator.assign(first, second, failing, last)
        report = await coordinator.next(Report)
    ref = report.done[1].outputs[0].ref
    assert isinstance(ref, Inline)
    np.testing.assert_array_equal(decode_tensor(ref.data), np.array([12, 23, 34], "float32"))
    assert [(told.task_id, told.node) for told in report.failed] == [(3, 1)]
    assert report.returned == (HeldTask(task_id=4, attempt=1),)


async def test_what_is_left_of_a_recalled_batch_goes_on(home: Home, coordinator: FakeCoordinator) -> None:
    async with running(home, coordinator.url):
        await coordinator.next(Register)
        await coordinator.assign(loop_task(coordinator, 1))
        await status_when(home, "running")
        await coordinator.assign(add_task(coordinator, 2), add_task(coordinator, 3))
        await status_when(home, "ready")
        await coordinator.send(Recall(tasks=(HeldTask(task_id=2, attempt=1), HeldTask(task_id=1, attempt=1))))
        assert_added(await done(coordinator), 3)


async def test_a_failing_task_is_told_with_its_node(home: Home, coordinator: FakeCoordinator) -> None:
    async with running(home, coordinator.url):
        await coordinator.next(Register)
        failing = gather_task(coordinator)
        inputs = failing.inputs
        await coordinator.assign(failing)
        told = await failed(coordinator)
        assert (told.node, told.problem.code) == (1, "compute")
        await coordinator.assign(coordinator.task(2, b"no model", inputs, (output("c", (1,)),)))
        assert (await failed(coordinator)).problem.code == "invalid_model"
        missing = coordinator.task(3, add_model(), (coordinator.tensor("a", LEFT),), (output("c", (3,)),))
        del coordinator.blobs[missing.inputs[0].ref.sha]  # type: ignore[union-attr]
        await coordinator.assign(missing)
        assert (await failed(coordinator)).problem.code == "blob"
        await coordinator.assign(add_task(coordinator, 4))
        assert_added(await done(coordinator), 4)


async def test_a_result_is_delivered_again_after_the_line_broke(
    home: Home, coordinator: FakeCoordinator
) -> None:
    async def break_off(_: Report) -> Reported:
        coordinator.answers[Report] = lambda _: Reported(accepted=1)
        await coordinator.hang_up()
        return Reported(accepted=1)

    coordinator.answers[Report] = break_off
    async with running(home, coordinator.url):
        await coordinator.next(Register)
        await coordinator.assign(add_task(coordinator))
        assert_added(await done(coordinator))
        assert (await coordinator.next(Register)).holding == (HeldTask(task_id=1, attempt=1),)
        assert_added(await done(coordinator))


async def test_computing_goes_on_without_a_line(home: Home, coordinator: FakeCoordinator) -> None:
    async with running(home, coordinator.url):
        await coordinator.next(Register)
        await coordinator.assign(loop_task(coordinator))
        before = await status_when(home, "running")
        await coordinator.hang_up()
        assert (await coordinator.next(Register)).holding == (HeldTask(task_id=1, attempt=1),)
        after = await status_when(home, "running")
        assert after.tasks[0].seconds > before.tasks[0].seconds


async def test_what_others_got_meanwhile_is_dropped(home: Home, coordinator: FakeCoordinator) -> None:
    held = HeldTask(task_id=1, attempt=1)
    async with running(home, coordinator.url):
        await coordinator.next(Register)
        await coordinator.assign(loop_task(coordinator))
        await status_when(home, "running")
        workers = own_workers()
        coordinator.answers[Register] = lambda _: Registered(beat_seconds=0.1, drop=(held,))
        await coordinator.hang_up()
        await coordinator.next(Register)
        assert await gone(workers)
        await coordinator.assign(add_task(coordinator, 1, attempt=2))
        assert_added(await done(coordinator), 1, attempt=2)


async def test_blobs_that_the_coordinator_misses_are_sent_again(
    home: Home, coordinator: FakeCoordinator
) -> None:
    def miss(report: Report) -> Reported:
        coordinator.answers[Report] = lambda _: Reported(accepted=1)
        sha = report.done[0].outputs[0].ref.sha  # type: ignore[union-attr]
        del coordinator.blobs[sha]
        return Reported(missing=(sha,))

    coordinator.answers[Report] = miss
    async with running(home, coordinator.url):
        await coordinator.next(Register)
        await coordinator.assign(matmul_task(coordinator))
        await done(coordinator)
        assert (await done(coordinator)).outputs[0].ref.sha in coordinator.blobs  # type: ignore[union-attr]


@pytest.mark.parametrize("by", ["recall", "beat"])
async def test_a_recalled_task_is_stopped(home: Home, coordinator: FakeCoordinator, by: str) -> None:
    held = HeldTask(task_id=1, attempt=1)
    async with running(home, coordinator.url):
        await coordinator.next(Register)
        await coordinator.assign(loop_task(coordinator))
        await status_when(home, "running")
        workers = own_workers()
        assert workers
        if by == "recall":
            await coordinator.send(Recall(tasks=(held,)))
        else:
            coordinator.drop = (held,)
        assert await gone(workers)
        coordinator.drop = ()
        await coordinator.assign(add_task(coordinator, 2))
        assert_added(await done(coordinator), 2)


async def test_a_coordinator_that_comes_later_is_found(home: Home) -> None:
    """It was there, went, and comes back at the same address."""
    late = FakeCoordinator()
    async with late.listening() as url:
        port = int(url.rsplit(":", 1)[1])
    async with AsyncExitStack() as stack, running(home, url) as daemon:
        while await waiting(home) is None:
            await asyncio.wait({daemon}, timeout=0.05)
        again = FakeCoordinator()
        await stack.enter_async_context(again.listening(port))
        await again.next(Register)


async def waiting(home: Home) -> Status | None:
    """The status, once the daemon waits for a coordinator."""
    try:
        status = await asyncio.to_thread(control.ask, home, "status")
    except NotRunningError:
        return None
    return status if status.link == "waiting" else None


async def test_a_coordinator_that_has_forgotten_it_is_told_again(
    home: Home, coordinator: FakeCoordinator
) -> None:
    def forget(_: Report) -> Refused:
        coordinator.answers[Report] = lambda _: Reported(accepted=1)
        return Refused(problem=GraphStateError("register first").problem)

    coordinator.answers[Report] = forget
    async with running(home, coordinator.url):
        await coordinator.next(Register)
        await coordinator.assign(add_task(coordinator))
        await done(coordinator)
        assert_added(await done(coordinator))


# ── as a process ─────────────────────────────────────────────────────────────────────────────────────────────
@asynccontextmanager
async def process(home: Home, url: str, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`provider start`, with pipes for all three streams."""
    environment = dict(os.environ) | {"RAVENVERSE_HOME": str(home.folder.parent), "RAVENVERSE_TOKEN": "token"}
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "provider", "start", "--url", url, "--name", "tester", *options,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment,
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can catch")
async def test_sigterm_hands_back_a_long_task(home: Home, coordinator: FakeCoordinator) -> None:
    async with process(home, coordinator.url) as daemon:
        await coordinator.next(Register)
        await coordinator.assign(loop_task(coordinator))
        await status_when(home, "running")
        workers = psutil.Process(daemon.pid).children()
        daemon.send_signal(signal.SIGTERM)
        assert await given_back(coordinator) == 1
        assert await daemon.wait() == Exit.STOPPED
    assert await gone(workers)
    assert home.control() is None


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing can be frozen here")
async def test_a_frozen_provider_comes_back_with_what_it_held(
    home: Home, coordinator: FakeCoordinator
) -> None:
    """Meanwhile its worker has computed; the result is delivered late, and what others got is dropped."""
    late, lost = HeldTask(task_id=1, attempt=1), HeldTask(task_id=2, attempt=1)
    async with process(home, coordinator.url) as daemon:
        await coordinator.next(Register)
        coordinator.answers[Report] = lambda _: Refused(problem=GraphStateError("not now").problem)
        await coordinator.assign(add_task(coordinator, 1))
        await coordinator.next(Report)
        coordinator.answers[Register] = lambda _: Registered(beat_seconds=0.1, drop=(lost,))
        coordinator.answers[Report] = lambda _: Reported(accepted=0)
        await coordinator.assign(loop_task(coordinator, 2))
        daemon.send_signal(signal.SIGSTOP)
        await coordinator.hang_up()
        daemon.send_signal(signal.SIGCONT)
        while not isinstance(message := await coordinator.seen.get(), Register):
            assert isinstance(message, Report)
        if message.holding != (lost,):  # it had not delivered before it was frozen
            assert message.holding == (late, lost)
            assert_added(await done(coordinator), 1)
        await coordinator.assign(add_task(coordinator, 3))
        assert_added(await done(coordinator), 3)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of other processes are Linux's")
async def test_a_full_disk_gives_the_task_back_and_rests(home: Home, coordinator: FakeCoordinator) -> None:
    """The system refuses to write files larger than 100 kB, as it would on a full disk."""
    async with process(home, coordinator.url) as daemon:
        await coordinator.next(Register)
        await coordinator.assign(add_task(coordinator, 1))
        assert_added(await done(coordinator))
        watched = psutil.Process(daemon.pid)
        before = watched.rlimit(psutil.RLIMIT_FSIZE)
        watched.rlimit(psutil.RLIMIT_FSIZE, (100_000, before[1]))
        await coordinator.assign(matmul_task(coordinator, 2))
        assert await given_back(coordinator) == 2
        watched.rlimit(psutil.RLIMIT_FSIZE, before)
        assert (await coordinator.next(Register)).holding == ()
        await coordinator.assign(matmul_task(coordinator, 3))
        assert (await done(coordinator)).task_id == 3


async def test_the_end_of_stdin_stops_it_and_a_second_stop_is_more_urgent(
    home: Home, coordinator: FakeCoordinator
) -> None:
    async with process(home, coordinator.url, "--with-stdin") as daemon:
        await coordinator.next(Register)
        await coordinator.assign(loop_task(coordinator, flops=1.0))
        await status_when(home, "running")
        assert daemon.stdin is not None
        daemon.stdin.close()
        while "stopping" not in (await asyncio.to_thread(control.ask, home, "status")).text:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(control.ask, home, "stop")
        assert await given_back(coordinator) == 1
        assert await daemon.wait() == Exit.STOPPED


async def test_a_killed_daemon_takes_its_worker_along_and_leaves_no_lock(
    home: Home, coordinator: FakeCoordinator
) -> None:
    async with process(home, coordinator.url) as daemon:
        await coordinator.next(Register)
        await coordinator.assign(loop_task(coordinator))
        await status_when(home, "running")
        workers = psutil.Process(daemon.pid).children()
        daemon.kill()
        await daemon.wait()
    assert await gone(workers)
    async with running(home, coordinator.url):
        assert (await coordinator.next(Register)).holding == ()


async def test_a_refused_token_ends_it_and_is_told_once(home: Home, coordinator: FakeCoordinator) -> None:
    coordinator.refusal = TokenError("the token is not known")
    async with process(home, coordinator.url) as daemon:
        _, told = await daemon.communicate()
    assert daemon.returncode == Exit.TOKEN
    lines = [line for line in told.decode().splitlines() if "the token is not known" in line]
    assert [line for line in lines if "not connected" not in line] == ["error: the token is not known"]


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────
async def command(home: Home, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a `provider` command, run beside the event loop."""
    runner = CliRunner(env={"RAVENVERSE_HOME": str(home.folder.parent)})
    result = await asyncio.to_thread(runner.invoke, main, list(arguments))
    return result.exit_code, result.output


async def test_status_and_stop(home: Home, coordinator: FakeCoordinator) -> None:
    async with running(home, coordinator.url) as daemon:
        await coordinator.next(Register)
        await coordinator.assign(loop_task(coordinator))
        await status_when(home, "running")
        code, text = await command(home, "status")
        assert (code, "computing task 1" in text) == (0, True)
        code, text = await command(home, "status", "--json")
        assert json.loads(text)[0]["tasks"][0]["label"] == "task 1"
        code, text = await command(
            home, "start", "--name", "tester", "--token", "token", "--url", coordinator.url
        )
        assert (code, "--name" in text) == (Exit.RUNNING, True)
        code, _ = await command(home, "stop")
        assert code == 0
        assert (await daemon).code is Exit.STOPPED
        await given_back(coordinator)
    for asked in ("status", "stop"):
        code, text = await command(home, asked)
        assert (code, "provider start" in text) == (1, True)


async def test_lists_the_graphs_to_work_on(home: Home, coordinator: FakeCoordinator) -> None:
    info = GraphInfo(
        graph_id="0123456789abcdef", name="[red]a long name of somebody's graph[/red]", state="executing", fraction=0.25,
        steps_done=1, steps_total=4, tasks_done=1, tasks_running=2, tasks_queued=3, providers=1, created=0.0,
    )  # fmt: skip
    coordinator.answers[JoinableGraphs] = lambda _: Graphs(graphs=(info,))
    asked = ("graphs", "--token", "token", "--url", coordinator.url)
    code, text = await command(home, *asked)
    assert (code, text.count("\n")) == (0, 5)
    for part in (info.graph_id, info.name, "executing", "25%"):
        assert part in text, "a graph's name is text, not markup, and nothing is wrapped"
    code, text = await command(home, *asked, "--json")
    assert [one["graph_id"] for one in json.loads(text)] == [info.graph_id]
    coordinator.refusal = TokenError("the token is not known")
    code, text = await command(home, *asked)
    assert (code, text.splitlines()[0]) == (1, "error: the token is not known")


@pytest.mark.parametrize(
    "arguments",
    [
        ["start", "--url", "ftp://x", "--token", "t"],
        ["start", "--token", "t", "--slots", "0"],
        ["start", "--token", "t", "--max-memory", "much"],
        ["start"],
    ],
)
async def test_wrong_options_are_usage_errors(home: Home, arguments: list[str]) -> None:
    code, text = await command(home, *arguments)
    assert code == 2
    assert "Error" in text


async def test_nobody_without_the_secret_is_heard(home: Home, coordinator: FakeCoordinator) -> None:
    async with running(home, coordinator.url) as daemon:
        await coordinator.next(Register)
        found = home.control()
        assert found is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
        writer.write(b'{"secret": "guess", "command": "stop"}\n')
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert not daemon.done()
        assert "stopping" not in (await asyncio.to_thread(control.ask, home, "status")).text
