"""What a scope is made of before it is clustered: items that run as a whole, and which names they must give.

An item is an ordinary node, a loop that becomes a unit of its own, or a feed: it passes on a value that no ordinary
node of the scope makes (a constant, an input, a loop's result) under a name that the plan needs.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from ravop.graph.cost import bodies_of, graph_cost, nbytes
from ravsock.core.plan import Plan
from ravsock.core.planner.body import carry_count, is_plain_scan
from ravsock.core.planner.build import needed_nodes
from ravsock.core.planner.context import Context
from ravsock.core.planner.gangs import SHORT_SECONDS, Offer, find_gangs
from ravsock.core.planner.ranges import is_shared
from ravsock.core.planner.schedule import fleet_seconds

LOOP_UNITS = 0.25
"""A loop estimated at this many units or more is a unit of its own. Low, because estimates may be wrong by five times
and a loop in a unit of its own streams its results."""
OPENING_COSTS = 1.25
"""So many times the time of a gang may the units of an opened iteration take: restart points are worth that."""


class Kind(enum.Enum):
    NODE = "node"
    LOOP = "loop"
    FEED = "feed"


@dataclass(frozen=True)
class Body:
    """An opened loop's body: its plan, and the plan's names of the body's outputs that are wanted, in their order."""

    plan: Plan
    results: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    kind: Kind
    seconds: float
    reads: tuple[ir.Value, ...]
    """Values, constants aside, that it takes under their own names."""
    gives: tuple[ir.Value, ...] = ()
    """Values of the scope that it makes."""
    node: ir.Node | None = None
    names: tuple[str, ...] = ()
    """A feed's: what the value it passes on must be called."""
    fed: ir.Value | None = None
    """A feed's: that value."""
    body: Body | None = None
    """A loop's that is opened."""
    gangs: tuple[Offer, ...] = ()
    """A loop's that is chunked."""


OpenLoop = Callable[[ir.Node, Sequence[ir.Value]], Body | None]
"""The body of a loop that should be opened, split for the wanted ones of its outputs; None for one to be chunked."""


@dataclass
class Scope:
    """The items of one graph, and the names that its values must be given."""

    graph: ir.Graph
    items: list[Item] = field(default_factory=list)
    used: set[ir.Value] = field(default_factory=set)
    """Values that somebody reads or that the scope gives."""
    names: dict[ir.Value, list[str]] = field(default_factory=dict)
    """Names that must be given to a value because the scope gives it, or a loop begins with it."""
    results: list[str] = field(default_factory=list)
    """The plan's name of each output of the graph."""
    inits: dict[ir.Node, list[str]] = field(default_factory=dict)
    """The plan's name of each initial carry of a loop: unlike each other and all else that the loop reads."""

    def made_here(self, value: ir.Value) -> bool:
        producer = value.producer()
        return producer is not None and producer.graph is self.graph


def read_scope(
    graph: ir.Graph, outputs: Sequence[ir.Value], context: Context, open_loop: OpenLoop, is_main: bool
) -> Scope:
    """The items of a graph: what `outputs` need, the cheap constants left out."""
    nodes = needed_nodes(graph, outputs, context.reads)
    context.mark_constants(nodes)
    scope = Scope(graph, used=set(outputs))
    for node in reversed(nodes):
        if not context.is_constant_node(node) and not scope.used.isdisjoint(node.outputs):
            item = _item(node, scope, context, open_loop)
            scope.items.append(item)
            scope.used.update(item.reads, _inits(item))
    scope.items.reverse()
    _name_inits(scope, context)
    _name_results(scope, outputs, context, is_main)
    scope.items += _feeds(scope, context)
    return scope


def captured_by(node: ir.Node, outputs: Sequence[ir.Value], context: Context) -> list[ir.Value]:
    """Values from outside, constants aside, that a loop's body reads to make `outputs`."""
    (body,) = bodies_of(node)
    inside: set[ir.Value] = {*body.inputs, *body.initializers.values()}
    found: dict[ir.Value, None] = {}
    for child in needed_nodes(body, outputs, context.reads):
        found |= dict.fromkeys(context.reads(child))
        inside.update(child.outputs)
    found |= dict.fromkeys(outputs)
    return [value for value in found if value not in inside and not context.is_constant(value)]


def wanted_outputs(node: ir.Node, scope: Scope) -> list[int]:
    """Positions of a loop's outputs that are kept: all carries, and the stacked ones that somebody uses."""
    carries = carry_count(node)
    return [i for i, value in enumerate(node.outputs) if i < carries or value in scope.used]


def _item(node: ir.Node, scope: Scope, context: Context, open_loop: OpenLoop) -> Item:
    seconds = context.seconds(node)
    if not _is_loop(node, context):
        reads = tuple(value for value in context.reads(node) if not context.is_constant(value))
        return Item(Kind.NODE, seconds, reads, tuple(node.outputs), node)
    (graph,) = bodies_of(node)
    positions = wanted_outputs(node, scope)
    outputs = [graph.outputs[i] for i in positions]
    body, gangs = _body_or_gangs(node, positions, context, open_loop)
    if not all(context.claim(value.name or "", scope.graph) for value in _named(node, body, gangs, context)):
        body, gangs = None, ()
    named = _named(node, body, gangs, context)
    scope.names |= {value: [value.name or ""] for value in named if value not in scope.names}
    slices = [value for value in node.inputs[carry_count(node) :] if value is not None]
    sliced = [value for value in slices if value in named or not context.is_constant(value)]
    reads = tuple(dict.fromkeys([*sliced, *captured_by(node, outputs, context)]))
    return Item(Kind.LOOP, seconds, reads, tuple(node.outputs), node, body=body, gangs=gangs)


def _body_or_gangs(
    node: ir.Node, positions: Sequence[int], context: Context, open_loop: OpenLoop
) -> tuple[Body | None, tuple[Offer, ...]]:
    """A loop is chunked where its iterations are short and gangs can run them; else opened where that is worth it.

    Where the gangs only run a loop inside together, that one is rather chunked: its chunks are shorter. Iterations that know
    nothing of each other need no gangs."""
    (graph,) = bodies_of(node)
    outputs = [graph.outputs[i] for i in positions]
    short = graph_cost(graph, context.functions).seconds(context.gflops) <= SHORT_SECONDS
    if is_shared(node, context):
        return None if short else open_loop(node, outputs), ()
    gangs = find_gangs(node, positions, context) if short else ()
    if not gangs:
        body = open_loop(node, outputs)
        return body, () if short or body else find_gangs(node, positions, context)
    body = open_loop(node, outputs) if gangs[-1].spreads_loops else None
    if body is not None and _is_as_fast(body.plan, gangs[-1], context):
        return body, ()
    return None, gangs


def _is_as_fast(opened: Plan, gang: Offer, context: Context) -> bool:
    """Whether as many machines as the gang has need hardly longer for an iteration when the loop is opened."""
    slots = [context.gflops] * gang.stage.ranks
    return fleet_seconds(opened, slots, gang.stage.line) <= OPENING_COSTS * gang.seconds


def _named(node: ir.Node, body: Body | None, gangs: Sequence[Offer], context: Context) -> set[ir.Value]:
    """Constants that the loop walks along and that must have a name: an opened loop takes their elements, the ranks of a
    gang do."""
    first = carry_count(node)
    walked = range(first, len(node.inputs)) if body else _walked(gangs)
    values = {node.inputs[position] for position in walked}
    return {value for value in values if value is not None and context.is_constant(value)}


def _walked(gangs: Sequence[Offer]) -> set[int]:
    """Positions among the loop's inputs of the slices that some rank reads."""
    return {
        position
        for offer in gangs
        for rank in range(offer.stage.ranks)
        for position in offer.stage.slices(offer.stage.web.root, rank)
    }


def _is_loop(node: ir.Node, context: Context) -> bool:
    return is_plain_scan(node) and context.seconds(node) >= LOOP_UNITS * context.unit_seconds


def _inits(item: Item) -> list[ir.Value]:
    """The values that a loop's carries begin with; none for other items."""
    if item.kind is not Kind.LOOP or item.node is None:
        return []
    return [value for value in item.node.inputs[: carry_count(item.node)] if value is not None]


def _name_inits(scope: Scope, context: Context) -> None:
    for item in scope.items:
        if item.kind is Kind.LOOP and item.node is not None:
            taken = {value.name or "" for value in item.reads}
            names = scope.inits[item.node] = []
            for value in _inits(item):
                names.append(_give(value, scope, context, taken))
                taken.add(names[-1])


def _give(value: ir.Value, scope: Scope, context: Context, taken: set[str]) -> str:
    """A name not in `taken` under which the value will be there, given by an item of this scope if need be."""
    own = value.name or ""
    if own not in taken and not scope.made_here(value) and not context.is_constant(value):
        return own
    given = scope.names.setdefault(value, [])
    candidates = [own, *given] if context.claim(own, scope.graph) else given
    name = next((name for name in candidates if name not in taken), None) or context.fresh(own)
    if name not in given:
        given.append(name)
    return name


def _name_results(scope: Scope, outputs: Sequence[ir.Value], context: Context, is_main: bool) -> None:
    """Outputs of the main graph keep their names; those of a body become values of the body's own, each once."""
    for value in outputs:
        if is_main and value.is_graph_input():
            scope.results.append(value.name or "")
            continue
        taken = set() if is_main else set(scope.results)
        if not is_main and not scope.made_here(value):
            taken.add(value.name or "")
        scope.results.append(_give(value, scope, context, taken))


def _feeds(scope: Scope, context: Context) -> list[Item]:
    makers = {value: item.kind for item in scope.items for value in item.gives}
    feeds = []
    for value, names in scope.names.items():
        if makers.get(value) is Kind.LOOP:
            names = [name for name in names if name != value.name]
        if names and makers.get(value) is not Kind.NODE:
            reads = () if context.is_constant(value) else (value,)
            feeds.append(Item(Kind.FEED, nbytes(value) / 1e9, reads, names=tuple(names), fed=value))
    return feeds
