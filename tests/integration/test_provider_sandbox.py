"""The sandbox with real worker processes: what they compute, and what ends them."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio
from onnx import TensorProto, helper
from subgraphs import (
    FLOAT,
    FOR_EVER,
    add_model,
    gather_model,
    inline,
    loop_inputs,
    loop_model,
    matmul_model,
    model,
    node,
    output,
)

from provider.sandbox import Sandbox
from provider.wire import HEADER, Ran, Run, pack
from ravop.errors import (
    BlobError,
    ComputeError,
    CrashedError,
    DeadlineError,
    InvalidModelError,
    OutOfMemoryError,
    error_from_problem,
)
from ravop.protocol.messages import Earlier, OutputSpec, Task, TaskInput
from ravop.protocol.tensors import Array, Blob, decode_tensor, encode_tensor, sha256

MIB = 1024 * 1024
PutBlob = Callable[[bytes], str]
ROOT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(scope="module")
def put(folder: Path) -> PutBlob:
    """Puts bytes into the cache folder and gives their name."""
    blobs = folder / "blobs"
    blobs.mkdir()

    def write(data: bytes) -> str:
        (blobs / sha256(data)).write_bytes(data)
        return sha256(data)

    return write


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(folder: Path, put: PutBlob) -> AsyncIterator[Sandbox]:
    """One for all tests: whatever a test did to its worker, the next one finds a fit one."""
    sandbox = Sandbox(folder / "slot", folder / "blobs", memory=256 * MIB, threads=1)
    yield sandbox
    await sandbox.close()


def task(
    subgraph: str, inputs: tuple[TaskInput, ...] = (), outputs: tuple[OutputSpec, ...] = (), number: int = 1
) -> Task:
    return Task(
        task_id=number, attempt=1, graph_id="g", label="", subgraph=subgraph, inputs=inputs, outputs=outputs,
        flops=1.0, peak_memory=0, lease_seconds=60.0,
    )  # fmt: skip


def add_task(put: PutBlob) -> Task:
    inputs = (inline("a", [1, 2, np.nan]), inline("b", [1, np.inf, 1]))
    return task(put(add_model()), inputs, (output("c", (3,)),))


def loop_task(put: PutBlob, rounds: int = FOR_EVER, side: int = 2) -> Task:
    return task(put(loop_model()), loop_inputs(rounds, side), (output("sum", ()),))


async def compute(sandbox: Sandbox, *tasks: Task, seconds: float = 60.0) -> Ran:
    """Raises what the worker tells of the first task that failed."""
    ran = await sandbox.run(tasks, seconds)
    if ran.problem is not None:
        raise error_from_problem(ran.problem)
    return ran


def value(ran: Ran, place: int = 0, index: int = 0) -> Array:
    return decode_tensor(ran.results[place].outputs[index].data)


async def assert_fit(sandbox: Sandbox, put: PutBlob) -> None:
    """The sandbox computes, whatever happened before."""
    ran = await compute(sandbox, add_task(put))
    np.testing.assert_array_equal(value(ran), np.array([2, np.inf, np.nan], "float32"))


async def ended(pid: int) -> bool:
    """Whether the process ends soon."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return True
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [process], 10)
    return bool(gone)


async def busy(sandbox: Sandbox, computing: asyncio.Task[Ran]) -> psutil.Process:
    """The worker, once it computes: nothing else takes so much of its time."""
    while sandbox.pid is None:
        await asyncio.wait({computing}, timeout=0.01)
    process = psutil.Process(sandbox.pid)
    start = process.cpu_times().user
    while process.cpu_times().user < start + 0.3:
        await asyncio.wait({computing}, timeout=0.01)
        assert not computing.done()
    return process


async def test_large_tensors_go_by_file(sandbox: Sandbox, put: PutBlob) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(300, 300)).astype("float32") for _ in "ab")

    def blob(array: Array) -> Blob:
        data = encode_tensor(array)
        return Blob(put(data), len(data))

    large = task(
        put(matmul_model(300)),
        (TaskInput(name="a", ref=blob(a)), TaskInput(name="b", ref=blob(b))),
        (output("c", (300, 300)),),
    )
    ran = await compute(sandbox, large)
    data = sandbox.outputs(ran)[0].read_bytes()
    np.testing.assert_allclose(decode_tensor(data), a @ b, rtol=1e-4, atol=1e-4)
    assert data == encode_tensor(decode_tensor(data)), "a file holds the very bytes that a message would"


async def test_the_worker_is_kept_and_has_neither_token_nor_privileges(
    sandbox: Sandbox, put: PutBlob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAVENVERSE_TOKEN", "a-secret-token")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    await sandbox.close()
    await assert_fit(sandbox, put)
    pid = sandbox.pid
    await assert_fit(sandbox, put)
    assert sandbox.pid == pid
    worker = psutil.Process(pid)
    environment = worker.environ()
    assert "a-secret-token" not in environment.values()
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    if sys.platform.startswith("linux"):
        assert worker.nice() > psutil.Process().nice()
        assert worker.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert 0 < worker.rlimit(psutil.RLIMIT_DATA)[1] < 2**40


async def test_a_killed_worker_fails_the_task_and_is_replaced(sandbox: Sandbox, put: PutBlob) -> None:
    computing = asyncio.create_task(compute(sandbox, loop_task(put)))
    worker = await busy(sandbox, computing)
    worker.kill()
    with pytest.raises(CrashedError, match="SIGKILL" if os.name == "posix" else "died"):
        await computing
    await assert_fit(sandbox, put)
    assert sandbox.pid != worker.pid


@pytest.fixture
def slow_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio learns of the end of a process only some time after it, as on a busy machine."""
    waitpid = os.waitpid

    def wait(pid: int, options: int) -> tuple[int, int]:
        if options == 0:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            time.sleep(0.1)
        return waitpid(pid, options)

    monkeypatch.setattr(os, "waitpid", wait)


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="only there a process is reaped by who waits first")
@pytest.mark.usefixtures("slow_watcher")
async def test_nobody_takes_the_exit_code_away(
    sandbox: Sandbox, put: PutBlob, caplog: pytest.LogCaptureFixture
) -> None:
    loop, unhandled = asyncio.get_running_loop(), list[dict[str, object]]()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    computing = asyncio.create_task(compute(sandbox, loop_task(put)))
    await busy(sandbox, computing)
    computing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await computing
    computing = asyncio.create_task(compute(sandbox, loop_task(put)))
    worker = await busy(sandbox, computing)
    worker.kill()
    with pytest.raises(CrashedError, match="SIGKILL"):
        await computing
    await sandbox.close()
    del computing
    gc.collect()
    loop.set_exception_handler(None)
    assert not unhandled
    assert not caplog.records


async def test_a_worker_that_died_idle_is_no_tasks_fault(sandbox: Sandbox, put: PutBlob) -> None:
    await sandbox.start()
    assert sandbox.pid is not None
    psutil.Process(sandbox.pid).kill()
    while sandbox.pid is not None:
        await asyncio.sleep(0.01)
    await assert_fit(sandbox, put)


async def test_a_crash_reports_the_last_words(sandbox: Sandbox, put: PutBlob) -> None:
    computing = asyncio.create_task(compute(sandbox, loop_task(put)))
    worker = await busy(sandbox, computing)
    worker.send_signal(signal.SIGABRT)
    with pytest.raises(CrashedError, match="SIGABRT"):
        await computing


@pytest.mark.parametrize(
    ("rounds", "side"),
    [(1, 16_000), (10**9, 9_000)],
    ids=["at once, stopped by the system", "lasting, seen by the watch"],
)
async def test_too_much_memory(sandbox: Sandbox, put: PutBlob, rounds: int, side: int) -> None:
    await assert_fit(sandbox, put)
    with pytest.raises(OutOfMemoryError) as caught:
        await compute(sandbox, loop_task(put, rounds, side))
    assert caught.value.problem.code == "out_of_memory"
    await assert_fit(sandbox, put)


async def test_too_much_time(sandbox: Sandbox, put: PutBlob) -> None:
    await assert_fit(sandbox, put)
    pid, start = sandbox.pid, time.monotonic()
    with pytest.raises(DeadlineError):
        await compute(sandbox, loop_task(put), seconds=0.3)
    assert time.monotonic() - start < 5
    assert pid is not None
    assert await ended(pid)
    await assert_fit(sandbox, put)


async def test_cancelling_ends_the_worker(sandbox: Sandbox, put: PutBlob) -> None:
    computing = asyncio.create_task(compute(sandbox, loop_task(put)))
    worker = await busy(sandbox, computing)
    computing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await computing
    assert await ended(worker.pid)
    await assert_fit(sandbox, put)


async def test_a_run_that_is_broken_off_leaves_no_files(sandbox: Sandbox, put: PutBlob, folder: Path) -> None:
    def files() -> set[Path]:
        return set((folder / "slot").glob("*.npy"))

    data = encode_tensor(np.eye(200, dtype="float32"))
    blob = Blob(put(data), len(data))
    large = task(
        put(matmul_model(200)),
        (TaskInput(name="a", ref=blob), TaskInput(name="b", ref=blob)),
        (output("c", (200, 200)),),
    )
    await compute(sandbox, large)
    kept = files()
    assert kept
    computing = asyncio.create_task(compute(sandbox, large, loop_task(put)))
    await busy(sandbox, computing)
    assert files() > kept
    computing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await computing
    assert files() == kept, "results of an earlier run are still wanted"


def foreign_model() -> bytes:
    alien = model(
        [node("Gelu", ["a"], ["c"], domain="com.microsoft")], {"a": (FLOAT, [3])}, {"c": (FLOAT, [3])}
    )
    alien.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return alien.SerializeToString()


async def test_refused_tasks_leave_the_worker_alone(sandbox: Sandbox, put: PutBlob) -> None:
    """Models and inputs that are refused fail with their own error, and the same process goes on."""
    await assert_fit(sandbox, put)
    pid = sandbox.pid
    good = add_task(put)
    a, b = good.inputs
    promised = good.outputs
    size = len(encode_tensor(np.ones(3, "float32")))
    blob = Blob(put(encode_tensor(np.ones(3, "float32"))), size + 1)
    refused: list[tuple[type[Exception], Task]] = [
        (InvalidModelError, task(put(b"not a model"))),
        (InvalidModelError, task(put(foreign_model()), (a,), promised)),
        (BlobError, task("0" * 64)),
        (BlobError, task(good.subgraph, (TaskInput(name="a", ref=blob), b), promised)),
        (ComputeError, task(good.subgraph, (a,), promised)),
        (ComputeError, task(good.subgraph, (inline("a", [1, 2]), b), promised)),
        (ComputeError, task(good.subgraph, (a, b), (output("c", (4,)),))),
        (ComputeError, task(good.subgraph, (a, b), (output("c", (3,), "int64"),))),
        (ComputeError, task(good.subgraph, (a, b), (output("d", (3,)),))),
    ]
    for error, bad in refused:
        with pytest.raises(error):
            await compute(sandbox, bad)
    await assert_fit(sandbox, put)
    assert sandbox.pid == pid


async def test_an_engine_error_names_the_node(sandbox: Sandbox, put: PutBlob) -> None:
    with pytest.raises(ComputeError) as caught:
        await compute(sandbox, gather_task(put))
    assert caught.value.problem.op == "n1"


def gather_task(put: PutBlob, index: int = 7) -> Task:
    """It fails for an index out of range."""
    inputs = (inline("a", [1, 2, 3]), inline("i", [index], "int64"))
    return task(put(gather_model()), inputs, (output("c", (1,)),))


# ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────
def fibonacci(put: PutBlob, length: int) -> list[Task]:
    """Each adds the outputs of the two before it."""

    def given(name: str, place: int) -> TaskInput:
        return (
            inline(name, [1, 1, 1])
            if place < 0
            else TaskInput(name=name, ref=Earlier(task=place, output="c"))
        )

    return [
        task(put(add_model()), (given("a", n - 2), given("b", n - 1)), (output("c", (3,)),), n)
        for n in range(length)
    ]


async def test_outputs_go_on_to_later_tasks_of_a_batch(sandbox: Sandbox, put: PutBlob) -> None:
    ran = await compute(sandbox, *fibonacci(put, 30))
    before = [1, 1]
    for place in range(30):
        before.append(sum(before[-2:]))
        np.testing.assert_array_equal(value(ran, place), np.full(3, before[-1], "float32"))


async def test_large_outputs_go_on_to_later_tasks_too(sandbox: Sandbox, put: PutBlob) -> None:
    data = encode_tensor(np.eye(200, dtype="float32") * 2)
    blob = Blob(put(data), len(data))
    chain = [
        task(
            put(matmul_model(200)),
            (
                TaskInput(name="a", ref=blob),
                TaskInput(name="b", ref=Earlier(task=n - 1, output="c") if n else blob),
            ),
            (output("c", (200, 200)),),
        )
        for n in range(3)
    ]
    ran = await compute(sandbox, *chain)
    files = sandbox.outputs(ran)
    assert len(files) == 3
    for number, scale in enumerate([4, 8, 16]):
        made = decode_tensor(files[number].read_bytes())
        np.testing.assert_array_equal(made, np.eye(200, dtype="float32") * scale)


async def test_a_batch_ends_at_the_task_that_fails(sandbox: Sandbox, put: PutBlob) -> None:
    ran = await sandbox.run([add_task(put), gather_task(put, 1), gather_task(put, 7), add_task(put)], 30)
    assert len(ran.results) == 2
    np.testing.assert_array_equal(value(ran, 1), np.array([-2], "float32"))
    assert ran.problem is not None
    assert (ran.problem.code, ran.problem.op) == ("compute", "n1")
    await assert_fit(sandbox, put)


async def test_the_task_that_killed_the_worker_is_known(sandbox: Sandbox, put: PutBlob) -> None:
    batch = [add_task(put), add_task(put), loop_task(put), add_task(put)]
    computing = asyncio.create_task(compute(sandbox, *batch))
    (await busy(sandbox, computing)).kill()
    with pytest.raises(CrashedError):
        await computing
    assert sandbox.place == 2
    with pytest.raises(DeadlineError):
        await compute(sandbox, add_task(put), loop_task(put), seconds=0.5)
    assert sandbox.place == 1


async def test_measures_the_engine(sandbox: Sandbox) -> None:
    await sandbox.start()
    start = time.monotonic()
    measured = await sandbox.measure()
    assert time.monotonic() - start < 5
    assert measured.matmul_gflops > 0.05
    assert measured.conv_gflops > 0.05


ORPHAN = """
import asyncio, sys
from pathlib import Path
from provider.sandbox import Sandbox
from provider.wire import ToWorker, unpack

async def main():
    folder = Path(sys.argv[1])
    sandbox = Sandbox(folder / "orphan", folder / "blobs", 2**28, 1)
    run = unpack((folder / "run").read_bytes(), ToWorker)
    await sandbox.start()
    print(sandbox.pid, flush=True)
    await sandbox.run(run.tasks, 1000)

asyncio.run(main())
"""


async def test_the_worker_dies_with_the_daemon(folder: Path, put: PutBlob) -> None:
    """Killed with -9 in the middle of a task, the daemon cannot tidy up: the worker has to notice."""
    run = Run(number=1, tasks=(loop_task(put),))
    (folder / "run").write_bytes(pack(run)[HEADER.size :])
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(folder)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as daemon:
        assert daemon.stdout is not None
        worker = psutil.Process(int(await asyncio.to_thread(daemon.stdout.readline)))
        start = worker.cpu_times().user
        while worker.cpu_times().user < start + 0.2:
            await asyncio.sleep(0.01)
        daemon.kill()
    assert await ended(worker.pid)


async def test_what_the_engine_cannot_compute_is_computed_slowly_and_told_once(
    sandbox: Sandbox, put: PutBlob
) -> None:
    ports = {"x": (TensorProto.DOUBLE, [2])}
    erf = model([node("Erf", ["x"], ["y"])], ports, {"y": (TensorProto.DOUBLE, [2])})
    again = task(
        put(erf.SerializeToString()), (inline("x", [0.5, 0], "float64"),), (output("y", (2,), "float64"),)
    )
    ran = await compute(sandbox, again)
    np.testing.assert_allclose(value(ran), [math.erf(0.5), 0], rtol=1e-6)
    assert ["Erf" in reason for reason in ran.slow] == [True]
    assert (await compute(sandbox, again)).slow == ()


async def test_narrow_dtypes_go_in_and_out(sandbox: Sandbox, put: PutBlob) -> None:
    ports = {name: (TensorProto.BFLOAT16, [2]) for name in "xy"}
    added = model([node("Add", ["x", "y"], ["z"])], ports, {"z": (TensorProto.BFLOAT16, [2])})
    inputs = (inline("x", [1.5, -2], "bfloat16"), inline("y", [1, 0.25], "bfloat16"))
    ran = await compute(
        sandbox, task(put(added.SerializeToString()), inputs, (output("z", (2,), "bfloat16"),))
    )
    assert value(ran).dtype == "bfloat16"
    np.testing.assert_array_equal(value(ran).astype(np.float32), [2.5, -1.75])
    assert ran.slow == ()
