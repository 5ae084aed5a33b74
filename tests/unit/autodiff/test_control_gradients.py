"""Gradients through loops, functions and branches."""

import numpy as np
import onnx_ir as ir
import pytest

import ravop as R
from ravop.autodiff import grad
from ravop.engine import Session
from ravop.errors import GradientError
from ravop.graph import Graph
from ravop.graph.serde import to_bytes
from ravop.ops.catalogue import node


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape) * 0.7


def cell(w):
    def step(h, x):
        h = (h @ w + x).tanh() if "tanh" in dir(h) else node("Tanh", [h @ w + x])
        return h, h * 2

    return step


def test_through_a_loops_carry_inputs_captures_and_outputs(check_gradients):
    def loop(h, xs, w):
        last, ys = R.scan(cell(w), h, xs)
        return last.sum() + (ys**2).sum()

    check_gradients(loop, values(2, 3), values(4, 2, 3), values(3, 3))


def test_a_loop_whose_outputs_are_used_in_part(check_gradients):
    check_gradients(
        lambda h, xs, w: R.scan(cell(w), h, xs)[1][1], values(2, 3), values(3, 2, 3), values(3, 3)
    )
    check_gradients(lambda h, xs, w: R.scan(cell(w), h, xs)[0], values(2, 3), values(3, 2, 3), values(3, 3))


def test_a_loop_equals_the_same_written_out():
    graph = Graph()
    h, xs, w = (graph.placeholder(np.dtype(np.float64), s) for s in ((3,), (4, 3), (3, 3)))
    last, ys = R.scan(cell(w), h, xs)
    by_hand, all_ys = h, []
    for i in range(4):
        by_hand, y = cell(w)(by_hand, xs[i])
        all_ys.append(y)
    once = grad((last * last).sum() + (ys**3).sum(), [h, xs, w])
    twice = grad((by_hand * by_hand).sum() + sum(((y**3).sum() for y in all_ys), start=0.0), [h, xs, w])
    for i, op in enumerate(once + twice):
        op.persist_op(str(i))
    feeds = {h.name: values(3), xs.name: values(4, 3, seed=1), w.name: values(3, 3, seed=2)}
    got = list(Session(to_bytes(graph.model())).run(feeds).values())
    for loop, unrolled in zip(got[:3], got[3:], strict=True):
        np.testing.assert_allclose(loop, unrolled, rtol=1e-12)


def test_integers_and_several_carries_travel_along(check_gradients):
    def loop(a, b):
        def step(carry, _):
            count, (p, q) = carry
            return (count + 1, (p * q + count.astype("float64"), q)), p

        (_, (p, _)), ys = R.scan(step, (R.t(np.int64(0)), (a, b)), length=3)
        return p + ys.sum()

    check_gradients(loop, 0.8, 1.3)


def test_nested_loops_and_loops_of_loops_gradients(check_gradients):
    def nested(x, w):
        def outer(h, _):
            inner, _ = R.scan(lambda c, _: (c * w + h, None), h, length=2)
            return inner, inner

        return R.scan(outer, x, length=3)[1]

    check_gradients(nested, values(2), values(2))


def test_second_derivatives_through_a_loop(check_gradients):
    def loop(h, xs, w):
        return R.scan(cell(w), h, xs)[1]

    check_gradients(loop, values(2), values(2, 2), values(2, 2), times=2)


def test_a_gradient_inside_a_loop_is_a_training_step():
    """Gradient descent on (w·x - y)² inside a loop, against NumPy."""
    graph = Graph()
    xs, ys = values(5, 4, 3), values(5, 4, seed=1)

    def step(w, batch):
        x, y = batch
        loss = ((x @ w - y) ** 2).mean()
        return w - 0.1 * grad(loss, w), loss

    w, losses = R.scan(step, graph.tensor(np.zeros(3), "float64"), (R.t(xs, "float64"), R.t(ys, "float64")))
    w.persist_op("w")
    losses.persist_op("losses")
    got = Session(to_bytes(graph.model())).run({})
    expected, expected_losses = np.zeros(3), []
    for x, y in zip(xs, ys, strict=True):
        error = x @ expected - y
        expected_losses.append((error**2).mean())
        expected = expected - 0.1 * 2 * x.T @ error / len(y)
    np.testing.assert_allclose(got[graph.persisted["w"].value], expected, rtol=1e-10)
    np.testing.assert_allclose(got[graph.persisted["losses"].value], expected_losses, rtol=1e-10)


def test_through_functions(check_gradients):
    @R.function
    def layer(x, w):
        return node("Sigmoid", [x @ w])

    @R.function
    def network(x, w):
        return layer(layer(x, w), w) * 2.0

    check_gradients(lambda x, w: network(x, w) + network(x * x, w), values(2, 3), values(3, 3), times=2)


def test_through_a_function_in_a_loop(check_gradients):
    def loop(h, w):
        layer = R.function(lambda h: node("Tanh", [h @ w]))
        return R.scan(lambda c, _: (layer(c), None), h, length=3)[0]

    check_gradients(loop, values(2, 3), values(3, 3))


@pytest.mark.parametrize("condition", [True, False])
def test_through_branches(check_gradients, condition):
    def choose(x, y):
        graph, bodies = x.graph, {}
        for name, branch in (("then_branch", lambda: x * y), ("else_branch", lambda: x * x)):
            with graph.body(name) as scope:
                scope.ir.outputs.append(branch().value)
            bodies[name] = scope.ir
        return graph.apply("If", [graph.tensor(np.array(condition))], bodies, outputs=[(x.dtype, x.shape)])[0]

    check_gradients(choose, values(3), values(3, seed=1))


def test_a_scan_along_other_axes_and_from_the_end(check_gradients):
    """Running sums from the end along the second axis, stacked along the last one from its end."""

    def running(x, w):
        graph = x.graph
        with graph.body("scan") as scope:
            carry, column = (graph.placeholder(np.dtype(np.float64), (3,)) for _ in range(2))
            new = carry * w + column * column
            scope.ir.outputs.extend([new.value, (new * new).value])
        attributes = {
            "body": scope.ir, "num_scan_inputs": 1, "scan_input_axes": [1], "scan_input_directions": [1],
            "scan_output_axes": [-1], "scan_output_directions": [1],
        }  # fmt: skip
        types = [(np.dtype(np.float64), shape) for shape in ((3,), (3, 4))]
        last, sums = graph.apply("Scan", [x[:, 0] * 0.5, x], attributes, outputs=types)
        return sums * np.arange(12.0).reshape(3, 4) + last.reshape(3, 1)

    check_gradients(running, values(3, 4), 0.7, times=2)


def counted_loop(x, w, trips, cond, keep_on=lambda graph, given: given):
    """y = y·w + x, as an ONNX Loop that also stacks y²."""
    graph = x.graph
    with graph.body("loop") as scope:
        i = graph.placeholder(np.dtype(np.int64), ())
        given = graph.placeholder(np.dtype(np.bool_), ())
        y = graph.placeholder(x.dtype, x.shape)
        new = y * w + x * node("Cast", [i], to=int(ir.DataType.DOUBLE))
        outputs = [keep_on(graph, given), new, new * new]
        scope.ir.outputs.extend(graph.apply("Identity", [op])[0].value for op in outputs)
    types = [(x.dtype, x.shape), (x.dtype, (3, *x.shape))]
    count = None if trips is None else graph.tensor(np.array(trips))
    start = None if cond is None else graph.tensor(np.array(cond))
    return graph.apply("Loop", [count, start, x], {"body": scope.ir}, outputs=types)


@pytest.mark.parametrize("cond", [None, True])
def test_a_loop_of_known_length(check_gradients, cond):
    def loop(x, w):
        last, squares = counted_loop(x, w, 3, cond)
        return last + (squares * np.arange(6.0).reshape(3, 2)).sum()

    check_gradients(loop, values(2), 0.8, times=2)


def test_a_loop_that_says_true_at_every_step(check_gradients):
    check_gradients(
        lambda x, w: counted_loop(x, w, 3, True, lambda graph, _: graph.tensor(True))[0], values(2), 0.8
    )


@pytest.mark.parametrize(
    ("trips", "keep_on", "named"),
    [(None, lambda _, given: given, "its number of iterations must be a constant"),
     (3, lambda graph, given: node("Not", [given]), "a condition decides when it ends"),
     (0, lambda _, given: given, "it has no iterations")],
)  # fmt: skip
def test_loops_of_unknown_length_are_refused(trips, keep_on, named):
    graph = Graph()
    x = graph.placeholder(np.dtype(np.float64), (2,))
    last, _ = counted_loop(x, 0.8, trips, None, keep_on)
    with pytest.raises(GradientError, match=f"no gradient of Loop: {named}"):
        grad(last.sum(), x)
