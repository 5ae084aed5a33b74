"""Graphs made to be awkward, and what their plans look like."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import ravop as R
from ravop.errors import ArgumentError, InvalidModelError
from ravop.graph import Graph
from ravop.graph.check import check_model
from ravop.graph.control import function
from ravop.graph.manifest import Binding, Manifest, Persisted
from ravop.graph.serde import to_bytes
from ravsock.core.fleet import Fleet, ProviderSpeed
from ravsock.core.plan import Loop, Subgraph
from ravsock.core.planner import plan_graph

VECTOR = np.array([1.0, -2.0, 0.5], np.float32)
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
SLOW = Fleet((ProviderSpeed(1e-6, 2**33, 1), ProviderSpeed(1e-6, 2**33, 1)))
"""1,000 FLOP/s: a small loop is a long one."""


def model(graph):
    return to_bytes(graph.model())


def info(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def onnx_model(nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    return helper.make_model(
        graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]
    ).SerializeToString()


def body(nodes, inputs, outputs, initializers=()):
    return helper.make_graph(nodes, "b", inputs, outputs, list(initializers))


def units(planned, kind=object):
    return [unit for unit in planned.plan.main.units if isinstance(unit, kind)]


def looping(length=4, width=3):
    """A loop over rows with one carry; → (graph, final carry, stacked)."""
    graph = Graph("looping")
    rows = graph.input(np.arange(length * width, dtype=np.float32).reshape(length, width))
    start = graph.input(np.zeros(width, np.float32))
    return graph, *R.scan(lambda c, x: (R.tanh(c + x), c * x), start, rows)


# ── shapes of plans ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_small_graph_is_one_subgraph(check_plan):
    graph, final, ys = looping()
    final.persist_op("f")
    R.mean(ys).persist_op("m")
    planned = check_plan(model(graph), graph.inputs)
    (unit,) = planned.plan.main.units
    assert isinstance(unit, Subgraph)
    assert planned.plan.steps == 1


@pytest.mark.parametrize("unit_seconds", [1e-5, 1e-6, 0])
def test_a_loop_is_a_unit_of_its_own(check_plan, unit_seconds):
    graph, final, ys = looping()
    final.persist_op("f")
    ys.persist_op("ys")
    planned = check_plan(model(graph), graph.inputs, unit_seconds)
    (loop,) = units(planned, Loop)
    assert loop.length == planned.plan.steps == 4
    assert (loop.body is not None) == (unit_seconds < 1e-5)


def test_every_chunk_length_is_one_model(check_plan):
    graph, final, _ = looping(length=30)
    final.persist_op("f")
    planned = check_plan(model(graph), graph.inputs, 1e-4)
    (loop,) = units(planned, Loop)
    assert loop.chunk is not None
    assert set(planned.models) == {unit.chunk.model for unit in units(planned, Loop)}
    assert not loop.stacked, "nobody reads what it stacks"


def test_an_epoch_worth_much_is_opened_and_its_batches_are_chunked(check_plan):
    graph = Graph("training")
    data, weights = graph.input(np.ones((6, 8, 8), np.float32)), graph.input(np.eye(8, dtype=np.float32))

    def epoch(w, _):
        w, losses = R.scan(lambda w, x: (R.tanh(w @ x), R.mean(w)), w, data)
        return R.tanh(w @ data[0]), losses

    final, losses = R.scan(epoch, weights, length=5)
    final.persist_op("w")
    losses.persist_each("loss_{}_{}")
    data_bytes = model(graph)
    check_plan(data_bytes, graph.inputs, 1.0)
    # A batch takes 8·8·8·2 + … FLOPs: on this fleet a second and more.
    planned = plan_graph(check_model(data_bytes), graph.manifest(_bindings(graph)), SLOW)
    (outer,) = [unit for unit in planned.plan.main.units if isinstance(unit, Loop)]
    assert outer.body is not None
    (inner,) = [unit for unit in outer.body.units if isinstance(unit, Loop)]
    assert inner.chunk is not None
    assert (outer.length, outer.steps, inner.length, inner.steps) == (5, 6, 6, 1)
    assert planned.plan.steps == 30


def _bindings(graph):
    return [Binding(input=name, sha="0" * 64, size=1) for name in graph.inputs]


def mapping(length=10, width=3):
    """Rows worked on one by one, and the mean of what came of them; → the graph."""
    graph = Graph("mapping")
    rows = graph.input(np.arange(length * width, dtype=np.float32).reshape(length, width))
    k = graph.input(VECTOR[:width])
    _, ys = R.scan(lambda _, x: (None, R.tanh(x * k)), None, rows)
    ys.persist_op("ys")
    R.mean(ys, axis=0).persist_op("mean")
    return graph


def test_a_loop_without_carries_is_many_units_that_share_a_model(check_plan):
    graph = mapping()
    one = units(check_plan(model(graph), graph.inputs, 1e6, fleet=SLOW), Loop)
    assert one == []
    planned = check_plan(model(graph), graph.inputs, 5e-3, fleet=SLOW)
    loops = units(planned, Loop)
    assert len({loop.chunk.model for loop in loops}) == 1
    assert sum(loop.length for loop in loops) == 10
    (line,) = [unit for unit in planned.plan.summary.units if "loop" in unit.kind]
    assert line.kind == f"loop (in {len(loops)} ranges)"
    assert line.iterations == 10
    assert planned.plan.summary.useful_providers == len(loops)
    assert planned.plan.steps == 10


@pytest.mark.parametrize(("length", "ranges"), [(5, 5), (1000, 64)])
def test_ranges_are_as_long_as_each_other_and_not_too_many(plan, length, ranges):
    loops = units(plan(model(mapping(length)), 1e-4, SLOW), Loop)
    assert len(loops) == ranges
    lengths = [loop.length for loop in loops]
    assert sum(lengths) == length
    assert max(lengths) - min(lengths) <= 1


def test_parallel_loops_are_parallel_units(check_plan):
    graph = Graph("parallel")
    rows = graph.input(ROWS)
    for number in range(4):
        final, _ = R.scan(lambda c, x: (R.tanh(c + x), None), R.t(VECTOR * number), rows)
        final.persist_op(f"f{number}")
    planned = check_plan(model(graph), graph.inputs, 1e-5)
    assert len(units(planned, Loop)) == 4
    assert planned.plan.summary.useful_providers == 4


def test_equal_blocks_ship_one_model(check_plan):
    graph = Graph("blocks")
    for number, name in enumerate(("left", "right", "third")):
        with graph.label(name):
            a = graph.input(np.full((64, 64), number, np.float32))
            R.tanh(R.tanh(a @ R.t(np.eye(64, dtype=np.float32))) + a * 2.0).persist_op(name)
    planned = check_plan(model(graph), graph.inputs, 1e-4)
    assert [unit.label.split(" ")[0] for unit in planned.plan.main.units] == ["left", "right", "third"]
    assert len(planned.models) == 1


def test_nodes_are_mapped_to_their_names_bodies_included(check_plan):
    graph, final, _ = looping()
    final.persist_op("f")
    planned = check_plan(model(graph), graph.inputs, 1e-4)
    (loop,) = units(planned, Loop)
    shipped = check_model(planned.models[loop.chunk.model])
    named = {name: node for node in graph.main.ir.all_nodes() for name in [node.name]}
    for node in shipped.graph.all_nodes():
        original = loop.chunk.nodes[int(node.name.removeprefix("n"))]
        if node.op_type in ("Tanh", "Scan", "Mul"):
            assert named[original].op_type == node.op_type


# ── awkward values ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("unit_seconds", [0, 1e-5, 1e-4, 1.0])
class TestAwkward:
    def test_carries_begin_with_one_constant_that_is_also_captured(self, check_plan, unit_seconds):
        graph = Graph("zeros")
        zeros, rows = R.t(np.zeros(3, np.float32)), graph.input(ROWS)
        (m, v), ys = R.scan(
            lambda c, x: ((c[0] + x, c[1] * 0.5 + x + zeros), c[0] + c[1]), (zeros, zeros), rows
        )
        m.persist_op("m")
        v.persist_op("v")
        ys.persist_op("ys")
        zeros.persist_op("zeros")
        check_plan(model(graph), graph.inputs, unit_seconds)

    def test_an_input_is_carry_capture_slice_and_result(self, check_plan, unit_seconds):
        graph = Graph("everything")
        square = graph.input(np.arange(9, dtype=np.float32).reshape(3, 3))
        computed = R.tanh(square)
        for number, value in enumerate((square, computed)):
            final, ys = R.scan(lambda c, x, v=value: (c * 0.5 + v, R.sum(c) + x), value, value)
            final.persist_op(f"f{number}")
            ys.persist_op(f"ys{number}")
        computed.persist_op("computed")
        computed.persist_op("again")
        check_plan(model(graph), graph.inputs, unit_seconds)

    def test_a_loop_begins_with_what_another_ended_with_twice(self, check_plan, unit_seconds):
        graph = Graph("chained")
        rows = graph.input(ROWS)
        first, _ = R.scan(lambda c, x: (R.tanh(c + x), None), R.t(VECTOR), rows)
        (a, b), _ = R.scan(lambda c, x: ((c[0] + x, c[1] - x + first), None), (first, first), rows)
        a.persist_op("a")
        b.persist_op("b")
        first.persist_op("first")
        check_plan(model(graph), graph.inputs, unit_seconds)

    def test_a_loop_without_carries_over_a_constant(self, check_plan, unit_seconds):
        graph = Graph("map")
        w = graph.input(VECTOR)
        _, ys = R.scan(lambda c, x: (c, R.tanh(x * w)), (), R.t(ROWS))
        ys.persist_op("ys")
        check_plan(model(graph), graph.inputs, unit_seconds)

    def test_constants_alone(self, check_plan, unit_seconds):
        graph = Graph("constants")
        R.t(VECTOR).persist_op("initializer")
        R.tanh(R.t(VECTOR) + 1.0).persist_op("computed")
        R.scan(lambda c, x: (c + x, None), R.t(VECTOR), R.t(ROWS))[0].persist_op("loop")
        check_plan(model(graph), graph.inputs, unit_seconds)

    def test_a_body_that_draws_random_numbers_by_its_iteration(self, check_plan, unit_seconds):
        graph = Graph("random", seed=7)
        start = graph.input(VECTOR)
        final, ys = R.scan(
            lambda c, _: (R.tanh(c + R.random_uniform(size=(3,))), R.bernoulli(0.5, (3,))), start, length=5
        )
        final.persist_op("f")
        ys.persist_op("ys")
        check_plan(model(graph), graph.inputs, unit_seconds)

    def test_functions_are_shipped_with_their_callers(self, check_plan, unit_seconds):
        graph = Graph("functions")
        inner = function(lambda a: R.tanh(a) * 2.0)
        outer = function(lambda a, b: inner(a) + inner(b) @ b)
        square = graph.input(np.eye(3, dtype=np.float32) + 0.5)
        final, _ = R.scan(lambda c, x: (R.tanh(outer(c, square) + x), None), square, graph.input(ROWS))
        outer(final, square).persist_op("out")
        check_plan(model(graph), graph.inputs, unit_seconds)

    def test_a_body_gives_its_inputs_as_they_are(self, plan, carry_out, unit_seconds):
        # Without the Identity nodes that ravop puts in, ONNX Runtime gives garbage for such a body.
        inside = body(
            [helper.make_node("Add", ["b", "x"], ["b2"])],
            [info("a", [3]), info("b", [3]), info("x", [3])],
            [info("a", [3]), info("b2", [3]), info("x", [3])],
        )
        nodes = [
            helper.make_node("Tanh", ["p"], ["t"]),
            helper.make_node("Scan", ["t", "t", "q"], ["fa", "fb", "ys"], body=inside, num_scan_inputs=1),
        ]
        data = onnx_model(
            nodes, [info("p", [3]), info("q", [4, 3])], [info("fa", [3]), info("fb", [3]), info("ys", [4, 3])]
        )
        inputs = {"p": VECTOR, "q": ROWS}
        found = carry_out(plan(data, unit_seconds), inputs)
        for name, expected in zip(
            ("fa", "fb", "ys"), ReferenceEvaluator(data).run(None, inputs), strict=True
        ):
            np.testing.assert_allclose(found[name], expected, rtol=1e-6)

    def test_outputs_that_are_inputs_or_initializers(self, check_plan, unit_seconds):
        constant = numpy_helper.from_array(VECTOR, "k")
        data = onnx_model(
            [helper.make_node("Tanh", ["p"], ["t"])],
            [info("p", [3])],
            [info("t", [3]), info("p", [3]), info("k", [3])],
            [constant],
        )
        check_plan(data, {"p": VECTOR}, unit_seconds)

    def test_a_loop_over_nothing(self, plan, carry_out, unit_seconds):
        # ONNX Runtime refuses it, so the whole graph cannot be the reference: its carry passes, it stacks nothing.
        inside = body(
            [helper.make_node("Add", ["c", "x"], ["d"]), helper.make_node("Identity", ["d"], ["y"])],
            [info("c", [3]), info("x", [3])],
            [info("d", [3]), info("y", [3])],
        )
        nodes = [
            helper.make_node("Scan", ["p", "q"], ["f", "ys"], body=inside, num_scan_inputs=1),
            helper.make_node("Tanh", ["f"], ["t"]),
        ]
        data = onnx_model(nodes, [info("p", [3]), info("q", [0, 3])], [info("t", [3]), info("ys", [0, 3])])
        planned = plan(data, unit_seconds)
        found = carry_out(planned, {"p": VECTOR, "q": np.zeros((0, 3), np.float32)})
        np.testing.assert_allclose(found["t"], np.tanh(VECTOR), rtol=1e-6)
        assert found["ys"].shape == (0, 3)


# ── the manifest and the summary ─────────────────────────────────────────────────────────────────────────────────────
def test_an_input_without_a_value_is_refused():
    graph, final, _ = looping()
    final.persist_op("f")
    with pytest.raises(InvalidModelError, match="no value"):
        plan_graph(check_model(model(graph)), Manifest(graph_id="g", name="g"), Fleet())


def test_a_persisted_value_that_is_no_output_is_refused():
    graph, final, ys = looping()
    final.persist_op("f")
    manifest = Manifest(
        graph_id="g",
        name="g",
        bindings=tuple(_bindings(graph)),
        persisted=(Persisted(name="ys", value=ys.name),),
    )
    with pytest.raises(InvalidModelError, match="no output"):
        plan_graph(check_model(model(graph)), manifest, Fleet())


@pytest.mark.parametrize("wish", [-1, float("nan"), float("inf"), "fast", True])
def test_a_unit_that_is_no_time_is_refused(wish):
    graph, final, _ = looping()
    final.persist_op("f")
    manifest = Manifest(
        graph_id="g", name="g", bindings=tuple(_bindings(graph)), rules={"unit_seconds": wish}
    )
    with pytest.raises(ArgumentError, match="unit_seconds"):
        plan_graph(check_model(model(graph)), manifest, Fleet())


def test_the_summary_says_what_to_expect(plan):
    graph = Graph("wide")
    for number in range(4):
        with graph.label(f"Branch_{number}"):
            a = graph.input(np.full((256, 256), number, np.float32))
            for _ in range(10):
                a = R.tanh(a @ a)
            a.persist_op(f"b{number}")
    data = model(graph)
    flops = 4 * 10 * (2 * 256**3 + 8 * 256**2)
    nobody = plan(data, fleet=Fleet()).plan.summary
    assert (nobody.fleet_seconds, nobody.single_seconds) == (None, None)
    assert any("no provider" in note for note in nobody.notes)
    one = plan(data, 0.01, Fleet((ProviderSpeed(1.0, 2**33, 1),))).plan.summary
    assert one.flops == pytest.approx(flops)
    assert one.single_seconds == one.fleet_seconds == pytest.approx(flops / 1e9, rel=0.05)
    four = plan(data, 0.1, Fleet((ProviderSpeed(1.0, 2**33, 4),))).plan.summary
    assert four.useful_providers == 4
    assert four.fleet_seconds == pytest.approx(one.single_seconds / 4, rel=0.2)
    assert {unit.label.split("_")[0] for unit in four.units} == {"Branch"}


def test_the_summary_says_when_one_machine_is_enough(plan):
    graph, final, _ = looping()
    final.persist_op("f")
    (note,) = plan(model(graph)).plan.summary.notes
    assert "one machine alone would be as fast" in note


def test_a_unit_of_constants_is_named_by_what_makes_them(check_plan):
    graph = Graph("constants")
    (R.t([1.0]) + 1).persist_op("y")
    (unit,) = units(check_plan(model(graph), {}))
    assert unit.label == "Add"
