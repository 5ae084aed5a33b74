"""Ways to run a loop's iterations on several machines at once: the door to `placing`, `web`, `sharing`, `staging` and `parts`.

A way is worth offering when it is faster, exchanges included, than each way for fewer machines. Nothing here knows of
training: parallel branches in a loop's body are all it looks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ravop.protocol.parts import MAX_PAYLOAD
from ravsock.core.fleet import DEFAULT_GFLOPS, DEFAULT_LINE, Line
from ravsock.core.plan import Gang
from ravsock.core.planner.body import Body
from ravsock.core.planner.context import Context
from ravsock.core.planner.parts import PartWriter, Ports
from ravsock.core.planner.placing import count_branches, place
from ravsock.core.planner.sharing import share
from ravsock.core.planner.staging import Stage
from ravsock.core.planner.web import Web

MAX_WIDTH = 16
FIRST_GAIN = 1.25
"""What the smallest gang must gain over one machine."""
GAIN = 1.1
"""What a larger gang must gain over the next smaller one."""
SHORT_SECONDS = 30.0
"""A loop whose iterations are longer is rather opened than run by a gang: a chunk is lost when one rank is."""
_SIZES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)


@dataclass(frozen=True)
class Offer:
    """A gang before its models are written."""

    stage: Stage
    seconds: float
    """One iteration, exchanges included, on machines of the fleet's typical speed."""

    @property
    def spreads_loops(self) -> bool:
        """Whether the ranks share the iterations of a loop inside, instead of running branches beside each other."""
        return bool(self.stage.web.root.placed.spread)


def find_gangs(node: ir.Node, positions: Sequence[int], context: Context) -> tuple[Offer, ...]:
    """Gangs worth offering for a loop of which the outputs at `positions` are wanted, the fewest ranks first: for the
    line that the fleet has, or, when that is too slow for any, for the line that others may have."""
    found = _find(node, positions, context, context.line)
    slow = context.line.rate < DEFAULT_LINE.rate or context.line.latency > DEFAULT_LINE.latency
    return found if found or not slow else _find(node, positions, context, DEFAULT_LINE)


def _find(node: ir.Node, positions: Sequence[int], context: Context, line: Line) -> tuple[Offer, ...]:
    graph = node.attributes["body"].as_graph()
    wanted = [graph.outputs[position] for position in positions]
    body = Body(graph, wanted, context)
    if body.work <= 2 * line.latency:
        return ()
    found = _offers(node, body, count_branches(body, line), context, line, True)
    return found or _offers(node, body, body.width(), context, line, False)


def _offers(
    node: ir.Node, body: Body, width: int, context: Context, line: Line, whole_branches: bool
) -> tuple[Offer, ...]:
    """Gangs of up to `width` ranks, with branches left whole or not."""
    offers: list[Offer] = []
    width = min(width, MAX_WIDTH)
    best = body.work / FIRST_GAIN * GAIN
    for ranks in sorted({size for size in _SIZES if size < width} | ({width} if width > 1 else set())):
        placed = place(body, ranks, line, whole_branches)
        if placed.seconds * GAIN > best:
            continue
        web = Web(placed, node, context, line)
        stage = Stage(web, share(web, body.outputs, ranks), line)
        offer = Offer(stage, stage.seconds(context.seconds, line))
        if offer.seconds * GAIN <= best and _is_sendable(offer.stage):
            offers.append(offer)
            best = offer.seconds
    return tuple(offers)


def _is_sendable(stage: Stage) -> bool:
    messages = [m for t in stage.timelines.values() for border in t.borders for m in border.messages]
    return all(message.size <= MAX_PAYLOAD for message in messages)


def write_gang(offer: Offer, ports: Ports, positions: Sequence[int], context: Context) -> Gang:
    """The gang as it is stored; its models are kept in `context`."""
    stage = offer.stage
    writer = PartWriter(stage, ports)
    parts = writer.parts(positions)
    return Gang(
        parts=parts,
        seconds=stage.seconds(lambda node: context.cost(node).seconds(DEFAULT_GFLOPS), None),
        bytes=stage.bytes(),
        exchanges=stage.exchanges(),
        nodes=writer.nodes,
    )
