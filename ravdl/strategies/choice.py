"""What `strategy="auto"` chooses, and what is said about it with the plan.

Estimates from the traced step's cost, the size of what machines would exchange, and what the connected providers measured of
themselves and their lines. Pure: the providers are an argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ravdl.neural_networks.data import Samples
from ravdl.neural_networks.layers import Layer
from ravdl.neural_networks.training import Recipe
from ravdl.strategies.compression import TRANSFERS
from ravdl.strategies.kinds import DataParallel, LocalSGD, Sequential, Strategy
from ravop.graph import Graph
from ravop.graph.cost import NodeCost, graph_cost
from ravop.graph.dtypes import FLOAT
from ravop.graph.graph import current_graph_or_none, set_current_graph

PLAIN_GFLOPS = 20.0
"""One core of a plain machine."""
TRIFLE = 2e-3
"""Seconds of a step, on such a core, below which no exchange pays, whoever is connected."""
MEETING = 1e-3
"""Seconds that an exchange takes however little is sent, over the shortest line."""
WORTH = 0.85
"""Several machines are chosen when they need less than this share of what one alone needs."""
MOST = 16
"""Shards that are thought of."""
TALK = 0.1
"""Share of the time that an exchange may take where a rhythm for `LocalSGD` is suggested."""


class Machine(NamedTuple):
    """A provider: GFLOP/s of a slot, bytes per second to and from the coordinator, 0 where that is not measured, and
    seconds that something small takes there and back.
    """

    gflops: float
    link: float
    round_trip: float = 0.0


@dataclass(frozen=True)
class Step:
    """What a training step costs, by the size of the batch: measured at two sizes, on a line through both."""

    size: int
    whole: NodeCost
    half: NodeCost
    weights: int
    """Bytes of all trained weights, and so of a gradient."""
    meetings: int
    """Exchanges in a step that is computed in shards."""

    def seconds(self, size: int, gflops: float) -> float:
        """On one machine, with a batch of this size."""
        whole, half = self.whole.seconds(gflops), self.half.seconds(gflops)
        small = max(1, math.ceil(self.size / 2))
        slope = (whole - half) / (self.size - small) if small < self.size else 0.0
        return max(whole + slope * (size - self.size), whole * size / self.size)


def step_cost(recipe: Recipe, samples: Samples, size: int) -> Step:
    """The cost of a step, traced in a graph of its own."""
    exchanged = sum(math.prod(shape) * 4 for pack in recipe.packs for shape in pack.shapes.values())
    mixing = sum(layer.mixes_examples for layer in recipe.layers if layer.trainable)
    half = _traced(recipe, samples, max(1, math.ceil(size / 2)))
    return Step(size, _traced(recipe, samples, size), half, exchanged, 1 + 2 * mixing)


def _traced(recipe: Recipe, samples: Samples, size: int) -> NodeCost:
    before = current_graph_or_none()
    try:
        graph = Graph(name="estimate")
        moved, everything = recipe.network.moving(), recipe.network.weights()
        ops = {name: graph.placeholder(FLOAT, spec.shape) for name, spec in everything.items()}
        state = recipe.state({name: ops[name] for name in moved}, lambda name: None)
        batch = samples.batch(lambda values: graph.placeholder(values.dtype, (size, *values.shape[1:])))
        made = len(graph.main.ir)
        recipe.step(state, {name: op for name, op in ops.items() if name not in moved}, batch)
        return graph_cost(list(graph.main.ir)[made:])
    finally:
        set_current_graph(before)


# ── estimates ─────────────────────────────────────────────────────────────────────────────────────
class Estimate(NamedTuple):
    """Seconds that one machine's step of `batch_size` samples' worth of training takes, spread over `machines`."""

    machines: int
    computing: float
    exchanging: float

    @property
    def total(self) -> float:
        return self.computing + self.exchanging


def alone(step: Step, machines: Sequence[Machine]) -> Estimate:
    """On the fastest machine."""
    return Estimate(1, step.seconds(step.size, max(m.gflops for m in machines)), 0.0)


def in_shards(step: Step, machines: Sequence[Machine], shards: int) -> Estimate:
    """`DataParallel(shards)` on the fastest machines; the slowest of them is waited for, and each takes what the others
    send through its own line.
    """
    ranks = _fastest(machines, shards)
    largest = math.ceil(step.size / shards) * math.ceil(shards / len(ranks))
    computing = step.seconds(largest, min(m.gflops for m in ranks))
    return Estimate(len(ranks), computing, _talk(step.weights, step.meetings, ranks))


def by_workers(step: Step, machines: Sequence[Machine], how: LocalSGD) -> Estimate:
    """`LocalSGD`, for as many samples as one machine uses in a step."""
    ranks = _fastest(machines, how.workers)
    in_turn = math.ceil(how.workers / len(ranks))
    sent = step.weights * TRANSFERS[how.transfer].bits / 32
    computing = step.seconds(step.size, min(m.gflops for m in ranks)) * in_turn
    talk = _talk(sent, 1, ranks) / how.sync_every
    return Estimate(len(ranks), computing / how.workers, talk / how.workers)


def _fastest(machines: Sequence[Machine], count: int) -> list[Machine]:
    return sorted(machines, key=lambda m: -m.gflops)[:count]


def _talk(sent: float, meetings: int, ranks: Sequence[Machine]) -> float:
    """Seconds in which each of these gets what all others send."""
    if len(ranks) == 1:
        return 0.0
    line = min(m.link for m in ranks)
    meeting = max(MEETING, *(m.round_trip for m in ranks))
    return meetings * meeting + (sent * (len(ranks) - 1) / line if line > 0 else math.inf)


# ── the choice ────────────────────────────────────────────────────────────────────────────────────
class Choice(NamedTuple):
    strategy: Strategy
    note: str


def is_trifle(step: Step) -> bool:
    """Whether no exchange pays, however fast the line."""
    return step.seconds(step.size, PLAIN_GFLOPS) < TRIFLE


def refuses_shards(layers: Sequence[Layer]) -> Layer | None:
    """The first layer that needs the whole batch and does not say how it works on shards of it."""
    for layer in layers:
        as_in_inference = bool(layer.weights()) and not layer.trainable
        one_tensor = len(layer.input_shapes) == len(layer.output_shapes) == 1
        can = one_tensor and type(layer).train_shards is not Layer.train_shards
        can = can or type(layer).train_all_shards is not Layer.train_all_shards
        if layer.mixes_examples and not as_in_inference and not can:
            return layer
    return None


def chosen(step: Step, machines: Sequence[Machine], layers: Sequence[Layer]) -> Choice:
    """Between the exact strategies, what is estimated to be fastest."""
    if is_trifle(step):
        trifle = step.seconds(step.size, PLAIN_GFLOPS)
        return Choice(Sequential(), f"Sequential(): a step of about {_time(trifle)} is too little to share")
    if len(machines) < 2:
        there = "one provider was" if machines else "no provider was"
        return Choice(Sequential(), f"Sequential(): {there} connected when fit was called")
    stubborn = refuses_shards(layers)
    if stubborn is not None:
        return Choice(Sequential(), f"Sequential(): {stubborn.name} needs whole batches")
    one = alone(step, machines)
    most = min(len(machines), step.size, MOST)
    best = min((in_shards(step, machines, n) for n in range(2, most + 1)), key=lambda e: e.total)
    spread = f"DataParallel({best.machines})"
    if math.isinf(best.total):
        return Choice(
            Sequential(), f"Sequential(): the lines are not measured yet; {_compared(spread, best, one)}"
        )
    if best.total <= WORTH * one.total:
        return Choice(DataParallel(best.machines), f"chose {_compared(spread, best, one)}")
    reason = "one machine alone is faster" if best.total >= one.total else "sharing would gain little"
    note = f"Sequential(): {reason}; {_compared(spread, best, one)}"
    return Choice(Sequential(), note + _slow_line(step, machines, best, one))


def told(how: Strategy, step: Step, machines: Sequence[Machine]) -> str:
    """What is to be expected of a strategy that was asked for, empty where there is nothing to say."""
    if isinstance(how, Sequential) or not machines:
        return ""
    one = alone(step, machines)
    if isinstance(how, LocalSGD):
        name, best = f"LocalSGD({how.workers})", by_workers(step, machines, how)
    else:
        name, best = f"DataParallel({how.shards})", in_shards(step, machines, how.shards)
    text = f"as asked, {_compared(name, best, one)}"
    if math.isinf(best.total):
        return f"{text}; the lines are not measured yet"
    if best.total < one.total:
        return text
    text += "; one machine alone would be faster: Sequential()"
    return text if isinstance(how, LocalSGD) else text + _slow_line(step, machines, best, one)


def _slow_line(step: Step, machines: Sequence[Machine], best: Estimate, one: Estimate) -> str:
    """Names `LocalSGD` where it is the exchange that eats up what sharing gains."""
    if not math.isfinite(best.total) or best.computing > WORTH * one.total:
        return ""
    workers = best.machines
    ranks = _fastest(machines, workers)
    pause = _talk(step.weights, 1, ranks)
    every = max(1, math.ceil(pause / (TALK * step.seconds(step.size, min(m.gflops for m in ranks)))))
    return (
        ". The line is too slow to exchange gradients in each step: "
        f"LocalSGD(workers={workers}, sync_every={every}) exchanges once in so many, by another course of training"
    )


def _compared(name: str, best: Estimate, one: Estimate) -> str:
    talk = "an unknown time" if math.isinf(best.exchanging) else _time(best.exchanging)
    return (
        f"{name} on {best.machines} providers: about {_time(best.computing)} of computing and {talk} of exchanging a "
        f"batch; the fastest provider alone: {_time(one.total)}"
    )


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
