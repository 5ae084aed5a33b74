"""All messages of the control plane, typed once.

A message travels as one Socket.IO event named `EVENT` with one binary argument, `encode(message)`; its acknowledgement
is again an encoded message (`Refused` where the call was not accepted). Frozen structs; the field types and bounds
are checked by `decode` on arrival on both ends.

Direction is part of the type: `FromRequester`, `FromProvider`, `ToRequester`, `ToProvider`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ravop.errors import MessageError, Problem, VersionError
from ravop.protocol.fields import Count, Gflops, Id, Name, Seconds, Sha, Text, Trace
from ravop.protocol.parts import Compute, Part, Repeat, Step
from ravop.protocol.tensors import Blob, TensorRef, blobs_of
from ravop.protocol.versions import ADDED, OLDEST, VERSION, spoken

EVENT = "raven"
MAX_MESSAGE = 8 * 1024 * 1024
"""Bytes of one encoded message. Tensors larger than `tensors.INLINE_LIMIT` travel as blobs."""
MAX_BATCH = 1024
"""Tasks in one `Assign`."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="t", forbid_unknown_fields=True):
    """Base of every message; the tag is the class name."""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """Socket.IO `auth` of a new connection, as plain JSON: who am I and which protocol shall we speak."""

    token: Annotated[str, Meta(max_length=400)]
    role: Annotated[str, Meta(pattern="^(requester|provider)$")]
    protocol: int = VERSION
    software: Annotated[str, Meta(max_length=80)] = ""


# ── replies used by both ─────────────────────────────────────────────────────────────────────────────────────────────
class Done(Message, frozen=True, kw_only=True):
    """Acknowledged; nothing else to say."""


class Refused(Message, frozen=True, kw_only=True):
    """The call was not accepted; `problem` says why and what to do."""

    problem: Problem


# ── requester → coordinator ──────────────────────────────────────────────────────────────────────────────────────────
class Activate(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Persist and plan a graph. Model, manifest and input blobs were PUT before. → `Activated`. Idempotent."""

    graph_id: Id
    model: Sha
    manifest: Sha
    trace: Trace = ""


class Execute(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Start an active graph. → `Done`. Idempotent while executing; a failed graph starts again from what it has."""

    graph_id: Id
    trace: Trace = ""


class Cancel(Message, frozen=True, kw_only=True):
    """→ `Done`. Leased tasks are recalled."""

    graph_id: Id


class Flush(Message, frozen=True, kw_only=True):
    """Delete this requester's graphs that are not executing, with their results. → `Graphs` (those left)."""


class ListGraphs(Message, frozen=True, kw_only=True, omit_defaults=True):
    """→ `Graphs`, newest first."""

    state: Annotated[str, Meta(max_length=20)] = ""
    """Those in this state alone; all without."""


class GetGraph(Message, frozen=True, kw_only=True):
    """→ `GraphInfo`."""

    graph_id: Id


class Watch(Message, frozen=True, kw_only=True):
    """Subscribe this connection to the graph's progress. → `GraphInfo`; then `GraphInfo` events as it changes."""

    graph_id: Id


class Fetch(Message, frozen=True, kw_only=True):
    """Values of persisted names. → `Fetched`, one entry per name, in order."""

    graph_id: Id
    names: Annotated[tuple[Name, ...], Meta(max_length=10_000)]


class ListProviders(Message, frozen=True, kw_only=True):
    """→ `Providers`."""


FromRequester = Activate | Execute | Cancel | Flush | ListGraphs | GetGraph | Watch | Fetch | ListProviders


# ── coordinator → requester ──────────────────────────────────────────────────────────────────────────────────────────
class UnitSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One subgraph of a plan, or one loop, for people to read."""

    label: Text
    kind: str
    """`subgraph`, `loop (opened)`, `loop (chunked)`, `loop (chunked, up to 4 side by side)` where several providers can run
    an iteration together, or `loop (in 8 ranges)` where they can share the iterations."""
    nodes: Count
    flops: float
    """Floating-point operations over all iterations."""
    bytes_in: Count
    bytes_out: Count
    peak_memory: Count
    iterations: Count = 1


class PlanSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What `R.activate()` shows. Seconds are estimates from the fleet's measured speed."""

    units: tuple[UnitSummary, ...]
    flops: float
    steps: Count
    useful_providers: Count
    fleet_seconds: Seconds | None
    """None while no provider is connected."""
    single_seconds: Seconds | None
    notes: tuple[str, ...] = ()


class Activated(Message, frozen=True, kw_only=True):
    graph_id: Id
    plan: PlanSummary


class PersistedInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One persisted name or series (`template` with `{}` for each index) and how much of it is there."""

    name: Name
    dtype: str
    shape: tuple[int | str | None, ...]
    axes: Count = 0
    """How many leading axes the `{}` of a series' name stand for."""
    first: tuple[int, ...] = ()
    """What each `{}` counts from."""
    done: bool = False
    available: Count = 0
    """How many elements of a series' first axis are computed."""
    inner: bool = False
    """Kept by a library, such as the weights of a model; the script did not name it."""


class GraphInfo(Message, frozen=True, kw_only=True):
    """A graph and its progress; reply and event. Times are seconds since 1970 on the coordinator's clock."""

    graph_id: Id
    name: Text
    algorithm: Text = ""
    approach: Text = "distributed"
    state: str
    """`active`, `executing`, `done`, `failed` or `cancelled`."""
    fraction: float
    """Of the estimated work, 0 to 1."""
    steps_done: Count
    steps_total: Count
    tasks_done: Count
    tasks_running: Count
    tasks_queued: Count
    providers: Count
    """Providers connected that could work on this graph."""
    created: float
    started: float | None = None
    finished: float | None = None
    eta: Seconds | None = None
    metrics: dict[str, float] = {}
    """The latest value of each scalar series the manifest asks to report, such as `loss`."""
    waiting: Text = ""
    """Why nothing runs, when nothing runs."""
    problem: Problem | None = None
    persisted: tuple[PersistedInfo, ...] = ()
    """Filled in the reply to `GetGraph` and `Watch`, empty in events."""


class Graphs(Message, frozen=True, kw_only=True):
    graphs: tuple[GraphInfo, ...]


class FetchedValue(msgspec.Struct, frozen=True, kw_only=True):
    """Either `value` or `problem` (`unknown_name`, `not_computed`, `graph_failed`, …)."""

    name: Name
    value: TensorRef | None = None
    problem: Problem | None = None


class Fetched(Message, frozen=True, kw_only=True):
    values: tuple[FetchedValue, ...]


class ProviderInfo(msgspec.Struct, frozen=True, kw_only=True):
    provider_id: Id
    name: Text
    connected: bool
    slots: Count
    gflops: float
    """Of one slot, as measured where it has computed, else as claimed."""
    busy: Count
    tasks_done: Count = 0
    link: float = 0.0
    """Bytes a second of its line, 0 while nothing was seen of it."""
    software: str = ""
    resting: str = ""
    """Why it gets no work for now (it failed too often), or empty."""


class Providers(Message, frozen=True, kw_only=True):
    providers: tuple[ProviderInfo, ...]


ToRequester = Done | Refused | Activated | GraphInfo | Graphs | Fetched | Providers


# ── provider → coordinator ───────────────────────────────────────────────────────────────────────────────────────────
class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider measured of itself."""

    name: Annotated[str, Meta(max_length=200)]
    slots: Annotated[int, Meta(ge=1, le=1024)]
    threads: Annotated[int, Meta(ge=1, le=4096)]
    """Engine threads per slot."""
    memory: Count
    """Bytes one subgraph may use."""
    matmul_gflops: Gflops
    conv_gflops: Gflops
    engine: str
    """Name and version, such as `onnxruntime 1.31.1`."""
    opset: Annotated[int, Meta(ge=7)]
    platform: Annotated[str, Meta(max_length=200)]
    software: Annotated[str, Meta(max_length=80)]


class HeldTask(msgspec.Struct, frozen=True, kw_only=True):
    task_id: Count
    attempt: Count


class Register(Message, frozen=True, kw_only=True):
    """First message after connecting. `provider_id` is made by the provider once and kept. → `Registered`."""

    provider_id: Id
    profile: Profile
    graph_id: Id | None = None
    """Work on this graph only."""
    holding: tuple[HeldTask, ...] = ()
    """Attempts still being computed or with a result to deliver, after a reconnect."""


class Beat(Message, frozen=True, kw_only=True):
    """Every `Registered.beat_seconds`: I live, and this is what I hold. → `Beaten`."""

    holding: tuple[HeldTask, ...] = ()
    doing: Text = ""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """One result. `ref` is `Inline` or `Blob`; the blob was PUT before."""

    name: Name
    ref: TensorRef


class TaskResult(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt's result."""

    task_id: Count
    attempt: Count
    outputs: tuple[Output, ...]
    seconds: Seconds
    """Spent computing."""
    peak_memory: Count = 0


class TaskFailure(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt failed. `node` is the index of the node in the subgraph `subgraph`, where the engine named it."""

    task_id: Count
    attempt: Count
    problem: Problem
    node: int | None = None
    subgraph: Sha | None = None
    """The model that failed, of a task with a part."""


class Report(Message, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a batch: done, failed, or given back without blame (the provider stops, or an earlier task that
    it needs failed). Blobs in outputs were PUT before. → `Reported`."""

    done: Annotated[tuple[TaskResult, ...], Meta(max_length=MAX_BATCH)] = ()
    failed: Annotated[tuple[TaskFailure, ...], Meta(max_length=MAX_BATCH)] = ()
    returned: Annotated[tuple[HeldTask, ...], Meta(max_length=MAX_BATCH)] = ()
    trace: Trace = ""


class JoinableGraphs(Message, frozen=True, kw_only=True):
    """→ `Graphs`: the executing graphs this provider could work on."""


FromProvider = Register | Beat | Report | JoinableGraphs


# ── coordinator → provider ───────────────────────────────────────────────────────────────────────────────────────────
class Registered(Message, frozen=True, kw_only=True):
    beat_seconds: Seconds
    drop: tuple[HeldTask, ...] = ()
    """Attempts named in `Register.holding` that are nobody's any more: stop computing them."""


class Beaten(Message, frozen=True, kw_only=True):
    drop: tuple[HeldTask, ...] = ()
    waiting: Text = ""
    """Why there is no work for you, when there is none."""


class Reported(Message, frozen=True, kw_only=True):
    """All of the report is recorded, durably. Results that came too late were discarded: do not send them again."""

    accepted: Count = 0
    """Results that count."""
    missing: tuple[Sha, ...] = ()
    """Blobs that are not there. Nothing of the report was taken in: PUT them and report again."""


class Earlier(msgspec.Struct, frozen=True, kw_only=True, tag="earlier"):
    """An output of an earlier task of the same `Assign`: `task` is its place there, from 0."""

    task: Count
    output: Name


class TaskInput(msgspec.Struct, frozen=True, kw_only=True):
    name: Name
    ref: TensorRef | Earlier


class OutputSpec(msgspec.Struct, frozen=True, kw_only=True):
    name: Name
    dtype: str
    shape: tuple[int | None, ...]
    """None where only the run can tell."""


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of one task: run `subgraph` on `inputs`, deliver `outputs`."""

    task_id: Count
    attempt: Count
    graph_id: Id
    label: Text
    """For people: `training loop, iterations 40 to 60 of 200`."""
    subgraph: Sha
    inputs: tuple[TaskInput, ...]
    outputs: tuple[OutputSpec, ...]
    flops: float
    peak_memory: Count
    lease_seconds: Seconds
    """The result is welcome for so long from now."""
    sizes: dict[Sha, Count] = {}
    """Bytes of the models that the task runs: no need to ask for them before they are fetched."""
    part: Part | None = None
    """With a part, `subgraph` is of no use here: the models are those that the part names."""
    trace: Trace = ""


def blobs_needed(task: Task) -> Iterator[Blob]:
    """The blobs in the inputs of a task; its models are not among them."""
    for given in task.inputs:
        if not isinstance(given.ref, Earlier):
            yield from blobs_of(given.ref)


def models_needed(task: Task) -> set[str]:
    """The hashes of the models that a task runs."""
    if task.part is None:
        return {task.subgraph}
    found: set[str] = set()
    pending: list[Step] = [task.part.loop]
    while pending:
        match pending.pop():
            case Compute(subgraph=subgraph):
                found.add(subgraph)
            case Repeat(steps=steps):
                pending += steps
    return found


class Assign(Message, frozen=True, kw_only=True):
    """A batch: tasks that one slot computes one after another, in this order. → `Done`: the provider has taken them over.

    What becomes of them comes in one `Report`.
    """

    tasks: Annotated[tuple[Task, ...], Meta(min_length=1, max_length=MAX_BATCH)]


class Recall(Message, frozen=True, kw_only=True):
    """Stop computing these; no result is wanted. → `Done`."""

    tasks: tuple[HeldTask, ...]


ToProvider = Done | Refused | Registered | Beaten | Reported | Assign | Recall | Graphs

_ALL: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(message: Message, version: int = VERSION) -> bytes:
    """The message as bytes: MessagePack of `[version, message]`, for a connection on which that version is spoken."""
    if version < VERSION:
        message = _without_later(message, version)
    data = msgspec.msgpack.encode((version, message))
    if len(data) > MAX_MESSAGE:
        raise MessageError(
            f"a {type(message).__name__} message of {len(data):,} bytes is too large",
            expected=f"at most {MAX_MESSAGE:,} bytes",
            received=f"{len(data):,} bytes",
            hint="send large tensors as blobs",
        )
    return data


def decode(data: object, expect: Any) -> Any:
    """The message in `data`, validated against `expect`, one of the four unions above or a part of one.

    Raises `MessageError` for anything malformed and `VersionError` for a version that this release does not speak.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise MessageError("a message must be binary", expected="bytes", received=type(data).__name__)
    if len(data) > MAX_MESSAGE:
        raise MessageError(
            "message too large", expected=f"at most {MAX_MESSAGE:,} bytes", received=f"{len(data):,} bytes"
        )
    try:
        version, body = _ENVELOPE.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise MessageError("a message must be [version, body] in MessagePack", received=str(error)) from error
    if not OLDEST <= version <= VERSION:
        raise VersionError(
            "a message in another version of the protocol",
            expected=spoken(),
            received=f"version {version}",
            hint="install the same release of ravenverse on both sides",
        )
    decoder = _ALL.get(expect)
    if decoder is None:
        decoder = _ALL[expect] = msgspec.msgpack.Decoder(expect)
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise MessageError(
            "a message of the wrong shape", expected=_names(expect), received=str(error)
        ) from error


def _without_later(message: Message, version: int) -> Message:
    """The message without what came after `version`."""
    later = {name for name, since in ADDED.get(type(message).__name__, {}).items() if since > version}
    if not later:
        return message
    fields = msgspec.structs.fields(message)
    return msgspec.structs.replace(message, **{f.name: f.default for f in fields if f.name in later})


_ENVELOPE = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])


def _names(expect: Any) -> str:
    members = getattr(expect, "__args__", (expect,))
    return " or ".join(getattr(member, "__name__", str(member)) for member in members)
