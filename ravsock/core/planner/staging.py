"""When the ranks of a gang do what: stages of computing, and between them exchanges and loops that they run together.

A supersteps' world (Valiant, "A bridging model for parallel computation", 1990): a node runs in the first stage in which
the rank has what it reads, values travel as late as the takers allow, and what travels at the same time goes in one message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import onnx_ir as ir

from ravop.graph.cost import nbytes
from ravsock.core.fleet import Line
from ravsock.core.planner.body import carry_count
from ravsock.core.planner.sharing import Shares
from ravsock.core.planner.web import Scope, Web


@dataclass(frozen=True)
class Message:
    """What one rank sends to others at once."""

    giver: int
    to: tuple[int, ...]
    values: tuple[ir.Value, ...]

    @cached_property
    def size(self) -> int:
        return sum(map(nbytes, self.values))


@dataclass
class Border:
    """What happens between two stages: messages, then loops that ranks run together."""

    messages: list[Message] = field(default_factory=list)
    loops: list[ir.Node] = field(default_factory=list)

    def traffic(self, ranks: int) -> list[tuple[int, int]]:
        """Bytes that each rank sends and receives."""
        sent, received = [0] * ranks, [0] * ranks
        for message in self.messages:
            sent[message.giver] += message.size
            for rank in message.to:
                received[rank] += message.size
        return list(zip(sent, received, strict=True))


@dataclass
class Timeline:
    """One scope: the nodes that each rank runs in each stage, and the borders between the stages."""

    stages: list[list[list[ir.Node]]]
    """By stage and rank."""
    borders: list[Border]


class Stage:
    """All timelines of a placed and shared body."""

    def __init__(self, web: Web, shares: Shares, line: Line) -> None:
        self.web = web
        self.shares = shares
        self.ranks = len(shares.have)
        self.line = line
        self._reads: dict[tuple[ir.Node, int], dict[ir.Value, None]] = {}
        self.timelines: dict[ir.Node, Timeline] = {}
        self._arrange(web.root)

    # ── who does what ────────────────────────────────────────────────────────────────────────────────────────────────
    def makes(self, value: ir.Value, rank: int) -> bool:
        return value in self.shares.have[rank] and value not in self.shares.takes[rank]

    def runs(self, node: ir.Node, rank: int) -> bool:
        return any(self.makes(value, rank) for value in node.outputs)

    def takes_part(self, scope: Scope, rank: int) -> bool:
        """Whether the rank runs the loop of `scope` with others."""
        if any(self.makes(value, rank) for value in scope.node.outputs):
            return True
        body = scope.placed.body
        if any(value in self.shares.have[rank] for value in body.graph.inputs):
            return True
        return any(
            self.takes_part(scope.inner[node], rank) if node in scope.inner else self.runs(node, rank)
            for node in body.nodes
        )

    def carries(self, scope: Scope, rank: int) -> list[int]:
        """Positions of the carries that the rank holds. For the outermost loop, those it gives come on top."""
        node, graph, have = scope.node, scope.placed.body.graph, self.shares.have[rank]
        return [
            index
            for index in range(carry_count(node))
            if graph.inputs[index] in have or (scope.parent and self.makes(node.outputs[index], rank))
        ]

    def slices(self, scope: Scope, rank: int) -> list[int]:
        """Positions among the loop's inputs of the slices that the rank reads."""
        inputs = scope.placed.body.graph.inputs
        have = self.shares.have[rank]
        return [i for i in range(carry_count(scope.node), len(inputs)) if inputs[i] in have]

    def stacks(self, scope: Scope, rank: int) -> list[int]:
        """Positions among an inner loop's outputs of what the rank stacks."""
        outputs = scope.node.outputs
        return [i for i in range(carry_count(scope.node), len(outputs)) if self.makes(outputs[i], rank)]

    def kept(self, scope: Scope, rank: int) -> list[ir.Value]:
        """Values at the end of an iteration of an inner loop that the rank keeps."""
        outputs = scope.placed.body.graph.outputs
        return [outputs[i] for i in (*self.carries(scope, rank), *self.stacks(scope, rank))]

    def read_outside(self, scope: Scope, rank: int) -> dict[ir.Value, None]:
        """Values of the scopes around that the rank's share of an inner loop reads, constants among them
        where the loop begins with them or walks along them."""
        found = self._reads.get((scope.node, rank))
        if found is not None:
            return found
        node = scope.node
        found = {}
        if self.takes_part(scope, rank):
            around = [node.inputs[i] for i in (*self.carries(scope, rank), *self.slices(scope, rank))]
            found |= {value: None for value in around if value is not None}
            inside = {*self._inside(scope)}
            reads = [*self.kept(scope, rank)]
            for child in scope.placed.body.nodes:
                if child in scope.inner:
                    reads += self.read_outside(scope.inner[child], rank)
                elif self.runs(child, rank):
                    reads += self.web.context.reads(child)
            constant = self.web.context.is_constant
            found |= {value: None for value in reads if value not in inside and not constant(value)}
        self._reads[node, rank] = found
        return found

    @staticmethod
    def _inside(scope: Scope) -> Iterator[ir.Value]:
        body = scope.placed.body
        yield from body.graph.inputs
        yield from body.graph.initializers.values()
        for node in body.graph:
            yield from node.outputs

    # ── when ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _arrange(self, scope: Scope) -> None:
        for inner in scope.inner.values():
            self._arrange(inner)
        self.timelines[scope.node] = _Arrangement(self, scope, self.line).timeline()

    def scopes(self) -> Iterator[Scope]:
        pending = [self.web.root]
        while pending:
            scope = pending.pop()
            yield scope
            pending += scope.inner.values()

    def seconds(self, cost: Callable[[ir.Node], float], line: Line | None) -> float:
        """One iteration of the outermost loop; exchanges over `line`, or in no time."""
        total = 0.0
        for scope in self.scopes():
            timeline = self.timelines[scope.node]
            here = sum(max(sum(map(cost, nodes)) for nodes in stage) for stage in timeline.stages)
            if line is not None:
                here += sum(
                    line.seconds(max(map(max, b.traffic(self.ranks)))) for b in timeline.borders if b.messages
                )
            total += scope.trips * here
        return total

    def bytes(self) -> int:
        """Sent and received in one iteration of the outermost loop by the rank that has most."""
        total = [0] * self.ranks
        for scope in self.scopes():
            for border in self.timelines[scope.node].borders:
                for rank, both in enumerate(border.traffic(self.ranks)):
                    total[rank] += scope.trips * sum(both)
        return max(total)

    def exchanges(self) -> int:
        return sum(
            scope.trips * sum(1 for b in self.timelines[scope.node].borders if b.messages)
            for scope in self.scopes()
        )


class _Arrangement:
    """The timeline of one scope."""

    def __init__(self, stage: Stage, scope: Scope, line: Line) -> None:
        self._stage = stage
        self._scope = scope
        self._line = line
        self._there: dict[tuple[ir.Value, int], int] = {}
        """Since which stage a rank has a value of this scope."""
        self._when: dict[tuple[ir.Node, int], int] = {}
        self._loops: dict[ir.Node, int] = {}
        """The stage after which a loop is run."""
        self._takers: dict[ir.Value, list[int]] = {}
        for rank, takes in enumerate(stage.shares.takes):
            for value in takes:
                self._takers.setdefault(value, []).append(rank)

    def timeline(self) -> Timeline:
        for node in self._scope.placed.body.nodes:
            self._place(node)
        travels = self._travels()
        used = sorted({*travels.values(), *self._loops.values()})
        stages: list[list[list[ir.Node]]] = [
            [[] for _ in range(self._stage.ranks)] for _ in range(len(used) + 1)
        ]
        number = {old: sum(1 for border in used if border < old) for old in {*self._when.values()}}
        for node in self._scope.placed.body.nodes:
            for rank in range(self._stage.ranks):
                if (node, rank) in self._when:
                    stages[number[self._when[node, rank]]][rank].append(node)
        borders = []
        for old in used:
            values = [value for value, border in travels.items() if border == old]
            loops = [node for node, border in self._loops.items() if border == old]
            borders.append(Border(self._messages(values), loops))
        return Timeline(stages, borders)

    def _place(self, node: ir.Node) -> None:
        stage, scope = self._stage, self._scope
        if node in scope.inner:
            inside = scope.inner[node]
            part = [rank for rank in range(stage.ranks) if stage.takes_part(inside, rank)]
            at = max(
                (self._since(v, rank) for rank in part for v in stage.read_outside(inside, rank)), default=0
            )
            self._loops[node] = at
            self._give(node, dict.fromkeys(part, at + 1))
            return
        ranks = [rank for rank in range(stage.ranks) if stage.runs(node, rank)]
        reads = stage.web.context.reads(node)
        for rank in ranks:
            self._when[node, rank] = max((self._since(value, rank) for value in reads), default=0)
        self._give(node, {rank: self._when[node, rank] for rank in ranks})

    def _since(self, value: ir.Value, rank: int) -> int:
        return self._there.get((value, rank), 0)

    def _give(self, node: ir.Node, since: dict[int, int]) -> None:
        takes = self._stage.shares.takes
        for value in node.outputs:
            for rank, at in since.items():
                if value not in takes[rank]:
                    self._there[value, rank] = at
            for rank in self._takers.get(value, ()):
                self._there[value, rank] = self._there[value, takes[rank][value]] + 1

    def _travels(self) -> dict[ir.Value, int]:
        """Values of this scope that travel, and after which stage: as late as all takers allow."""
        last = max([0, *self._there.values()])
        first: dict[ir.Value, int] = {}

        def use(value: ir.Value, rank: int, at: int) -> None:
            if value in self._stage.shares.takes[rank]:
                first[value] = min(first.get(value, last), at)

        for (node, rank), at in self._when.items():
            for value in self._stage.web.context.reads(node):
                use(value, rank, at)
        for node, at in self._loops.items():
            for rank in range(self._stage.ranks):
                for value in self._stage.read_outside(self._scope.inner[node], rank):
                    use(value, rank, at)
        home = self._stage.web.home
        return {
            value: first.get(value, last) - 1
            for value in self._in_order(v for v in self._takers if home[v] is self._scope)
        }

    def _in_order(self, values: Iterable[ir.Value]) -> list[ir.Value]:
        wanted = set(values)
        return [v for node in self._scope.placed.body.nodes for v in node.outputs if v in wanted]

    def _messages(self, values: Iterable[ir.Value]) -> list[Message]:
        """One message per rank to all who take something of it, unless that sends much in vain."""
        found: list[Message] = []
        by_giver: dict[int, dict[tuple[int, ...], list[ir.Value]]] = {}
        for value in values:
            to = tuple(self._takers[value])
            giver = self._stage.shares.takes[to[0]][value]
            by_giver.setdefault(giver, {}).setdefault(to, []).append(value)
        for giver, groups in sorted(by_giver.items()):
            together = Message(
                giver,
                tuple(sorted({rank for to in groups for rank in to})),
                tuple(value for group in groups.values() for value in group),
            )
            apart = [Message(giver, to, tuple(group)) for to, group in groups.items()]
            needed = sum(message.size * len(message.to) for message in apart)
            extra = (together.size * len(together.to) - needed) / self._line.rate
            found += [together] if extra <= self._line.latency * (len(apart) - 1) else apart
        return found
