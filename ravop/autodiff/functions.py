"""Gradients of what is made of other operators: calls of model-local functions, and operators that ONNX defines by a body.

Both are written out in place, and what was written is swept. What depends on constants and known shapes alone is
computed while it is written: bodies work out their sizes from the shapes of their inputs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from ravop.autodiff.replay import Replay
from ravop.autodiff.rules import WITHOUT, Grads, NodeView, rule
from ravop.autodiff.sweep import BODY, INLINED, sweep
from ravop.graph.bodies import function_body
from ravop.graph.dtypes import DType, is_float
from ravop.graph.graph import Graph
from ravop.graph.infer import OPSET
from ravop.graph.op import Op
from ravop.protocol.tensors import INLINE_LIMIT, Array

Names = dict[str, Op | None]
"""The ops that stand for a body's values."""


@rule(INLINED)
def call(n: NodeView, *grads: Op | None) -> Grads:
    graph = n.y.graph
    function = graph.functions[n.node.op_identifier()]
    given = [op for op in n.inputs if op is not None]
    replay = Replay(graph, dict(zip(function.inputs, given, strict=True)))
    outputs = replay.run(function, function.outputs, function.graph.initializers.values())
    return swept(outputs, grads, n.inputs, n.wants)


@rule(BODY)
def by_body(n: NodeView, *grads: Op | None) -> Grads:
    """The gradient of an operator without a rule of its own, from ONNX's definition of it by others."""
    outputs = write_out(n, [gradient is not None for gradient in grads])
    if outputs is None:
        raise n.error(WITHOUT.get(n.node.op_type, "there is no rule for this operator"))
    return swept(outputs, grads, n.inputs, n.wants)


def swept(
    outputs: Sequence[Op | None], grads: Grads, inputs: Sequence[Op | None], wants: Sequence[bool]
) -> list[Op | None]:
    """For each input its gradient; None where it is not wanted or nothing reaches it.

    An op that is an input twice has its whole gradient at the first place.
    """
    wrt = [op for op, want in zip(inputs, wants, strict=False) if want and op is not None]
    distinct = list(dict.fromkeys(wrt))
    found = dict(zip(distinct, vjp(outputs, grads, distinct), strict=True))
    return [
        found.pop(op, None) if want and op is not None else None
        for op, want in zip(inputs, wants, strict=False)
    ]


def vjp(outputs: Sequence[Op | None], grads: Grads, wrt: Sequence[Op]) -> list[Op | None]:
    """The sum over `outputs` of gradient · d output / d op, for each op of `wrt`, which are taken as independent."""
    seeds: dict[Op, Op] = {}
    for op, gradient in zip(outputs, grads, strict=False):
        if op is not None and gradient is not None and is_float(op.dtype):
            seeds[op] = seeds[op] + gradient if op in seeds else gradient
    return sweep(seeds, wrt, leaves=True) if seeds else [None] * len(wrt)


def write_out(n: NodeView, asked: Sequence[bool] = (True,)) -> list[Op | None] | None:
    """The nodes of the operator's body, made in the current scope. → what stands for its outputs; None without a body."""
    graph = n.y.graph
    types = [None if op is None else op.type for op in n.inputs]
    attributes = {name: attribute.value for name, attribute in n.node.attributes.items()}
    body = function_body(n.node.op_type, types, attributes, OPSET, asked)
    if body is None:
        return None
    given = [*n.inputs, *[None] * len(body.input)]
    names: Names = {"": None, **dict(zip(body.input, given, strict=False))}
    with graph.label(n.node.op_type):
        for node in body.node:
            _write(n, graph, node, names)
    return [names.get(name) for name in body.output]


def _write(n: NodeView, graph: Graph, node: onnx.NodeProto, names: Names) -> None:
    inputs = [names[name] for name in node.input]
    values = None if any(a.HasField("g") for a in node.attribute) else _known(node, inputs)
    if values is not None:
        names.update(zip(node.output, map(graph.constant, values), strict=True))
        return
    if node.op_type == "If" and inputs[0] is not None and inputs[0].constant is not None:
        chosen = "then_branch" if inputs[0].constant.item() else "else_branch"
        branch = next(a.g for a in node.attribute if a.name == chosen)
        for inner in branch.node:
            _write(n, graph, inner, names)
        names.update({name: names[port.name] for name, port in zip(node.output, branch.output, strict=True)})
        return
    attributes = {a.name: _python(onnx.helper.get_attribute_value(a)) for a in node.attribute}
    made = graph.apply(node.op_type, inputs, attributes)
    names.update(zip(node.output, made, strict=False))
    copied = made[0].value.producer()
    if copied is not None and n.node.name in graph.node_lines:
        graph.node_lines[str(copied.name)] = graph.node_lines[n.node.name]
    for op in made:
        op.line = n.y.line


def _python(value: object) -> object:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return value.decode() if isinstance(value, bytes) else value


def _known(node: onnx.NodeProto, inputs: Sequence[Op | None]) -> list[Array] | None:
    """The node's outputs where they follow from constants and known shapes, and are small; else None."""
    keys: list[Key | None] = []
    for position, op in enumerate(inputs):
        key = None if op is None else _key(op, _OF_TYPES.get(node.op_type) == position)
        if op is not None and key is None:
            return None
        keys.append(key)
    found = _computed(node.SerializeToString(), tuple(keys))
    return None if any(array.nbytes > INLINE_LIMIT for array in found) else found


_OF_TYPES = {"Shape": 0, "Size": 0, "CastLike": 1}
"""Operators of which one input matters by its type alone, and which."""

Key = tuple[DType, tuple[int, ...], bytes]
"""An array as dtype, shape and bytes; without bytes where only the type matters."""


def _key(op: Op, type_alone: bool) -> Key | None:
    if type_alone:
        known = all(isinstance(dim, int) for dim in op.shape)
        return (op.dtype, op.static_shape, b"") if known else None
    array = op.constant
    return None if array is None else (array.dtype, array.shape, array.tobytes())


@functools.lru_cache(maxsize=4096)
def _computed(node: bytes, inputs: tuple[Key | None, ...]) -> list[Array]:
    """One node by ONNX's reference evaluator, remembered: the same few constants occur in every body."""
    proto = onnx.NodeProto.FromString(node)
    feeds = {
        name: _array(key) for name, key in zip(proto.input, inputs, strict=True) if name and key is not None
    }
    return [np.asarray(value) for value in ReferenceEvaluator(proto, opsets={"": OPSET}).run(None, feeds)]


def _array(key: Key) -> Array:
    dtype, shape, data = key
    if not data:
        return np.broadcast_to(np.zeros((), dtype), shape)
    return np.frombuffer(data, dtype).reshape(shape)
