"""`check_model` accepts what ravop writes, and refuses everything else with `InvalidModelError` and nothing worse."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import ravop as R
from ravop.errors import InvalidModelError
from ravop.graph import Graph
from ravop.graph.check import Limits, check_model
from ravop.graph.control import function
from ravop.graph.serde import to_bytes

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def info(name, shape=(3,), kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def node(op_type, inputs, outputs, **attributes):
    return helper.make_node(op_type, inputs, outputs, **attributes)


def ints(name, *numbers):
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


def model(nodes, outputs=None, inputs=None, initializers=(), functions=(), opset=21, domains=(), **fields):
    """A model of these nodes; without `outputs` it gives the shape of the last node's result, whatever that is."""
    if outputs is None:
        nodes = [*nodes, node("Shape", [nodes[-1].output[0]], ["its shape"])]
        outputs = [info("its shape", (None,), INT)]
    graph = helper.make_graph(nodes, "g", inputs or [info("x")], outputs, list(initializers))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(
        graph, functions=functions, **{"ir_version": 10, "opset_imports": imports} | fields
    )


def training():
    """A graph such as ravop writes: nested loops, a function, random numbers, gradients' shapes."""
    graph = Graph("training", seed=3)
    data = graph.input(np.ones((4, 5, 3), np.float32))
    start = graph.input(np.ones((3, 3), np.float32))
    step = function(lambda w, x: R.tanh(x @ w))

    def epoch(w, _):
        return R.scan(
            lambda w, x: (w - R.mean(step(w, x)) * R.random_uniform(size=(3, 3)), R.sum(w)), w, data
        )

    final, losses = R.scan(epoch, start, length=2)
    final.persist_op("w")
    losses.persist_each("loss_{}_{}")
    return to_bytes(graph.model())


def test_accepts_what_ravop_writes():
    accepted = check_model(training())
    assert [node.op_type for node in accepted.graph][-1] == "Scan"
    assert all(
        value.dtype is not None and value.shape is not None
        for node in accepted.graph.all_nodes()
        for value in node.outputs
    )


def test_infers_what_is_not_written():
    accepted = check_model(
        model(
            [node("MatMul", ["x", "x"], ["y"]), node("Tanh", ["y"], ["z"])], inputs=[info("x", (3, 3))]
        ).SerializeToString()
    )
    (shape,) = accepted.graph.outputs
    assert (shape.dtype.name, list(shape.shape)) == ("INT64", [2])


# ── refused before native code sees it ───────────────────────────────────────────────────────────────────────────────
def _external():
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model([node("Add", ["x", "w"], ["y"])], initializers=[tensor])


def _lying_initializer():
    return model(
        [node("Add", ["x", "w"], ["y"])],
        initializers=[TensorProto(name="w", data_type=FLOAT, dims=[2**34], raw_data=b"1234")],
    )


def _lying_constant():
    return model(
        [node("Constant", [], ["y"], value=TensorProto(data_type=FLOAT, dims=[1000], float_data=[1.0]))]
    )


def _negative_dims():
    return model(
        [node("Add", ["x", "w"], ["y"])],
        initializers=[TensorProto(name="w", data_type=FLOAT, dims=[-1], raw_data=b"")],
    )


def _text():
    return model([node("Identity", ["x"], ["y"])], inputs=[info("x", kind=TensorProto.STRING)])


def _text_constant():
    return model([node("Constant", [], ["y"], value_string=b"a")])


def _sequence():
    inputs = [helper.make_tensor_sequence_value_info("x", FLOAT, None)]
    return model([node("Identity", ["x"], ["y"])], inputs=inputs)


def _sparse():
    found = model([node("Identity", ["x"], ["y"])])
    values, indices = helper.make_tensor("s", FLOAT, [1], [1.0]), helper.make_tensor("i", INT, [1], [0])
    found.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3]))
    return found


def _nested(levels):
    graph = helper.make_graph([node("Identity", ["c"], ["z0"])], "b", [], [info("z0", ())])
    for level in range(1, levels):
        inner = node(
            "If",
            ["c"],
            [f"z{level}"],
            then_branch=graph,
            else_branch=helper.make_graph(
                [node("Identity", ["c"], [f"e{level}"])], "e", [], [info(f"e{level}", ())]
            ),
        )
        graph = helper.make_graph([inner], "b", [], [info(f"z{level}", ())])
    outer = node(
        "If",
        ["c"],
        ["y"],
        then_branch=graph,
        else_branch=helper.make_graph([node("Identity", ["c"], ["e0"])], "e", [], [info("e0", ())]),
    )
    return model([outer], inputs=[info("c", (), TensorProto.BOOL)])


def _function(name, calls):
    body = [node(called, [f"a{i}"], [f"a{i + 1}"], domain="local") for i, called in enumerate(calls)]
    last = node("Identity", [f"a{len(calls)}"], ["out"])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a0"], ["out"], [*body, last], imports)


def _recursive():
    return model(
        [node("f", ["x"], ["y"], domain="local")],
        functions=[_function("f", ["g"]), _function("g", ["f"])],
        domains=["local"],
    )


def _exponential():
    functions = [_function("f0", []), *(_function(f"f{i}", [f"f{i - 1}"] * 60) for i in range(1, 6))]
    return model([node("f5", ["x"], ["y"], domain="local")], functions=functions, domains=["local"])


def _function_with_attributes():
    found = _function("f", [])
    found.attribute.append("alpha")
    return model([node("f", ["x"], ["y"], domain="local")], functions=[found], domains=["local"])


def _random(op_type, **attributes):
    return model([node(op_type, ["x"], ["y"], **attributes)])


def _dropout():
    truth = numpy_helper.from_array(np.array(True), "t")
    return model([node("Dropout", ["x", "", "t"], ["y"])], initializers=[truth])


REFUSED = {
    "external data": (_external, "other files"),
    "initializer whose dims lie": (_lying_initializer, "do not match its dims"),
    "constant whose dims lie": (_lying_constant, "do not match its dims"),
    "negative dims": (_negative_dims, "shape"),
    "text input": (_text, "type"),
    "text constant": (_text_constant, ""),
    "sequence": (_sequence, "tensors"),
    "sparse": (_sparse, "sparse"),
    "deep nesting": (lambda: _nested(13), "nested"),
    "recursion": (_recursive, "call each other"),
    "calls that multiply": (_exponential, "too many nodes"),
    "function with attributes": (_function_with_attributes, "attributes"),
    "uniform": (lambda: _random("RandomUniformLike"), "ravop.random_uniform"),
    "normal": (lambda: model([node("RandomNormal", [], ["y"], shape=[3])]), "ravop.random_uniform"),
    "bernoulli": (lambda: _random("Bernoulli"), "ravop.random_uniform"),
    "multinomial": (lambda: _random("Multinomial"), "ravop.random_uniform"),
    "training dropout": (_dropout, "training mode"),
    "foreign domain": (
        lambda: model([node("Gelu", ["x"], ["y"], domain="com.microsoft")], domains=["com.microsoft"]),
        "another domain",
    ),
    "undeclared domain": (
        lambda: model([node("Gelu", ["x"], ["y"], domain="com.microsoft")]),
        "another domain",
    ),
    "unknown operator": (lambda: model([node("Frobnicate", ["x"], ["y"])]), "no such operator"),
    "opset too new": (lambda: model([node("Identity", ["x"], ["y"])], opset=99), "version"),
    "opset too old": (lambda: model([node("Identity", ["x"], ["y"])], opset=7), "version"),
    "no opset": (lambda: model([node("Identity", ["x"], ["y"])], opset_imports=[]), "version"),
    "file too new": (lambda: model([node("Identity", ["x"], ["y"])], ir_version=99), "unknown version"),
    "two values of one name": (
        lambda: model([node("Identity", ["x"], ["y"]), node("Tanh", ["x"], ["y"])]),
        "name of its own",
    ),
    "two nodes of one name": (
        lambda: model([node("Identity", ["x"], ["y"], name="n"), node("Tanh", ["y"], ["z"], name="n")]),
        "same name",
    ),
    "input with a default": (
        lambda: model(
            [node("Identity", ["x"], ["y"])], initializers=[helper.make_tensor("x", FLOAT, [3], [0.0] * 3)]
        ),
        "name of its own",
    ),
    "cycle": (
        lambda: model([node("Add", ["x", "z"], ["y"]), node("Tanh", ["y"], ["z"])]),
        "topologically sorted",
    ),
    "reads nothing": (lambda: model([node("Tanh", ["nowhere"], ["y"])]), "nowhere"),
    "no such output": (lambda: model([node("Tanh", ["x"], ["y"])], outputs=[info("q")]), ""),
    "shapes that do not fit": (
        lambda: model([node("MatMul", ["x", "w"], ["y"])], inputs=[info("x", (3, 4)), info("w", (3, 4))]),
        "MatMul",
    ),
    "types that do not fit": (
        lambda: model(
            [node("MatMul", ["x", "w"], ["y"])], inputs=[info("x", (3, 3)), info("w", (3, 3), INT)]
        ),
        "MatMul",
    ),
    "a declared type that is not so": (
        lambda: model([node("Tanh", ["x"], ["y"])], outputs=[info("y", (7,))]),
        "",
    ),
    "unknown rank": (
        lambda: model([node("Reshape", ["x", "s"], ["y"])], inputs=[info("x"), info("s", (None,), INT)]),
        "rank",
    ),
    "a crash in GatherND": (
        lambda: model([node("GatherND", ["x", "i"], ["y"], batch_dims=-1)], initializers=[ints("i")]),
        "batch_dims",
    ),
    "an equation that ONNX never returns from": (
        lambda: model([node("Einsum", ["x"], ["y"], equation="....i->i")]),
        "equation",
    ),
    "a crash in Split": (lambda: model([node("Split", ["x"], ["y", "z"], num_outputs=1)]), "outputs"),
    "a stride of nothing": (
        lambda: model(
            [node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1], strides=[0, 0])],
            inputs=[info("x", (1, 1, 4, 4))],
        ),
        "strides",
    ),
    "an axis that 32 bits cut to 0": (
        lambda: model([node("Softmax", ["x"], ["y"], axis=2**32)]),
        "-32 to 32",
    ),
    "a padding that there is not": (
        lambda: model(
            [node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1], auto_pad="SOME")],
            inputs=[info("x", (1, 1, 4, 4))],
        ),
        "SAME_UPPER",
    ),
    "too many dims by an attribute": (
        lambda: model([node("Expand", ["x", "s"], ["y"])], initializers=[ints("s", *[1] * 1000)]),
        "dimensions",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case):
    make, expected = REFUSED[case]
    with pytest.raises(InvalidModelError) as caught:
        check_model(make().SerializeToString())
    assert expected in caught.value.problem.text()


EXPLODING = {
    "ConstantOfShape": lambda: model(
        [node("ConstantOfShape", ["s"], ["y"])], initializers=[ints("s", 2**30, 2**30)]
    ),
    "Expand": lambda: model([node("Expand", ["x", "s"], ["y"])], initializers=[ints("s", 2**38, 3)]),
    "Tile": lambda: model([node("Tile", ["x", "s"], ["y"])], initializers=[ints("s", 2**39)]),
    "Range": lambda: model(
        [node("Range", ["a", "b", "c"], ["y"])],
        initializers=[
            numpy_helper.from_array(np.array(v, np.int64), n) for n, v in (("a", 0), ("b", 2**39), ("c", 1))
        ],
    ),
    "MatMul": lambda: model(
        [node("MatMul", ["x", "w"], ["y"])], inputs=[info("x", (2**22, 1)), info("w", (1, 2**22))]
    ),
    "input": lambda: model([node("Shape", ["x"], ["y"])], inputs=[info("x", (2**39, 2**39))]),
    "what nobody reads": lambda: model(
        [node("ConstantOfShape", ["s"], ["z"]), node("Tanh", ["x"], ["y"])],
        initializers=[ints("s", 2**30, 2**30)],
        outputs=[info("y")],
    ),
    "function": lambda: model(
        [node("f", ["x"], ["y"], domain="local")],
        domains=["local"],
        functions=[
            helper.make_function(
                "local",
                "f",
                ["a"],
                ["out"],
                [
                    node("Constant", [], ["s"], value_ints=[2**38, 3]),
                    node("Expand", ["a", "s"], ["b"]),
                    node("ReduceSum", ["b"], ["out"]),
                ],
                [helper.make_opsetid("", 21)],
            )
        ],
    ),
}


@pytest.mark.parametrize("case", EXPLODING)
def test_refuses_what_needs_too_much_memory(case):
    with pytest.raises(InvalidModelError, match="too much memory"):
        check_model(EXPLODING[case]().SerializeToString())


def _chain(pairs):
    names = [f"x{i}" for i in range(len(pairs) + 1)]
    return [
        node(op, [names[i], *more], [names[i + 1]], **fields) for i, (op, more, fields) in enumerate(pairs)
    ]


RANK_BOMBS = {
    "chain": lambda: model(
        _chain([("Unsqueeze", ["a"], {})] * 3_000), inputs=[info("x0")], initializers=[ints("a", 0)]
    ),
    "gathers": lambda: model(
        _chain([("Gather", ["a"], {})] * 3_000),
        inputs=[info("x0")],
        initializers=[numpy_helper.from_array(np.zeros([1] * 16, np.int64), "a")],
    ),
    "long shape": lambda: model([node("ConstantOfShape", ["x"], ["y"])], inputs=[info("x", (2**30,), INT)]),
    "in a function": lambda: model(
        [node("f", ["x"], ["y"], domain="local")],
        domains=["local"],
        functions=[
            helper.make_function(
                "local",
                "f",
                ["x0"],
                ["x3000"],
                [node("Constant", [], ["a"], value_ints=[0]), *_chain([("Unsqueeze", ["a"], {})] * 3_000)],
                [helper.make_opsetid("", 21)],
            )
        ],
    ),
}


@pytest.mark.parametrize("case", RANK_BOMBS)
def test_refuses_ranks_without_bound_at_once(case):
    data = RANK_BOMBS[case]().SerializeToString()
    start = time.process_time()
    with pytest.raises(InvalidModelError, match=r"dimensions|rank"):
        check_model(data)
    assert time.process_time() - start < 5


def test_accepts_long_chains_that_widen_and_narrow():
    pairs = [
        ("ReduceSum", ["a"], {"keepdims": 0}),
        ("Unsqueeze", ["a"], {}),
        ("Squeeze", ["a"], {}),
        ("Unsqueeze", ["a"], {}),
    ] * 50
    check_model(
        model(_chain(pairs), inputs=[info("x0", (3, 3))], initializers=[ints("a", 0)]).SerializeToString()
    )


def test_limits_are_the_callers():
    data = training()
    for limits in (
        Limits(bytes=len(data) - 1),
        Limits(nodes=3),
        Limits(depth=1),
        Limits(memory=100),
        Limits(rank=1),
    ):
        with pytest.raises(InvalidModelError):
            check_model(data, limits)
    assert check_model(data, Limits(bytes=len(data), nodes=1_000, depth=3, memory=100_000, rank=3))


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"\x00" * 1_000, b"\xff" * 1_000, np.zeros(3).tobytes(), b"\x08\x0a"]
)
def test_refuses_bytes_that_are_no_model(data):
    with pytest.raises(InvalidModelError):
        check_model(data)


def test_refuses_messages_nested_beyond_parsing():
    # A length-delimited GraphProto in a NodeProto in an AttributeProto, 300 times over; written by hand, since protobuf
    # refuses to build it.
    def field(number, content):
        size, text = len(content), b""
        while size >= 0x80:
            text, size = text + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + text + bytes([size]) + content

    graph = b""
    for _ in range(300):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(InvalidModelError):
        check_model(field(7, graph))


def _outcome(data):
    try:
        check_model(data)
    except InvalidModelError:
        return "refused"
    return "accepted"


TRAINED = {}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_models_are_refused_or_valid_but_never_worse(data):
    if "bytes" not in TRAINED:
        TRAINED["bytes"] = training()
    damaged = bytearray(TRAINED["bytes"])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "number"]))
        if kind == "flip":
            damaged[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del damaged[place : place + data.draw(st.integers(1, 40))]
        elif kind == "insert":
            damaged[place:place] = data.draw(st.binary(min_size=1, max_size=8))
        else:
            damaged[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
        if not damaged:
            break
    assert _outcome(bytes(damaged)) in ("refused", "accepted")


def test_a_truncated_model_is_refused_at_every_length():
    data = training()
    outcomes = {_outcome(data[:length]) for length in range(0, len(data) - 1, 7)}
    assert outcomes == {"refused"}
