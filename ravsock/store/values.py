"""What goes into the store and comes out of it: frozen values, without behaviour. Everybody in `ravsock` may
import it.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ravop.errors import Problem
from ravop.protocol.messages import HeldTask, Output, Profile
from ravsock.core.plan import Gang


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a token stands for. `role` is `requester`, `provider` or `admin`."""

    token_id: int
    role: str
    name: str


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    token_id: int
    role: str
    name: str
    created: float
    revoked: float | None
    quota: int | None = None
    """Bytes that it may store, if not as many as others."""
    used: int = 0
    """Bytes that it stores."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the coordinator's storage a token has, in bytes."""

    used: int
    """By blobs that it uploaded, or that its graphs gave."""
    allowed: int | None
    """None: no limit."""


class StoredBlob(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that is there for somebody."""

    sha: str
    size: int
    place: int | None
    """Which copy: None for the one whose bytes were checked, else the token of who uploaded it."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An upload in parts that is under way. `handle`: what the blob store calls it."""

    upload_id: str
    sha: str
    owner: int
    size: int
    handle: str
    touched: float


class Seen(NamedTuple):
    """A blob, and when it was touched last when somebody looked."""

    sha: str
    touched: float


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a look for blobs that nobody needs has found."""

    unneeded: tuple[Seen, ...]
    last: Seen | None
    """Where the next look goes on; None: it begins anew."""


class Doomed(msgspec.Struct, frozen=True, kw_only=True):
    """A blob whose bytes are to be deleted: the checked copy, and those at `places`."""

    sha: str
    places: frozenset[int]
    claim: float
    """When it was claimed."""


class ProviderRow(msgspec.Struct, frozen=True, kw_only=True):
    provider_id: str
    token_id: int
    profile: Profile
    first_seen: float
    last_seen: float
    tasks_done: int


class GraphRow(msgspec.Struct, frozen=True, kw_only=True):
    """A graph without its plan, manifest and progress."""

    graph_id: str
    number: int
    """Of this activation: a graph that was flushed and activated again has another."""
    owner: int
    name: str
    algorithm: str
    approach: str
    state: str
    model_sha: str
    manifest_sha: str
    created: float
    started: float | None
    finished: float | None
    problem: Problem | None


class ReadyTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task that could be leased, and what placement and deadlines need to know."""

    task_id: int
    graph_id: str
    owner: int
    label: str
    model: str
    flops: float
    """Of one run, or of one iteration of a loop."""
    seconds_overhead: float
    """Beside the FLOPs, on a reference machine; of one run or iteration."""
    bytes_out: int
    peak_memory: int
    inputs: tuple[tuple[str, int], ...]
    """Blobs it needs, the subgraph's model first: name and bytes."""
    start: int
    length: int | None
    """Iterations of a loop, of which `start` to `length` are left; None for a single run."""
    tries: int
    """How often it (or this range of a loop) was leased before."""
    failed_on: tuple[str, ...]
    gangs: tuple[Gang, ...] = ()
    """Ways to run a chunk of it on several providers at once."""
    ports: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Where there are any: the ports of the chunk's model that need blobs, and which ones of `inputs`."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to lease a batch: `tasks`, which are ready, in this order, then followers that need nothing else."""

    provider_id: str
    deadline: float
    tasks: tuple[int, ...]
    stop: int | None = None
    """Ends a loop's chunk (None: all that is left; no matter for a single run)."""
    ahead: int = 0
    """So many followers at most."""
    gang: int | None = None
    """Which of the loop's gangs runs the chunk; then `tasks` is that one, and `provider_id` the gang's leader."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A task that is leased. `flops` of one run or iteration; times on the coordinator's clock."""

    task_id: int
    attempt: int
    provider_id: str
    graph_id: str
    owner: int
    model: str
    flops: float
    iterations: int
    leased: float
    deadline: float
    ranks: int | None = None
    """How many providers run it together, where it is a gang."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    task_id: int
    attempt: int
    provider_id: str
    outputs: tuple[Output, ...]
    seconds: float = 0.0
    others: tuple[str, ...] = ()
    """Who computed it with `provider_id`, where it is a gang's: their uploads count as its own."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A failed attempt. `node` is the index of the failing node in the subgraph, where it is known."""

    task_id: int
    attempt: int
    provider_id: str
    problem: Problem
    node: int | None = None
    subgraph: str | None = None
    """The model that failed, where a gang's parts have several."""
    blame: str = ""
    """Who failed, where it is not `provider_id`: one of a gang."""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A task given back without blame."""

    task_id: int
    attempt: int
    provider_id: str


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that `provider_id` computes for nothing: tell it to stop."""

    provider_id: str
    task: HeldTask


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a result or of a failure."""

    accepted: bool
    """False: late or unknown, and discarded; or `missing`, or `problem`."""
    missing: tuple[str, ...] = ()
    """Blobs that the outputs name and that are not there. Nothing has changed: call again when they are."""
    problem: Problem | None = None
    """What is wrong with the result; it counts as a failed attempt."""
    graph_id: str = ""
    finished: bool = False
    """The graph is done, or has failed, by this."""
    recalls: tuple[Recall, ...] = ()
    model: str = ""
    """The subgraph that ran, for whoever learns its speed; with `flops` of one iteration and `iterations`."""
    flops: float = 0.0
    iterations: int = 1
    ranks: int | None = None
    """How many providers ran it together, where it was a gang."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a coordinator has seen of a provider that is connected there, for the others."""

    gflops: float
    link: float = 0.0
    """Bytes a second of its line; 0 where nothing was seen of it."""
    latency: float = 0.0
    resting_until: float = 0.0
    """On the coordinators' common clock."""
    resting_why: str = ""


class CoordinatorRow(msgspec.Struct, frozen=True, kw_only=True):
    """A process that serves the database, or did."""

    coordinator_id: str
    address: str
    """Where the others reach this one alone."""
    software: str
    silent: float
    """Seconds since it was last heard, by the database's clock."""
    draining: bool = False
    blobs: str
    """Which store of blobs it has."""


class Pulse(msgspec.Struct, frozen=True, kw_only=True):
    """What a coordinator learns when it says that it lives."""

    now: float
    """By the database's clock."""
    revision: str
    """Of the database's schema."""
    coordinators: tuple[CoordinatorRow, ...]
    """All that were heard lately, this one among them, in one order for all."""


class ConnectedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A provider that is connected somewhere."""

    provider_id: str
    profile: Profile
    coordinator: str
    graph_id: str | None
    measured: Measured | None
    tasks: int
    """That it has now."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """That a task is leased, and to whom; of a gang, to its first rank."""

    task_id: int
    attempt: int
    provider_id: str
    ranks: int | None = None
