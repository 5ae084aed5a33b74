"""Writes the parts of a gang: what `staging` arranged, as steps over named values, and the models of the computing.

Values are called `v…` inside, and by the chunk model's ports around the outermost loop. Nodes of a rank between two borders
are one model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ravop.graph.cost import nbytes, peak_memory, scan_length
from ravop.graph.dtypes import from_ir
from ravop.protocol.parts import (
    Compute,
    Exchange,
    PartCarry,
    PartSlice,
    PartStack,
    Repeat,
    Shared,
    Step,
    Wire,
)
from ravsock.core.plan import PartPlan
from ravsock.core.planner.body import carry_count
from ravsock.core.planner.build import ModelBuilder
from ravsock.core.planner.staging import Border, Message, Stage
from ravsock.core.planner.web import Scope


@dataclass(frozen=True)
class Ports:
    """The ports of a loop's chunk model."""

    inits: Sequence[str]
    """By carry, as `finals`."""
    finals: Sequence[str]
    outside: Mapping[ir.Value, str]
    """Sources of slices and captured values."""
    stacked: Mapping[int, str]
    """By position among the loop's outputs."""


class PartWriter:
    """Writes the parts of one gang, rank by rank."""

    def __init__(self, stage: Stage, ports: Ports) -> None:
        self._stage = stage
        self._context = stage.web.context
        self._ports = ports
        self._names: dict[ir.Value, str] = {}
        self._constants: dict[tuple[ir.Value, ir.Node], str] = {}
        self._count = 0
        self._inputs: dict[str, None] = {}
        self.nodes: dict[str, tuple[str, ...]] = {}
        """Hash of a model → the graph's node names by index."""

    def parts(self, wanted: Sequence[int]) -> tuple[PartPlan, ...]:
        """Of all ranks. `wanted`: positions of the loop's outputs that must be given."""
        root, outputs = self._stage.web.root, self._stage.web.root.placed.body.graph.outputs
        given: list[list[int]] = [[] for _ in range(self._stage.ranks)]
        for position in wanted:
            given[self._stage.shares.givers[outputs[position]]].append(position)
        return tuple(self._part(root, rank, positions) for rank, positions in enumerate(given))

    def _part(self, root: Scope, rank: int, given: Sequence[int]) -> PartPlan:
        self._inputs = {}
        graph, node, count = root.placed.body.graph, root.node, carry_count(root.node)
        held = sorted({*self._stage.carries(root, rank), *(i for i in given if i < count)})
        carries = tuple(
            PartCarry(
                init=self._input(self._ports.inits[i]),
                body_in=self._name(graph.inputs[i]),
                body_out=self._end(graph.outputs[i], root),
                # A carry that another rank gives ends under a name that nobody asks for.
                final=self._ports.finals[i] if i in given else self._fresh(),
            )
            for i in held
        )
        sliced = tuple(
            PartSlice(source=self._outside(node.inputs[i]), body_in=self._name(graph.inputs[i]))
            for i in self._stage.slices(root, rank)
        )
        stacks = [i for i in given if i >= count]
        stacked = tuple(
            PartStack(body_out=self._end(graph.outputs[i], root), stacked=self._ports.stacked[i])
            for i in stacks
        )
        ends = [graph.outputs[i] for i in (*held, *stacks)]
        loop = Repeat(
            length=scan_length(node) or 0, carries=carries, sliced=sliced, stacked=stacked,
            steps=self._steps(root, rank, ends),
        )  # fmt: skip
        outputs = [self._ports.finals[i] if i < count else self._ports.stacked[i] for i in given]
        return PartPlan(
            loop=loop, inputs=tuple(self._inputs), outputs=tuple(outputs), peak_memory=self._peak(root, rank)
        )

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _fresh(self) -> str:
        self._count += 1
        return f"v{self._count - 1}"

    def _input(self, port: str) -> str:
        self._inputs[port] = None
        return port

    def _name(self, value: ir.Value) -> str:
        """What a value, no constant, is called."""
        if value not in self._stage.web.home:
            return self._outside(value)
        if value not in self._names:
            self._names[value] = self._fresh()
        return self._names[value]

    def _outside(self, value: ir.Value | None) -> str:
        """What the chunk calls a value from outside of the outermost loop."""
        assert value is not None
        return self._input(self._ports.outside[value])

    def _end(self, value: ir.Value, scope: Scope) -> str:
        """What a value is called in `scope`, where a constant is made under a name of its own."""
        if not self._context.is_constant(value):
            return self._name(value)
        return self._constants.setdefault((value, scope.node), f"c{len(self._constants)}")

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _steps(self, scope: Scope, rank: int, ends: Sequence[ir.Value]) -> tuple[Step, ...]:
        """`ends`: values that must be there at the end of each iteration."""
        timeline = self._stage.timelines[scope.node]
        loops = [inner for inner in scope.inner.values() if self._stage.takes_part(inner, rank)]
        needed = dict.fromkeys(ends)
        for inner in loops:
            needed |= self._stage.read_outside(inner, rank)
        for border in timeline.borders:
            needed |= {v: None for m in border.messages if m.giver == rank for v in m.values}
        constants = [value for value in needed if self._context.is_constant(value)]
        steps: list[Step] = []
        for index, stage in enumerate(timeline.stages):
            later = [node for others in timeline.stages[index + 1 :] for node in others[rank]]
            read = {value for node in later for value in self._context.reads(node)} | needed.keys()
            nodes = stage[rank]
            if nodes or (index == 0 and constants):
                steps.append(self._compute(scope, nodes, read, constants if index == 0 else []))
            if index < len(timeline.borders):
                steps += self._exchanges(timeline.borders[index], rank)
                for node in timeline.borders[index].loops:
                    if scope.inner[node] in loops:
                        steps.append(self._repeat(scope.inner[node], scope, rank))
        return tuple(steps)

    def _repeat(self, scope: Scope, around: Scope, rank: int) -> Repeat:
        stage, node, graph = self._stage, scope.node, scope.placed.body.graph
        carries = tuple(
            PartCarry(
                init=self._begin(node.inputs[i], around),
                body_in=self._name(graph.inputs[i]),
                body_out=self._end(graph.outputs[i], scope),
                final=self._name(node.outputs[i]) if stage.makes(node.outputs[i], rank) else self._fresh(),
            )
            for i in stage.carries(scope, rank)
        )
        sliced = tuple(
            PartSlice(source=self._begin(node.inputs[i], around), body_in=self._name(graph.inputs[i]))
            for i in stage.slices(scope, rank)
        )
        stacked = tuple(
            PartStack(body_out=self._end(graph.outputs[i], scope), stacked=self._name(node.outputs[i]))
            for i in stage.stacks(scope, rank)
        )
        return Repeat(
            length=scan_length(node) or 0, carries=carries, sliced=sliced, stacked=stacked,
            steps=self._steps(scope, rank, stage.kept(scope, rank)),
        )  # fmt: skip

    def _begin(self, value: ir.Value | None, around: Scope) -> str:
        assert value is not None
        return self._end(value, around)

    def _exchanges(self, border: Border, rank: int) -> list[Step]:
        """Everything is sent before anything is waited for."""
        gives = [message for message in border.messages if message.giver == rank]
        rounds: list[dict[int, tuple[Shared, ...]]] = []
        seen: dict[int, int] = {}
        for message in border.messages:
            if rank in message.to:
                number = seen[message.giver] = seen.get(message.giver, -1) + 1
                if number == len(rounds):
                    rounds.append({})
                rounds[number][message.giver] = self._taken(message, rank)
        count = max(len(gives), 1 if rounds else 0)
        steps: list[Step] = []
        for index in range(count):
            last = index == count - 1
            message_ = gives[index] if index < len(gives) else None
            steps.append(
                Exchange(
                    gives=() if message_ is None else tuple(self._shared(v) for v in message_.values),
                    to=() if message_ is None else message_.to,
                    takes=rounds[0] if last and rounds else {},
                )
            )
        return steps + [Exchange(takes=takes) for takes in rounds[1:]]

    def _shared(self, value: ir.Value, name: str | None = None) -> Shared:
        shape = tuple(dim for dim in (value.shape or ()) if isinstance(dim, int))
        dtype = str(from_ir(value.dtype or ir.DataType.UNDEFINED))
        return Shared(name=name or self._name(value), dtype=dtype, shape=shape)

    def _taken(self, message: Message, rank: int) -> tuple[Shared, ...]:
        takes = self._stage.shares.takes[rank]
        return tuple(self._shared(v, None if v in takes else self._fresh()) for v in message.values)

    def _compute(
        self, scope: Scope, nodes: Sequence[ir.Node], needed: set[ir.Value], constants: Sequence[ir.Value]
    ) -> Compute:
        context = self._context
        builder = ModelBuilder(context.model, context.is_constant, context.reads)
        for node in nodes:
            builder.node(node)
        given = [(value, self._name(value)) for node in nodes for value in node.outputs if value in needed]
        given += [(value, self._end(value, scope)) for value in constants]
        for value, name in given:
            builder.output(builder.resolve(value), name)
        sha = context.ship(builder.finish())
        self.nodes[sha] = tuple(builder.names)
        # Of what a node reads, the model takes what its bodies really need.
        read = {value.name: value for node in nodes for value in context.reads(node)}
        inputs = [Wire(port.name, self._name(read[port.value])) for port in builder.inputs]
        outputs = tuple(Wire(port.name, port.value) for port in builder.outputs)
        return Compute(subgraph=sha, inputs=tuple(inputs), outputs=outputs)

    def _peak(self, root: Scope, rank: int) -> int:
        """Bytes, as if loops inside kept their values to the end of the outermost iteration."""
        stage = self._stage
        nodes: list[ir.Node] = []
        for scope in stage.scopes():
            for row in stage.timelines[scope.node].stages:
                nodes += row[rank]
        made = {value for node in nodes for value in node.outputs}
        resident = {v for node in nodes for v in self._context.reads(node) if v not in made}
        whole = sum(nbytes(root.node.inputs[i]) for i in stage.slices(root, rank))
        return whole + peak_memory(nodes, resident, set(), self._context.functions)
