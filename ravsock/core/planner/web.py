"""The web of a placed body: what makes each value in it and in the loops inside that all ranks run, what it reads, who owns it.

`sharing` decides along it who makes what.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from ravop.graph.cost import nbytes, scan_length
from ravsock.core.fleet import Line
from ravsock.core.planner.body import can_travel, carry_count
from ravsock.core.planner.context import Context
from ravsock.core.planner.placing import ANYBODY, Placed

_MESSAGE = 0.02
"""What a value counts besides its bytes, in latencies: it hardly travels alone."""


@dataclass
class Scope:
    """A body that ranks run together, as a loop of the part."""

    placed: Placed
    node: ir.Node
    trips: int
    parent: Scope | None
    inner: dict[ir.Node, Scope] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Item:
    """What makes values: a node, or what a loop does at its borders (`node` is None)."""

    order: int
    scope: Scope
    seconds: float
    """In one iteration of the outermost loop."""
    reads: tuple[ir.Value, ...]
    node: ir.Node | None = None


class Web:
    """The items of a placed body and of the loops inside that are spread, and how they hang together."""

    def __init__(self, placed: Placed, loop: ir.Node, context: Context, line: Line) -> None:
        self.context = context
        self.line = line
        self.makers: dict[ir.Value, Item] = {}
        self.home: dict[ir.Value, Scope] = {}
        """The scope in whose iterations a value lives."""
        self.owners: dict[Item, int] = {}
        self._travels: set[ir.Value] = set()
        self._transfers: dict[ir.Value, float] = {}
        self._count = 0
        self.root = self._scope(placed, loop, 1, None)
        for item in [item for item in self.makers.values() if item.node is None]:
            self.owners[item] = self._owner_of(item.reads[0])

    def owner(self, value: ir.Value) -> int:
        maker = self.makers.get(value)
        return ANYBODY if maker is None else self.owners[maker]

    def travels(self, value: ir.Value) -> bool:
        return value in self._travels

    def transfer(self, value: ir.Value) -> float:
        """Seconds per iteration of the outermost loop that the value's bytes take."""
        found = self._transfers.get(value)
        if found is None:
            seconds = nbytes(value) / self.line.rate + _MESSAGE * self.line.latency
            found = self._transfers[value] = self.home[value].trips * seconds
        return found

    # ── building ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _scope(self, placed: Placed, loop: ir.Node, trips: int, parent: Scope | None) -> Scope:
        scope = Scope(placed, loop, trips, parent)
        body = placed.body
        carries = carry_count(loop)
        for index, value in enumerate(body.graph.inputs):
            reads = [body.graph.outputs[index]] if index < carries else []
            outside = loop.inputs[index]
            self._make(value, scope, [*reads, *([outside] if parent and outside else [])])
        for node in body.nodes:
            if node in placed.spread:
                length = scan_length(node) or 1
                inside = scope.inner[node] = self._scope(placed.spread[node], node, trips * length, scope)
                self._borders(node, inside, scope)
                continue
            read = tuple(v for v in self.context.reads(node) if not self.context.is_constant(v))
            item = Item(self._next(), scope, trips * body.seconds[node], read, node)
            self.owners[item] = placed.owner[node]
            for value in node.outputs:
                self.makers[value], self.home[value] = item, scope
                if can_travel(value) and placed.owner[node] != ANYBODY:
                    self._travels.add(value)
        return scope

    def _borders(self, node: ir.Node, inside: Scope, outside: Scope) -> None:
        """What the loop gives needs what its iterations give."""
        carries = carry_count(node)
        for index, value in enumerate(node.outputs):
            begin = node.inputs[index] if index < carries else None
            self._make(value, outside, [inside.placed.body.graph.outputs[index], *([begin] if begin else [])])
            if can_travel(value):
                self._travels.add(value)

    def _make(self, value: ir.Value, scope: Scope, reads: Iterable[ir.Value]) -> None:
        kept = tuple(v for v in reads if not self.context.is_constant(v))
        self.home[value] = scope
        if kept:
            self.makers[value] = Item(self._next(), scope, 0.0, kept)

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _owner_of(self, value: ir.Value) -> int:
        """Who owns what a value comes from, through the borders of loops."""
        seen: set[ir.Value] = set()
        while value not in seen:
            seen.add(value)
            maker = self.makers.get(value)
            if maker is None:
                return ANYBODY
            if maker.node is not None:
                return self.owners[maker]
            value = maker.reads[0]
        return ANYBODY
