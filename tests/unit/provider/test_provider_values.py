"""What the provider reads and says: sizes, names, tasks, texts, frames."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider import home
from provider.connection import pieces
from provider.core.batches import Held, Stage
from provider.core.describe import NO_WORK, describe
from provider.core.state import Link, State, Stop
from provider.core.tasks import Limits, check_task, node_index
from provider.home import Control, Home
from provider.limits import clean_environment
from provider.settings import clean_name, default_memory, sends_in_the_clear
from provider.wire import (
    HEADER,
    MAX_FRAME,
    FromWorker,
    Measured,
    Ran,
    Ready,
    ToWorker,
    body_length,
    pack,
    unpack,
)
from ravop.errors import (
    AlreadyRunningError,
    ArgumentError,
    InvalidModelError,
    MessageError,
    OutOfMemoryError,
    Problem,
    RavenError,
    StorageFullError,
)
from ravop.protocol.messages import (
    Earlier,
    HeldTask,
    Output,
    OutputSpec,
    Report,
    Task,
    TaskInput,
    TaskResult,
    encode,
)
from ravop.protocol.tensors import Blob, Inline
from ravop.sizes import parse_size

LIMITS = Limits(memory=1_000_000, disk=1_000_000)
GOOD = Task(
    task_id=1,
    attempt=1,
    graph_id="g",
    label="iterations 0 to 9",
    subgraph="0" * 64,
    inputs=(TaskInput(name="x", ref=Blob("1" * 64, 1_000_000)),),
    outputs=(OutputSpec(name="y", dtype="float32", shape=(None, 100)),),
    flops=0.0,
    peak_memory=0,
    lease_seconds=30.0,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("4GiB", 4 * 2**30),
        ("500MB", 500_000_000),
        ("1.5k", 1500),
        (" 2 tib ", 2 * 2**40),
        ("7b", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 PB", "four", "0", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ArgumentError):
        parse_size(text)


@given(st.text(max_size=200))
def test_names_fit_into_file_names(text: str) -> None:
    name = clean_name(text)
    assert "/" not in name
    assert "\\" not in name
    assert not name.startswith(".")
    assert len(name) <= 80
    assert clean_name(name) == name


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        ("http://127.0.0.1:9999", False),
        ("http://localhost:9999", False),
        ("http://[::1]:9999", False),
        ("https://raven.example.org", False),
        ("http://raven.example.org", True),
        ("http://192.168.1.7:9999", True),
    ],
)
def test_warns_of_networks_that_others_can_read(url: str, clear: bool) -> None:
    assert sends_in_the_clear(url) is clear


def test_memory_by_default_leaves_half_to_the_owner() -> None:
    assert 0 < default_memory(1) <= 4 * 2**30
    assert default_memory(1000) * 1000 < 2**50
    assert default_memory(64) < default_memory(1) or default_memory(1) == 4 * 2**30


REPLACED: list[tuple[type[RavenError], dict[str, object]]] = [
    (MessageError, {"inputs": GOOD.inputs * 2}),
    (MessageError, {"outputs": GOOD.outputs * 2}),
    (MessageError, {"flops": float("nan")}),
    (MessageError, {"flops": -1.0}),
    (MessageError, {"lease_seconds": float("inf")}),
    (MessageError, {"outputs": (OutputSpec(name="y", dtype="object", shape=()),)}),
    (MessageError, {"outputs": (OutputSpec(name="y", dtype="float32", shape=(-1,)),)}),
    (OutOfMemoryError, {"outputs": (OutputSpec(name="y", dtype="float64", shape=(2**40, 2**40)),)}),
    (OutOfMemoryError, {"peak_memory": 1_000_001}),
    (InvalidModelError, {"sizes": {"0" * 64: 2**40}}),
    (StorageFullError, {"inputs": (TaskInput(name="x", ref=Blob("1" * 64, 1_000_001)),)}),
]


@pytest.mark.parametrize(("error", "changes"), REPLACED)
def test_tasks_are_judged_on_arrival(error: type[RavenError], changes: dict[str, object]) -> None:
    check_task(GOOD, LIMITS)
    with pytest.raises(error):
        check_task(msgspec.structs.replace(GOOD, **changes), LIMITS)


@pytest.mark.parametrize(
    ("ref", "before"),
    [
        (Earlier(task=0, output="y"), ()),
        (Earlier(task=1, output="y"), (GOOD,)),
        (Earlier(task=0, output="z"), (GOOD,)),
    ],
)
def test_a_task_takes_inputs_only_from_what_earlier_ones_give(ref: Earlier, before: tuple[Task, ...]) -> None:
    check_task(_taking(Earlier(task=0, output="y")), LIMITS, (GOOD,))
    with pytest.raises(MessageError):
        check_task(_taking(ref), LIMITS, before)


def _taking(ref: Earlier) -> Task:
    return msgspec.structs.replace(GOOD, inputs=(TaskInput(name="x", ref=ref),))


@given(st.lists(st.integers(0, 5_000_000), max_size=20))
def test_a_report_is_cut_into_messages_of_bounded_size(sizes: list[int]) -> None:
    done = tuple(
        TaskResult(
            task_id=n,
            attempt=1,
            outputs=(Output(name="y", ref=Inline(bytes(size % 65_000))),) * 70,
            seconds=0.0,
        )
        for n, size in enumerate(sizes)
    )
    whole = Report(done=done, returned=(HeldTask(task_id=99, attempt=1),))
    parts = list(pieces(whole))
    assert tuple(result for part in parts for result in part.done) == done
    assert parts[-1].returned == whole.returned
    for part in parts:
        encode(part)


@pytest.mark.parametrize(
    ("op", "index"), [("n17", 17), ("n0", 0), ("", None), ("dense/MatMul_3", None), ("n", None)]
)
def test_node_names(op: str, index: int | None) -> None:
    assert node_index(op) == index


@pytest.mark.parametrize("link", Link)
@pytest.mark.parametrize("stop", Stop)
def test_there_is_a_text_for_every_state(link: Link, stop: Stop) -> None:
    problem = Problem(code="unreachable", message="nobody answers")
    state = State(slots=1, limits=LIMITS, pace=1.0, link=link, stop=stop, problem=problem, pause=4.0)
    text = describe(state)
    assert text
    assert ("stopping" in text) == (stop is not Stop.NO)
    assert ("nobody answers" in text) == (link is Link.WAITING)


def test_texts_say_what_goes_on_and_why_it_waits() -> None:
    def text(*stages: Stage, waiting: str = "") -> str:
        held = tuple(
            Held(number=n, tasks=(GOOD,), stage=stage, arrived=0.0) for n, stage in enumerate(stages)
        )
        return describe(State(slots=1, limits=LIMITS, pace=1.0, link=Link.ONLINE, held=held), waiting)

    assert text() == f"waiting for work: {NO_WORK}"
    assert text(waiting="no subgraph is ready") == "waiting for work: no subgraph is ready"
    assert text(Stage.PREPARING) == "fetching inputs of iterations 0 to 9"
    assert text(Stage.PREPARING, Stage.RUNNING) == "computing iterations 0 to 9 (1 more)"
    assert text(Stage.DELIVERING) == "delivering iterations 0 to 9"


# ── frames between daemon and worker ─────────────────────────────────────────────────────────────────────────
@given(st.text(max_size=200), st.integers(7, 30))
def test_frames_come_back(engine: str, opset: int) -> None:
    frame = pack(Ready(engine=engine, opset=opset))
    length = body_length(frame[: HEADER.size])
    assert unpack(frame[HEADER.size :], FromWorker) == Ready(engine=engine, opset=opset)
    assert length == len(frame) - HEADER.size


@given(st.binary(max_size=300))
def test_nonsense_is_refused(data: bytes) -> None:
    for expect in (ToWorker, FromWorker):
        try:
            message = unpack(data, expect)
        except MessageError:
            continue
        assert unpack(pack(message)[HEADER.size :], expect) == message


def test_frames_are_bounded() -> None:
    with pytest.raises(MessageError):
        body_length(HEADER.pack(MAX_FRAME + 1))
    with pytest.raises(MessageError):
        unpack(msgspec.msgpack.encode({"type": "Ran", "results": [[[], -1.0]]}), FromWorker)
    assert isinstance(unpack(msgspec.msgpack.encode(Ran(results=())), FromWorker), Ran)


def test_workers_get_no_secrets() -> None:
    kept = clean_environment(
        {"PATH": "/bin", "RAVENVERSE_TOKEN": "t", "HOME": "/root", "SSH_AUTH_SOCK": "s"}, 3
    )
    assert kept["PATH"] == "/bin"
    assert kept["OMP_NUM_THREADS"] == "3"
    assert not {"RAVENVERSE_TOKEN", "HOME", "SSH_AUTH_SOCK"} & set(kept)


# ── the state folder ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_provider_is_known_by_installation_and_token(tmp_path: Path) -> None:
    place = Home(tmp_path, "one")
    place.folder.mkdir()
    first = place.provider_id("token")
    assert Home(tmp_path, "one").provider_id("token") == first
    assert place.provider_id("other token") != first
    other = Home(tmp_path, "two")
    other.folder.mkdir()
    assert other.provider_id("token") != first


def test_one_provider_of_a_name(tmp_path: Path) -> None:
    with Home(tmp_path, "one").lock():
        with (
            pytest.raises(AlreadyRunningError, match="provider stop --name one"),
            Home(tmp_path, "one").lock(),
        ):
            pass
        with Home(tmp_path, "two").lock():
            pass
    with Home(tmp_path, "one").lock():
        pass
    assert home.names(tmp_path) == ["one", "two"]


def test_speed_is_kept_for_engine_and_threads(tmp_path: Path) -> None:
    place = Home(tmp_path, "one")
    place.folder.mkdir()
    measured = Measured(matmul_gflops=50.0, conv_gflops=30.0)
    place.keep_speed("engine 1", 2, measured)
    assert place.speed("engine 1", 2) == measured
    assert place.speed("engine 2", 2) is None
    assert place.speed("engine 1", 1) is None


def test_the_control_file_is_the_users_alone_and_goes_with_the_daemon(tmp_path: Path) -> None:
    place = Home(tmp_path, "one")
    place.folder.mkdir()
    control = Control(port=1, secret="s", pid=os.getpid())
    with place.announce(control):
        assert place.control() == control
        if sys.platform != "win32":
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.folder.iterdir()}
            assert modes == {"control.json": 0o600}
    assert place.control() is None


def test_a_damaged_state_file_counts_as_none(tmp_path: Path) -> None:
    place = Home(tmp_path, "one")
    place.folder.mkdir()
    (place.folder / "speed.json").write_text("{")
    assert place.speed("engine", 1) is None
