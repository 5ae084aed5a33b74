"""What differs between training and inference, and what draws random numbers: the same values wherever they are computed.

Seeds in a model are not looked at: draws come from the graph's seed, or from the key that `OnnxModel.apply` is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ravop.errors import UnsupportedOnnxError
from ravop.graph.dtypes import FLOAT, DType, from_elem_type, to_ir
from ravop.graph.op import Op
from ravop.importing.values import Node, Value, dtype_of, handles, shape_of
from ravop.ops.nn import batch_normalization_training, dropout
from ravop.ops.randomness import bernoulli, random_normal, random_uniform

if TYPE_CHECKING:
    from ravop.importing.walk import Walk


@handles("BatchNormalization")
def batch_normalization(walk: Walk, node: Node) -> Sequence[Value] | None:
    """In training by the batch's statistics: running ones become momentum · old + (1 - momentum) · the batch's.

    The batch's variance is the biased one where the file itself trains, as ONNX defines it; where `apply` asks for training
    it is the unbiased one, as PyTorch's is and that of `ravdl`'s layer, because it estimates the variance of all data.
    """
    told = bool(node.attributes.pop("training_mode", 0))
    running = node.inputs[3]
    fixed = isinstance(running, Op) and walk.parameters.get(running, "") in walk.still
    if fixed or not (told if walk.training is None else walk.training):
        wanted, node.outputs, node.declared = len(node.outputs), node.outputs[:1], node.declared[:1]
        return [*walk.emit(node), *node.inputs[3 : 2 + wanted]]
    x, gamma, beta, mean, variance = (walk.op(value) for value in node.inputs)
    y, *batch = batch_normalization_training(x, gamma, beta, node.attributes.get("epsilon", 1e-5))
    if walk.training:
        values = math.prod(_sizes(node, x)) // gamma.static_shape[0]
        batch[1] = batch[1] * (values / max(values - 1, 1))
    momentum = float(node.attributes.pop("momentum", 0.9))
    found: list[Value] = [y if y.dtype == x.dtype else walk.node("Cast", y, to=int(to_ir(x.dtype)))]
    for before, of_batch in zip((mean, variance), batch, strict=True):
        name = walk.parameters.get(before)
        old = before if name is None else walk.moved.get(name, before)
        moved = old * momentum + of_batch.astype(old.dtype) * (1 - momentum)
        if name is not None:
            walk.moved[name] = moved
        found.append(moved)
    return found


@handles("Dropout")
def drop_out(walk: Walk, node: Node) -> Sequence[Value]:
    x, ratio = node.input(0), walk.static(node.input(1)) if node.input(1) is not None else np.array(0.5)
    flag = walk.static(node.input(2)) if node.input(2) is not None else np.array(False)
    if walk.training is None and flag is None:
        raise UnsupportedOnnxError(
            "whether Dropout trains must be known at import", hint="give training_mode as an array"
        )
    training = bool(np.ravel(flag)[0]) if walk.training is None and flag is not None else bool(walk.training)
    if training and ratio is None:
        raise UnsupportedOnnxError("the ratio of Dropout must be known at import", hint="give it as an array")
    p = float(np.ravel(ratio)[0]) if training and ratio is not None else 0.0
    if p == 0:
        return [x, _all_true(walk, x) if node.wanted(1) else None]
    kept = bernoulli(1 - p, _sizes(node, x), key=_key(walk, node))
    return [dropout(walk.op(x), kept, p) if p < 1 else walk.op(x) * 0, kept]


def _all_true(walk: Walk, x: Value) -> Value:
    if all(isinstance(dim, int) for dim in shape_of(x)):
        full: Value = walk.node("Expand", np.array([True]), np.array(shape_of(x), dtype=np.int64))
        return full
    odd = walk.node("IsNaN", x)
    either: Value = walk.node("Or", odd, walk.node("Not", odd))
    return either


def _key(walk: Walk, node: Node) -> Op | None:
    return None if walk.key is None else walk.key(walk.unique(node.name or node.op_type))


def _sizes(node: Node, like: Value) -> Any:
    """The shape of `like`, which must be known."""
    shape = shape_of(like)
    if not all(isinstance(dim, int) for dim in shape):
        raise UnsupportedOnnxError(f"{node.op_type} draws for a shape that is not known", received=list(shape),
                                   hint="give the model inputs of known shapes")  # fmt: skip
    return tuple(shape)


def _dtype(node: Node, default: DType) -> DType:
    number = node.attributes.get("dtype")
    return from_elem_type(number) if number else default


def _as(walk: Walk, op: Op, dtype: DType) -> Value:
    made: Value = op if op.dtype == dtype else walk.node("Cast", op, to=int(to_ir(dtype)))
    return made


@handles("RandomUniform", "RandomUniformLike", "RandomNormal", "RandomNormalLike")
def random(walk: Walk, node: Node) -> Sequence[Value]:
    like = node.input(0)
    dtype = _dtype(node, FLOAT if like is None else dtype_of(like))
    size = tuple(node.attributes["shape"]) if like is None else _sizes(node, like)
    key, get = _key(walk, node), node.attributes.get
    with_graph = walk.graph.constant(
        np.zeros((), dtype=FLOAT)
    )  # tells the graph, whichever is the current one
    if node.op_type.startswith("RandomUniform"):
        low, high = get("low", 0.0), get("high", 1.0)
        return [_as(walk, random_uniform(with_graph + low, high, size, key), dtype)]
    return [_as(walk, random_normal(with_graph + get("mean", 0.0), get("scale", 1.0), size, key), dtype)]


@handles("Bernoulli")
def bernoulli_of(walk: Walk, node: Node) -> Sequence[Value]:
    p = walk.op(node.input(0))
    drawn = bernoulli(p, _sizes(node, p), FLOAT, key=_key(walk, node))
    return [_as(walk, drawn, _dtype(node, p.dtype))]


@handles("Multinomial")
def multinomial(walk: Walk, node: Node) -> Sequence[Value]:
    """The largest of logits plus Gumbel noise is a draw from their softmax (Gumbel 1954; Yellott 1977)."""
    logits = walk.op(node.input(0))
    (batch, classes), count = _sizes(node, logits), node.attributes.get("sample_size", 1)
    uniform = random_uniform(
        walk.graph.constant(np.array(2.0**-26, dtype=FLOAT)), 1.0, (batch, count, classes), _key(walk, node)
    )
    noise = walk.node("Neg", walk.node("Log", walk.node("Neg", walk.node("Log", uniform))))
    noisy = walk.op(walk.node("Unsqueeze", logits, np.array([1]))).astype(FLOAT) + noise
    drawn = walk.op(walk.node("ArgMax", noisy, axis=2, keepdims=0))
    return [_as(walk, drawn, _dtype(node, np.dtype(np.int32)))]
