"""Turns the items of a scope into the units of a plan: clusters into subgraphs, loops into chunked or opened ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from ravop.graph.cost import bodies_of, graph_cost, graph_peak, nbytes, peak_memory, scan_length
from ravop.graph.dtypes import from_ir
from ravsock.core.plan import (
    Carry,
    Cost,
    Gang,
    Loop,
    Plan,
    Sliced,
    Stacked,
    Subgraph,
    Unit,
    ValueType,
    inputs_of,
    outputs_of,
)
from ravsock.core.planner.body import carry_count
from ravsock.core.planner.build import ModelBuilder
from ravsock.core.planner.chunk import build_chunk
from ravsock.core.planner.cluster import Edge, cluster
from ravsock.core.planner.context import Context
from ravsock.core.planner.gangs import write_gang
from ravsock.core.planner.items import Body, Item, Kind, Scope, read_scope, wanted_outputs
from ravsock.core.planner.labels import label_loop, label_nodes
from ravsock.core.planner.parts import Ports
from ravsock.core.planner.ranges import in_ranges
from ravsock.core.planner.schedule import width

OPEN_UNITS = 2.0
"""An iteration worth more units than this is opened, where there is something to split."""
OPEN_CHAIN_UNITS = 10.0
"""One that splits only into a chain gains nothing but restart points: it is opened only above this."""


def plan_scope(
    graph: ir.Graph, outputs: Sequence[ir.Value], context: Context, is_main: bool = False
) -> tuple[Plan, tuple[str, ...]]:
    """The plan of a graph for some of its outputs, and the plan's names of these."""
    scope = read_scope(graph, outputs, context, lambda node, wanted: _open(node, wanted, context), is_main)
    fixed = [item.kind is Kind.LOOP for item in scope.items]
    groups = cluster([item.seconds for item in scope.items], fixed, _edges(scope), context.unit_seconds)
    return _Units(scope, groups, context).plan()


def value_type(value: ir.Value) -> ValueType:
    shape = tuple(dim if isinstance(dim, int) else None for dim in (value.shape or ()))
    return ValueType(str(from_ir(value.dtype or ir.DataType.UNDEFINED)), shape)


def _open(node: ir.Node, outputs: Sequence[ir.Value], context: Context) -> Body | None:
    (graph,) = bodies_of(node)
    units = graph_cost(graph, context.functions).seconds(context.gflops) / (context.unit_seconds or 1e-12)
    if units <= OPEN_UNITS:
        return None
    plan, results = plan_scope(graph, outputs, context)
    worth = width(plan) > 1 or any(isinstance(unit, Loop) for unit in plan.units)
    if (len(plan.units) < 2 and not worth) or (not worth and units < OPEN_CHAIN_UNITS):
        return None
    return Body(plan, results)


def _edges(scope: Scope) -> list[Edge]:
    maker = {value: index for index, item in enumerate(scope.items) for value in item.gives}
    feed = {name: index for index, item in enumerate(scope.items) for name in item.names}
    edges = []
    for index, item in enumerate(scope.items):
        for value in item.reads:
            source = maker.get(value, feed.get(value.name or ""))
            if source is not None and source != index:
                edges.append(Edge(source, index, nbytes(value)))
        if item.kind is Kind.LOOP and item.node is not None:
            for init, name in zip(item.node.inputs, scope.inits[item.node], strict=False):
                source = feed[name] if name in feed or init is None else maker.get(init)
                if source is not None:
                    edges.append(Edge(source, index, nbytes(init)))
    return edges


class _Units:
    """Makes the units of one scope, and remembers the types of the values that they name."""

    def __init__(self, scope: Scope, groups: Sequence[Sequence[int]], context: Context) -> None:
        self._scope = scope
        self._groups = [[scope.items[index] for index in group] for group in groups]
        self._context = context
        self._types: dict[str, ValueType] = {}
        self._leaving = self._find_leaving()

    def plan(self) -> tuple[Plan, tuple[str, ...]]:
        for value in self._scope.graph.inputs:
            self._type(value)
        units = [unit for group in self._groups for unit in self._make(group)]
        results = tuple(self._scope.results)
        named = {name for unit in units for name in (*inputs_of(unit), *outputs_of(unit))} | set(results)
        named |= {value.name or "" for value in self._scope.graph.inputs}
        values = {name: found for name, found in self._types.items() if name in named}
        return Plan(units=tuple(units), values=values, outputs=tuple(dict.fromkeys(results))), results

    def _make(self, group: Sequence[Item]) -> tuple[Unit, ...]:
        first = group[0]
        if first.kind is Kind.LOOP and first.node is not None:
            return in_ranges(self._loop(first, first.node), self._context)
        return (self._subgraph(group),)

    def _find_leaving(self) -> dict[ir.Value, list[str]]:
        """Under which names values made by ordinary nodes leave their unit."""
        home = {
            value: number
            for number, group in enumerate(self._groups)
            for item in group
            for value in item.gives
        }
        leaving = {value: list(names) for value, names in self._scope.names.items()}
        for number, group in enumerate(self._groups):
            for item in group:
                for value in item.reads:
                    if home.get(value, number) != number:
                        names = leaving.setdefault(value, [])
                        if value.name not in names:
                            names.insert(0, value.name or "")
        return leaving

    def _type(self, value: ir.Value, name: str | None = None) -> None:
        self._types[name or value.name or ""] = value_type(value)

    def _subgraph(self, items: Sequence[Item]) -> Subgraph:
        context = self._context
        builder = ModelBuilder(context.model, context.is_constant, context.reads)
        nodes = [item.node for item in items if item.node is not None]
        for node in nodes:
            builder.node(node)
        given = [
            (value, name) for item in items for value in item.gives for name in self._leaving.get(value, ())
        ]
        given += [(item.fed, name) for item in items for name in item.names if item.fed is not None]
        for value, name in given:
            builder.output(builder.resolve(value), name)
            self._type(value, name)
        inside = {value for item in items for value in item.gives}
        taken = {value for item in items for value in item.reads if value not in inside}
        for read in taken:
            self._type(read)
        costs = [context.cost(node) for node in nodes]
        cost = Cost(
            flops=sum(c.flops for c in costs),
            seconds_overhead=sum(c.overhead for c in costs),
            bytes_in=_bytes(taken),
            bytes_out=sum(nbytes(value) for value, _ in given),
            peak_memory=peak_memory(
                nodes,
                [*taken, *(item.fed for item in items if item.fed)],
                {v for v, _ in given},
                context.functions,
            ),
        )
        # A unit of constants alone has no nodes of its own: the builder brought in those that make them.
        names = [node.name or node.op_type for node in nodes] or [name for name in builder.names if name]
        return Subgraph(
            label=label_nodes(names), model=context.ship(builder.finish()), nodes=tuple(builder.names),
            inputs=tuple(builder.inputs), outputs=tuple(builder.outputs), cost=cost,
        )  # fmt: skip

    def _loop(self, item: Item, node: ir.Node) -> Loop:
        (graph,) = bodies_of(node)
        positions = wanted_outputs(node, self._scope)
        results = item.body.results if item.body else tuple(_name(graph.outputs[i]) for i in positions)
        count = carry_count(node)
        carries = self._carries(node, graph, results)
        sliced = tuple(
            Sliced(source=_name(source), body_in=_name(inside))
            for source, inside in zip(node.inputs[count:], graph.inputs[count:], strict=True)
            if source in item.reads
        )
        stacked = tuple(
            Stacked(body_out=result, stacked=_name(node.outputs[position]))
            for position, result in zip(positions[count:], results[count:], strict=True)
        )
        for value in (*item.reads, *(node.outputs[position] for position in positions[count:])):
            self._type(value)
        cost = self._iteration_cost(node, graph)
        chunk = self._chunk(item, node, carries, positions[count:], cost) if item.body is None else None
        named = {port.value for port in chunk.inputs} if chunk else _read_outside(item.body)
        named -= {c.init for c in carries if chunk} | {s.source for s in sliced if chunk}
        return Loop(
            label=label_loop(node),
            length=scan_length(node) or 0,
            carries=carries,
            sliced=sliced,
            stacked=stacked,
            captured=tuple(_name(value) for value in item.reads if value.name in named),
            steps=_steps(node, item.body),
            chunk=chunk,
            gangs=() if chunk is None else self._gangs(item, chunk, positions, count),
            body=None if item.body is None else item.body.plan,
            cost=cost,
        )

    def _carries(self, node: ir.Node, graph: ir.Graph, results: Sequence[str]) -> tuple[Carry, ...]:
        carries = []
        inits = self._scope.inits[node]
        for init, begin, end, inside, out in zip(
            inits, node.inputs, node.outputs, graph.inputs, results, strict=False
        ):
            final = end.name or self._context.fresh(node.name)
            carries.append(Carry(init=init, final=final, body_in=_name(inside), body_out=out))
            self._type(end, final)
            self._type(begin or inside, init)
        return tuple(carries)

    def _chunk(
        self, item: Item, node: ir.Node, carries: Sequence[Carry], positions: Sequence[int], cost: Cost
    ) -> Subgraph:
        context = self._context
        builder = ModelBuilder(context.model, context.is_constant, context.reads)
        build_chunk(builder, node, carries, positions, item.reads)
        return Subgraph(
            label=label_loop(node), model=context.ship(builder.finish()), nodes=tuple(builder.names),
            inputs=tuple(builder.inputs), outputs=tuple(builder.outputs), cost=cost,
        )  # fmt: skip

    def _gangs(self, item: Item, chunk: Subgraph, positions: Sequence[int], carries: int) -> tuple[Gang, ...]:
        names = {port.value: port.name for port in chunk.inputs[carries:]}
        ports = Ports(
            inits=[port.name for port in chunk.inputs[:carries]],
            finals=[port.name for port in chunk.outputs[:carries]],
            outside={value: names[_name(value)] for value in item.reads if _name(value) in names},
            stacked={
                position: port.name
                for position, port in zip(positions[carries:], chunk.outputs[carries:], strict=True)
            },
        )
        return tuple(write_gang(offer, ports, positions, self._context) for offer in item.gangs)

    def _iteration_cost(self, node: ir.Node, graph: ir.Graph) -> Cost:
        context = self._context
        cost, length = graph_cost(graph, context.functions), scan_length(node) or 1
        return Cost(
            flops=cost.flops, seconds_overhead=cost.overhead,
            bytes_in=_bytes(graph.inputs), bytes_out=_bytes(graph.outputs),
            peak_memory=graph_peak(graph, context.functions) + _bytes(context.reads(node)) + _bytes(node.outputs) // length,
        )  # fmt: skip


def _read_outside(body: Body | None) -> set[str]:
    """Names of outer values, and of the body's own inputs, that the units of an opened body read."""
    units = body.plan.units if body is not None else ()
    return {name for unit in units for name in inputs_of(unit)} - {
        name for unit in units for name in outputs_of(unit)
    }


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""


def _bytes(values: Iterable[ir.Value]) -> int:
    return sum(map(nbytes, values))


def _steps(node: ir.Node, body: Body | None) -> int:
    """Innermost iterations that one iteration of the loop holds."""
    if body is not None:
        return sum(unit.length * unit.steps for unit in body.plan.units if isinstance(unit, Loop)) or 1
    (graph,) = bodies_of(node)
    return (
        sum((scan_length(child) or 1) * _steps(child, None) for child in graph if child.op_type == "Scan")
        or 1
    )
