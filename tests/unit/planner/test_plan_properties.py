"""Any graph, cut anyhow, gives what it gives in one session."""

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ravop as R
from ravop.graph import Graph
from ravop.graph.serde import to_bytes

SHAPE = (3, 3)
UNITS = [0, 4e-6, 1e-5, 4e-5, 2e-4, 1.0]

UNARY = [R.tanh, lambda a: R.mean(a, axis=0, keepdims=True) + a * 0.5, R.transpose, lambda a: a * 1.0]
BINARY = [
    lambda a, b: R.tanh(a + b),
    lambda a, b: R.tanh(a @ b),
    lambda a, b: R.maximum(a, b),
    lambda a, b: a - b * 0.25,
]


def _constant(draw):
    return R.t(np.full(SHAPE, draw(st.integers(-3, 3)) / 4, np.float32))


def _computed_constant(draw):
    return R.tanh(R.t(np.arange(9, dtype=np.float32).reshape(SHAPE)) * draw(st.integers(1, 2)))


def _leaf(draw, pool):
    maker = draw(st.sampled_from([None, None, None, _constant, _computed_constant]))
    return draw(st.sampled_from(pool)) if maker is None or not pool else maker(draw)


def _grow(draw, pool, depth, size):
    """Add ops to a pool of (3, 3) tensors; each uses what is there."""
    for _ in range(size):
        kind = draw(st.sampled_from(["unary", "binary", "binary", "scan"] if depth else ["unary", "binary"]))
        if kind == "unary":
            pool.append(draw(st.sampled_from(UNARY))(_leaf(draw, pool)))
        elif kind == "binary":
            pool.append(draw(st.sampled_from(BINARY))(_leaf(draw, pool), _leaf(draw, pool)))
        else:
            pool.extend(_scan(draw, pool, depth))
    return pool


def _scan(draw, pool, depth):
    """A loop whose body reads the pool, its carries and its slices; some results pass through, some are unused."""
    init = [_leaf(draw, pool) for _ in range(draw(st.integers(0, 3)))]
    length = draw(st.integers(1, 4))
    sources = draw(st.sampled_from(["none", "given", "constant"]))
    xs = None
    if sources == "given":
        xs = R.stack([_leaf(draw, pool) for _ in range(length)])
    elif sources == "constant":
        xs = R.t(np.linspace(-1, 1, length * 9, dtype=np.float32).reshape(length, *SHAPE))

    def body(carry, x):
        inner = _grow(draw, [*pool, *carry, *([] if x is None else [x])], depth - 1, draw(st.integers(1, 4)))
        kept = tuple(R.tanh(draw(st.sampled_from(inner))) if draw(st.booleans()) else c for c in carry)
        return kept, draw(st.sampled_from(inner))

    final, ys = R.scan(body, tuple(init), xs, length=length)
    return [*final, R.mean(ys, axis=0)]


@st.composite
def graphs(draw):
    """A drawn graph: (its bytes, the values of its inputs)."""
    graph = Graph("drawn")
    random = np.random.default_rng(draw(st.integers(0, 5)))
    pool = [
        graph.input(random.standard_normal(SHAPE).astype(np.float32)) for _ in range(draw(st.integers(1, 3)))
    ]
    _grow(draw, pool, depth=draw(st.integers(0, 2)), size=draw(st.integers(1, 10)))
    for number, op in enumerate(draw(st.lists(st.sampled_from(pool), min_size=1, max_size=4))):
        op.persist_op(f"result {number}")
    return to_bytes(graph.model()), dict(graph.inputs)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=False)
@given(drawn=graphs(), unit_seconds=st.sampled_from(UNITS), data=st.data())
def test_a_plan_gives_what_the_graph_gives(check_plan, drawn, unit_seconds, data):
    model, inputs = drawn
    check_plan(model, inputs, unit_seconds, draw=lambda low, high: data.draw(st.integers(low, high)))


def _renamed(graph, names):
    """Every value and node of a GraphProto called otherwise; `names` remembers."""
    for field in ("input", "output", "initializer", "value_info"):
        for entry in getattr(graph, field):
            entry.name = names.setdefault(entry.name, f"other{len(names)}")
    for node in graph.node:
        node.name = f"another/{node.name}"
        for field in (node.input, node.output):
            field[:] = [names.setdefault(name, f"other{len(names)}") for name in field]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _renamed(attribute.g, names)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=graphs(), unit_seconds=st.sampled_from(UNITS))
def test_the_models_do_not_depend_on_names(plan, drawn, unit_seconds):
    data, _ = drawn
    other = onnx.load_from_string(data)
    _renamed(other.graph, {})
    assert plan(data, unit_seconds).models == plan(other.SerializeToString(), unit_seconds).models
