"""Small subgraphs for tests of providers, made with ONNX's own helpers: some compute, one lasts as long as one likes."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from ravop.protocol.messages import OutputSpec, TaskInput
from ravop.protocol.tensors import Inline, encode_tensor

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Ports = dict[str, tuple[int, list[int | None]]]
FOR_EVER = 10**12


def model(nodes: list[NodeProto], inputs: Ports, outputs: Ports) -> ModelProto:
    def infos(ports: Ports) -> list[object]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in ports.items()]

    graph = helper.make_graph(nodes, "subgraph", infos(inputs), infos(outputs))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def node(op_type: str, inputs: list[str], outputs: list[str], name: str = "n0", **more: object) -> NodeProto:
    return helper.make_node(op_type, inputs, outputs, name=name, **more)


def inline(name: str, value: object, dtype: str = "float32") -> TaskInput:
    return TaskInput(name=name, ref=Inline(encode_tensor(np.array(value, dtype))))


def output(name: str, shape: tuple[int | None, ...], dtype: str = "float32") -> OutputSpec:
    return OutputSpec(name=name, dtype=dtype, shape=shape)


def add_model() -> bytes:
    ports: Ports = {"a": (FLOAT, [3]), "b": (FLOAT, [3])}
    return model([node("Add", ["a", "b"], ["c"])], ports, {"c": (FLOAT, [3])}).SerializeToString()


def loop_model() -> bytes:
    """Tanh of 2x, `rounds` times, from x = a + b: as long as one likes, and with a column and a row as large."""
    step = helper.make_graph(
        [
            node("Identity", ["go_in"], ["go_out"], "n1"),
            node("Add", ["x_in", "x_in"], ["double"], "n2"),
            node("Tanh", ["double"], ["x_out"], "n3"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", INT, []),
            helper.make_tensor_value_info("go_in", BOOL, []),
            helper.make_tensor_value_info("x_in", FLOAT, [None, None]),
        ],
        [
            helper.make_tensor_value_info("go_out", BOOL, []),
            helper.make_tensor_value_info("x_out", FLOAT, [None, None]),
        ],
    )
    nodes = [
        node("Add", ["a", "b"], ["start"], "n4"),
        node("Loop", ["rounds", "", "start"], ["end"], "n0", body=step),
        node("ReduceSum", ["end"], ["sum"], "n5", keepdims=0),
    ]
    inputs: Ports = {"rounds": (INT, []), "a": (FLOAT, [None, 1]), "b": (FLOAT, [1, None])}
    loop = model(nodes, inputs, {"sum": (FLOAT, [])})
    loop.graph.value_info.append(helper.make_tensor_value_info("end", FLOAT, [None, None]))
    return loop.SerializeToString()


def loop_inputs(rounds: int = FOR_EVER, side: int = 2) -> tuple[TaskInput, ...]:
    """Inputs of `loop_model`: `side` squared elements."""
    return inline("rounds", rounds, "int64"), inline("a", np.ones((side, 1))), inline("b", np.ones((1, side)))


def matmul_model(side: int) -> bytes:
    ports: Ports = {"a": (FLOAT, [side, side]), "b": (FLOAT, [side, side])}
    return model([node("MatMul", ["a", "b"], ["c"])], ports, {"c": (FLOAT, [side, side])}).SerializeToString()


def gather_model() -> bytes:
    """Its node `n1` fails for an index out of range."""
    nodes = [node("Neg", ["a"], ["b"], "n0"), node("Gather", ["b", "i"], ["c"], "n1")]
    return model(nodes, {"a": (FLOAT, [3]), "i": (INT, [1])}, {"c": (FLOAT, [1])}).SerializeToString()
