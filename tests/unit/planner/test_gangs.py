"""Gangs: the parts of all ranks, run in turns, give what one session gives; and they exchange no more than they must.

`check_plan` runs every gang of every loop beside the loop's chunk (`interpret.Interpreter.gang`).
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import Activation, BatchNormalization, Conv2D, Dense, Flatten
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam
from ravdl.strategies import DataParallel, LocalSGD
from ravop.graph import Graph
from ravop.graph.serde import to_bytes
from ravop.protocol.parts import Compute, Exchange, Repeat
from ravsock.core.fleet import Fleet, Line, ProviderSpeed
from ravsock.core.plan import Loop
from ravsock.core.planner import gangs as gang_rules

RNG = np.random.default_rng(5)
FAST = Line(1e9, 1e-4)
WIDTH, BATCH, STEPS = 16, 24, 3


def fleet(gflops=1e-4, line=FAST):
    """Slow machines: a small body is a long one."""
    return Fleet((ProviderSpeed(gflops, 2**33, 1, line),) * 4)


def array(*shape):
    return RNG.normal(size=shape).astype(np.float32) * 0.3


def loops(planned):
    """Those of the main plan and of opened loops, the outer ones first."""
    pending = list(planned.plan.main.units)
    for unit in pending:
        if isinstance(unit, Loop):
            yield unit
            pending += unit.body.units if unit.body else ()


def gangs(planned):
    return [gang for loop in loops(planned) for gang in loop.gangs]


def by_size(planned):
    return {len(gang.parts): gang for gang in gangs(planned)}


@pytest.fixture
def check(check_plan):
    def run(graph, line=FAST, gflops=1e-4, unit_seconds=1e-2, **options):
        machines = fleet(gflops, line)
        return check_plan(
            to_bytes(graph.model()), graph.inputs, unit_seconds, fleet=machines, rtol=1e-4, **options
        )

    return run


def steps_of(part):
    pending = [part.loop]
    while pending:
        step = pending.pop()
        yield step
        if isinstance(step, Repeat):
            pending += step.steps


# ── bodies written by hand ───────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("branches", [2, 5])
def test_branches_of_a_body_run_side_by_side(check, branches):
    graph = Graph("branches")
    w, rows = graph.input(array(WIDTH, WIDTH)), graph.input(array(STEPS, WIDTH, WIDTH))

    def body(c, x):
        ends = [R.tanh(R.tanh((c * (k + 1)) @ x) @ w) for k in range(branches)]
        return sum(ends[1:], ends[0]) / branches, R.mean(ends[-1])

    final, ys = R.scan(body, w, rows)
    final.persist_op("final")
    ys.persist_op("ys")
    found = by_size(check(graph, Line(1e6, 1e-3), 1e-3))
    assert branches in found
    gang = found[branches]
    assert gang.exchanges == 1
    assert gang.bytes == branches * WIDTH * WIDTH * 4  # each gives its end, and takes all others
    assert gang.seconds < min((g.seconds for n, g in found.items() if n < branches), default=1e9)


def test_a_chain_has_no_gang(check):
    graph = Graph("chain")
    final, _ = R.scan(
        lambda c, x: (R.tanh(R.tanh(c @ x) @ x), None),
        array(WIDTH, WIDTH),
        graph.input(array(4, WIDTH, WIDTH)),
    )
    final.persist_op("final")
    assert not gangs(check(graph))


def test_awkward_states(check):
    """Carries that begin with one value, pass through, change places, end as constants or unread ones."""
    graph = Graph("awkward", seed=3)
    w, rows = graph.input(array(WIDTH, WIDTH)), graph.input(array(STEPS, WIDTH, WIDTH))
    constant = R.t(array(WIDTH, WIDTH))

    def body(c, x):
        a, b, left, right, same, fixed, unread = c
        ends = [R.tanh(R.tanh(c @ x) @ w) for c in (a, b)]
        total = ends[0] + ends[1] + fixed + R.random_uniform(size=(WIDTH, WIDTH))
        ys = (constant, x, right, R.sum(total), same)
        return (ends[0], total, right, left, same, constant, R.tanh(unread)), ys

    finals, ys = R.scan(body, (w, w, w, constant, w, constant * 2.0, w), rows)
    for number, value in enumerate((*finals, *ys)):
        value.persist_op(f"v{number}")
    assert by_size(check(graph))


def test_values_of_unknown_shape_stay_where_they_are(check):
    graph = Graph("unknown")
    w, rows = graph.input(array(WIDTH, WIDTH)), graph.input(array(STEPS, WIDTH, WIDTH))

    def body(c, x):
        parts = [R.tanh(R.tanh((c + k) @ x) @ w) for k in range(3)]
        chosen = [R.unique(R.round(part * 4.0)) for part in parts]
        return sum(R.mean(one) for one in chosen) + sum(parts[1:], parts[0]) / 3, None

    final, _ = R.scan(body, w, rows)
    final.persist_op("final")
    planned = check(graph)
    assert by_size(planned)
    for gang in gangs(planned):
        for part in gang.parts:
            for step in steps_of(part):
                if isinstance(step, Exchange):
                    assert all(isinstance(dim, int) for value in step.gives for dim in value.shape)


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def descend(state, gradients):
    """Adam without its corrections."""
    w, m, v = state
    m = tuple(a * 0.9 + g * 0.1 for a, g in zip(m, gradients, strict=True))
    v = tuple(a * 0.99 + g * g * 0.01 for a, g in zip(v, gradients, strict=True))
    moved = zip(w, m, v, strict=True)
    return tuple(a - 0.01 * b / (R.sqrt(c) + 1e-3) for a, b, c in moved), m, v


def shards_step(shards):
    size = BATCH // shards

    def step(state, batch):
        losses, gradients = [], []
        for k in range(shards):
            h = batch[k * size : (k + 1) * size]
            for weight in state[0]:
                h = R.tanh(h @ weight)
            losses.append(R.mean((h - 0.5) ** 2))
            gradients.append(R.grad(losses[-1], list(state[0])))
        mean = [sum(of[1:], of[0]) / shards for of in zip(*gradients, strict=True)]
        return descend(state, mean), sum(losses[1:], losses[0]) / shards

    return step


def state(graph, layers=2):
    zeros = (R.t(np.zeros((WIDTH, WIDTH), np.float32)),) * layers
    return tuple(graph.input(array(WIDTH, WIDTH)) for _ in range(layers)), zeros, zeros


GRADIENTS = 2 * WIDTH * WIDTH * 4


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_exchange_gradients_alone(check, shards):
    graph = Graph("shards")
    (w, _, v), losses = R.scan(shards_step(shards), state(graph), graph.input(array(STEPS, BATCH, WIDTH)))
    for number, value in enumerate((*w, *v, losses)):
        value.persist_op(f"v{number}")
    # A line on which activations are no cheaper than the work on them.
    gang = by_size(check(graph, Line(1e5, 1e-2), 1e-3))[shards]
    assert gang.exchanges == 1
    received = (shards - 1) * GRADIENTS
    assert received + GRADIENTS <= gang.bytes <= received + GRADIENTS + 4 * shards, "gradients, and losses"
    assert all(len(part.loop.carries) == 6 for part in gang.parts), "each rank keeps the whole state"


def epochs_graph():
    graph = Graph("epochs")
    batches = graph.input(array(STEPS, BATCH, WIDTH))
    step = shards_step(2)

    def epoch(carry, _):
        carry, losses = R.scan(step, carry, batches)
        carry, last = step(carry, batches[0] * 0.5)
        return carry, (losses, last)

    (w, _, _), (losses, last) = R.scan(epoch, state(graph), length=2)
    for number, value in enumerate((*w, losses, last)):
        value.persist_op(f"v{number}")
    return graph


def test_short_epochs_around_batches_are_spread_inside(check):
    gang = by_size(check(epochs_graph(), Line(1e5, 1e-2), 1e-3, unit_seconds=1.0))[2]
    assert gang.exchanges == STEPS + 1
    assert all(any(isinstance(step, Repeat) for step in part.loop.steps) for part in gang.parts)


def test_long_epochs_are_opened_and_their_batches_shared(check):
    """An epoch is no unit that only ends as a whole: there are restart points within."""
    epochs, batches = loops(check(epochs_graph(), Line(1e7, 1e-3), 1e-4, unit_seconds=0.1))
    assert (epochs.label, epochs.gangs) == ("loop of 2", ())
    assert epochs.body is not None
    assert (batches.label, len(batches.gangs)) == (f"loop of {STEPS}", 1)


def rounds_graph():
    """Epochs of rounds of two workers that take steps side by side."""
    graph = Graph("rounds")
    shards = [graph.input(array(STEPS, 4, BATCH, WIDTH)) for _ in range(2)]

    def alone(w, x):
        (g,) = R.grad(R.mean((R.tanh(x @ w) - 1.0) ** 2), [w])
        return w - 0.1 * g, None

    def together(w, batches):
        ends = [R.scan(alone, w, of_worker)[0] for of_worker in batches]
        return (ends[0] + ends[1]) / 2, R.mean(w)

    w, means = R.scan(
        lambda w, _: R.scan(together, w, tuple(shards)), graph.input(array(WIDTH, WIDTH)), length=2
    )
    w.persist_op("w")
    means.persist_op("means")
    return graph


def test_long_rounds_are_shared_and_only_the_epochs_around_opened(check):
    epochs, rounds = loops(check(rounds_graph(), Line(1e7, 1e-3), 1e-4, unit_seconds=0.1))
    assert epochs.body is not None
    assert rounds.label == f"loop of {STEPS}"
    assert rounds.cost.flops / 1e5 > 0.2, "an iteration is worth more than two units"
    assert [len(gang.parts) for gang in rounds.gangs] == [2]


def test_batch_norm_exchanges_sums(check):
    graph = Graph("norm")
    w0 = tuple(graph.input(array(WIDTH, WIDTH)) for _ in range(2))

    def step(weights, batch):
        halves = [batch[: BATCH // 2], batch[BATCH // 2 :]]
        for weight in weights:
            halves = [h @ weight for h in halves]
            mean = (R.sum(halves[0], axis=0) + R.sum(halves[1], axis=0)) / BATCH
            spread = [R.sum((h - mean) ** 2, axis=0) for h in halves]
            scale = R.sqrt((spread[0] + spread[1]) / BATCH + 1e-3)
            halves = [R.tanh((h - mean) / scale) for h in halves]
        loss = (R.sum((halves[0] - 0.5) ** 2) + R.sum((halves[1] - 0.5) ** 2)) / BATCH
        gradients = R.grad(loss, list(weights))
        return tuple(w - 0.01 * g for w, g in zip(weights, gradients, strict=True)), loss

    w, losses = R.scan(step, w0, graph.input(array(STEPS, BATCH, WIDTH)))
    for number, value in enumerate((*w, losses)):
        value.persist_op(f"v{number}")
    gang = by_size(check(graph, Line(1e5, 1e-3), 1e-3))[2]
    sums = gang.bytes - 2 * GRADIENTS
    assert 0 < sums < GRADIENTS, "gradients, and sums over the batch beside them"


def test_workers_exchange_compressed_differences(check):
    graph, workers = Graph("workers"), 3
    shards = [graph.input(array(STEPS, 4, BATCH, WIDTH)) for _ in range(workers)]

    def together(carry, batches):
        w, memory = carry
        moved, kept = [], []
        for m, of_worker in zip(memory, batches, strict=True):

            def alone(carry, x):
                a, m = carry
                (g,) = R.grad(R.mean((R.tanh(R.tanh(x @ a) @ a) - 1.0) ** 2), [a])
                return (a - 0.1 * m, m * 0.9 + g), None

            (a, m), _ = R.scan(alone, (w, m), of_worker)
            scale = R.max(R.abs(w - a)) / 127 + 1e-9
            moved.append(R.round((w - a) / scale).astype("int8").astype("float32") * scale)
            kept.append(m)
        return (w - sum(moved[1:], moved[0]) / workers, tuple(kept)), R.mean(w)

    zeros = R.t(np.zeros((WIDTH, WIDTH), np.float32))
    (w, _), means = R.scan(together, (graph.input(array(WIDTH, WIDTH)), (zeros,) * workers), tuple(shards))
    w.persist_op("w")
    means.persist_op("means")
    gang = by_size(check(graph, Line(3e4, 1e-2)))[workers]
    assert gang.exchanges == 1
    assert gang.bytes == workers * (WIDTH * WIDTH + 4), "int8, and one scale"
    sources = [len(part.loop.sliced) for part in gang.parts]
    assert sources == [1] * workers, "a shard of the data goes to its worker alone"
    assert [len(part.loop.carries) for part in gang.parts] == [2] * workers, "so does its memory"


@pytest.mark.parametrize("strategy", [DataParallel(2), LocalSGD(2, 2, transfer="int8")])
def test_strategies_are_gangs(check, strategy):
    graph = Graph("training", seed=2)
    network = NeuralNetwork(Adam(), CrossEntropy, seed=2)
    for layer in (
        Conv2D(4, 3, input_shape=(1, 8, 8)), BatchNormalization(), Activation("relu"), Flatten(), Dense(3),
        Activation("softmax"),
    ):  # fmt: skip
        network.add(layer)
    x, y = array(38, 1, 8, 8), RNG.integers(0, 3, 38)
    network.fit(x, y, 2, 8, save_model=True, shuffle=True, strategy=strategy)
    assert 2 in by_size(check(graph, gflops=1e-2))


def test_branches_that_begin_with_something_cheap_are_found(plan):
    """A first convolution costs less than sending its result, and is nobody's; the shards must not fall together for that."""
    graph = Graph("images", seed=2)
    network = NeuralNetwork(Adam(), CrossEntropy, seed=2)
    for layer in (
        Conv2D(16, 3, input_shape=(1, 8, 8)), BatchNormalization(), Activation("relu"), Conv2D(32, 3), BatchNormalization(),
        Activation("relu"), Flatten(), Dense(3), Activation("softmax"),
    ):  # fmt: skip
        network.add(layer)
    network.fit(
        array(2048, 1, 8, 8), RNG.integers(0, 3, 2048), 1, 512, save_model=True, strategy=DataParallel(2)
    )
    planned = plan(to_bytes(graph.model()), 1e-2, fleet(20.0, Line()))
    steps = [loop for loop in loops(planned) if loop.gangs][-1]
    gang = steps.gangs[0]
    assert gang.exchanges <= 8, "sums of the batch, and the gradients"
    assert gang.bytes < 3e6, "and nothing that is as large as a batch"
    assert gang.seconds < 0.7 * (steps.cost.flops / 20e9 + steps.cost.seconds_overhead)


# ── what is offered ──────────────────────────────────────────────────────────────────────────────────────────────────
def shards_graph():
    graph = Graph("shards")
    (w, _, _), losses = R.scan(shards_step(4), state(graph), graph.input(array(STEPS, BATCH, WIDTH)))
    w[0].persist_op("w")
    losses.persist_op("losses")
    return to_bytes(graph.model())


def test_the_summary_counts_gangs(plan):
    summary = plan(shards_graph(), 1e-2, fleet(1e-4, Line(1e5, 1e-3))).plan.summary
    assert summary.useful_providers == 4
    assert summary.fleet_seconds < summary.single_seconds / 1.5
    assert "loop (chunked, up to 4 side by side)" in {unit.kind for unit in summary.units}
    assert not any("one machine" in note for note in summary.notes)


def test_the_summary_says_when_the_line_is_too_slow(plan):
    planned = plan(shards_graph(), 1e-2, fleet(1e-3, Line(1e3, 0.1)))
    summary = planned.plan.summary
    assert gangs(planned), "others may have a better line"
    assert summary.useful_providers == 1
    assert summary.fleet_seconds == pytest.approx(summary.single_seconds)
    assert any("too slow by" in note and "0.001 MB/s" in note for note in summary.notes)


def test_equal_shards_are_equal_models(plan):
    found = by_size(plan(shards_graph(), 1e-2, fleet(1e-4, Line(1e5, 1e-3))))[4]
    models = [[s.subgraph for s in part.loop.steps if isinstance(s, Compute)] for part in found.parts]
    assert len({of_rank[-1] for of_rank in models[1:]}) == 1, "ranks that do the same share a model"


# ── any body ─────────────────────────────────────────────────────────────────────────────────────────────────────────
UNARY = [R.tanh, R.transpose, lambda a: R.mean(a, axis=0, keepdims=True) + a * 0.5, lambda a: a * 1.0]
BINARY = [lambda a, b: R.tanh(a @ b), lambda a, b: R.maximum(a, b), lambda a, b: a - b * 0.25]


def grow(draw, pool, size, depth):
    for _ in range(size):
        kind = draw(st.sampled_from(["unary", "binary", "binary", *["loop"] * depth]))
        if kind == "unary":
            pool.append(draw(st.sampled_from(UNARY))(draw(st.sampled_from(pool))))
        elif kind == "binary":
            pool.append(draw(st.sampled_from(BINARY))(*(draw(st.sampled_from(pool)) for _ in range(2))))
        else:
            pool.extend(loop(draw, pool, depth - 1))
    return pool


def loop(draw, pool, depth):
    init = tuple(draw(st.sampled_from(pool)) for _ in range(draw(st.integers(1, 3))))
    length = draw(st.integers(1, 3))
    xs = draw(
        st.sampled_from([None, R.t(np.linspace(-1, 1, length * 9, dtype=np.float32).reshape(length, 3, 3))])
    )

    def body(carry, x):
        inner = grow(draw, [*pool, *carry, *([] if x is None else [x])], draw(st.integers(2, 9)), depth)
        kept = tuple(draw(st.sampled_from([*inner[-3:], *carry])) for _ in carry)
        return tuple(R.tanh(value) if draw(st.booleans()) else value for value in kept), draw(
            st.sampled_from(inner)
        )

    final, ys = R.scan(body, init, xs, length=length)
    return [*final, R.mean(ys, axis=0)]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), latency=st.sampled_from([1e-6, 1e-4, 3e-3]))
def test_any_body_gives_the_same_when_it_is_shared(check, data, latency):
    graph = Graph("any")
    pool = [graph.input(array(3, 3)) for _ in range(2)]
    for number, value in enumerate(loop(data.draw, [*pool, R.t(array(3, 3))], 1)):
        value.persist_op(f"v{number}")
    with pytest.MonkeyPatch.context() as patched:
        # Every way is tried, however little it gains.
        patched.setattr(gang_rules, "FIRST_GAIN", 0.05)
        patched.setattr(gang_rules, "GAIN", 0.5)
        patched.setattr(gang_rules, "MAX_WIDTH", 3)
        check(graph, Line(1e6, latency), 1e-5)
