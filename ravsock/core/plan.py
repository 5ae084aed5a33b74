"""What the planner makes of a graph: values only, no behaviour beyond look-ups. Stored as MessagePack.

A `Plan` describes one *scope*: the main graph, or one iteration of an opened loop. Its units are run once per instance of
that scope. A unit is a `Subgraph` (one task), a chunked `Loop` (its tasks are ranges of iterations, one after
another), or an opened `Loop` (each iteration is an instance of the plan in `body`).

Names of values are the names in the graph's ONNX model, unique over all scopes, so a unit inside a loop can name a value of
an outer scope directly. An *instance* of a scope has a path: `""` for the main graph, then `"/3[17]"` for iteration
17 of the opened loop that is unit 3 of the main plan, `"/3[17]/0[2]"` for one inside it.
"""

from __future__ import annotations

import msgspec

from ravop.protocol.messages import PlanSummary
from ravop.protocol.parts import Repeat

PLAN_VERSION = 2
START, STOP = "chunk_start", "chunk_stop"
"""Inputs (int64, shape [1]) of a chunked loop's subgraph: the range of iterations to run."""


class ValueType(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int | None, ...]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Estimates for one run of a subgraph; of a chunked loop: for one iteration."""

    flops: float
    seconds_overhead: float = 0.0
    """Time that does not depend on FLOPs: the engine's per-node cost, on a reference machine."""
    bytes_in: int
    bytes_out: int
    peak_memory: int


class Port(msgspec.Struct, frozen=True):
    """An input or output of the shipped model, and the value of the plan it stands for."""

    name: str
    value: str


class Subgraph(msgspec.Struct, frozen=True, kw_only=True, tag="subgraph"):
    """A model shipped as blob `model`: canonical names, so that equal subgraphs have equal hashes."""

    label: str
    model: str
    nodes: tuple[str, ...]
    """The graph's node names by index in the model (bodies included, depth first): node `n17` is `nodes[17]`."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    cost: Cost


class Carry(msgspec.Struct, frozen=True, kw_only=True):
    """A loop's state variable. All are names of values."""

    init: str
    """Value before the first iteration, of this scope or an outer one; unlike all else the loop reads."""
    final: str
    """Value after the last, of this scope."""
    body_in: str
    body_out: str
    """Of the body's scope; for an opened loop, what one iteration reads and what it gives to the next."""


class Sliced(msgspec.Struct, frozen=True, kw_only=True):
    """A value of this scope whose elements along the first axis the iterations read, and the body's name for one."""

    source: str
    body_in: str


class Stacked(msgspec.Struct, frozen=True, kw_only=True):
    """What an iteration gives, and the value of this scope that stacks it over all iterations."""

    body_out: str
    stacked: str


class PartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank of a gang does. The names around `loop` (carries' `init` and `final`, slices' `source`, captured
    values, `stacked`) are names of ports of the loop's chunk model."""

    loop: Repeat
    inputs: tuple[str, ...]
    """Ports of the chunk that this rank needs."""
    outputs: tuple[str, ...]
    """Ports of the chunk that this rank gives. Over all ranks, each of them exactly once."""
    peak_memory: int


class Gang(msgspec.Struct, frozen=True, kw_only=True):
    """A way to run the iterations of a loop on several providers at once."""

    parts: tuple[PartPlan, ...]
    """By rank."""
    seconds: float
    """One iteration on reference machines (`DEFAULT_GFLOPS`) with nothing between them: the longest rank's time between
    two exchanges, summed over them."""
    bytes: int
    """Sent and received in one iteration by the rank that has most."""
    exchanges: int
    """How often in one iteration ranks wait for each other."""
    nodes: dict[str, tuple[str, ...]]
    """Hash of a model → the graph's node names by index, as in `Subgraph.nodes`."""


class Loop(msgspec.Struct, frozen=True, kw_only=True, tag="loop"):
    """`length` iterations. Exactly one of `chunk` and `body` is given.

    `chunk` is a model whose inputs are the carries, the sliced values whole, the captured values, and `START` and `STOP`;
    it runs iterations START to STOP-1 and gives the carries after them and the stacked outputs of these iterations. Its ports
    name `Carry.init` (in) and `Carry.final` (out), `Sliced.source`, captured values by their own name, `Stacked.stacked`;
    `START` and `STOP` are not among them. Several carries may begin with one value:
    the ports of the carries come first, in their order. What depends on constants alone is inside the chunk and not listed here.
    """

    label: str
    length: int
    first: int = 0
    """Number of this unit's first iteration: a loop without carries may be several units, each with a range of its
    iterations and a part of what it stacks."""
    carries: tuple[Carry, ...]
    sliced: tuple[Sliced, ...]
    stacked: tuple[Stacked, ...]
    captured: tuple[str, ...]
    """Values of this scope or outer ones that the body reads whole."""
    steps: int = 1
    """Steps that one iteration counts for in the progress display: innermost iterations, those of loops inside included."""
    chunk: Subgraph | None = None
    gangs: tuple[Gang, ...] = ()
    """Other ways to run a chunk, for 2 ranks or more, the fewest first; each faster than those before it."""
    body: Plan | None = None
    cost: Cost
    """Of one iteration."""


Unit = Subgraph | Loop


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Units in an order in which they could run one after another."""

    units: tuple[Unit, ...]
    values: dict[str, ValueType]
    """Every value that a unit of this scope names."""
    outputs: tuple[str, ...] = ()
    """Values of this scope that must be kept when an instance of it ends: the graph's outputs, or what a body gives."""


class GraphPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole graph's plan, as stored."""

    version: int = PLAN_VERSION
    main: Plan
    inputs: tuple[str, ...]
    """Graph inputs; each is bound to a blob by the manifest."""
    flops: float
    steps: int
    summary: PlanSummary


def inputs_of(unit: Unit) -> tuple[str, ...]:
    """Names of the values that must be there before the unit can start, without repetitions."""
    if isinstance(unit, Subgraph):
        names = [port.value for port in unit.inputs]
    else:
        names = [c.init for c in unit.carries] + [s.source for s in unit.sliced] + list(unit.captured)
    return tuple(dict.fromkeys(names))


def outputs_of(unit: Unit) -> tuple[str, ...]:
    """Names of the values of its scope that the unit gives."""
    if isinstance(unit, Subgraph):
        return tuple(port.value for port in unit.outputs)
    return tuple(c.final for c in unit.carries) + tuple(s.stacked for s in unit.stacked)


def encode_plan(plan: GraphPlan) -> bytes:
    return msgspec.msgpack.encode(plan)


def decode_plan(data: bytes) -> GraphPlan:
    return msgspec.msgpack.decode(data, type=GraphPlan)
