"""Gradients of ONNX's losses over classes: softmax cross-entropy and negative log-likelihood."""

from __future__ import annotations

import math

import numpy as np

from ravop.autodiff.functions import by_body
from ravop.autodiff.rules import Grads, NodeView, reduce_sum, reshape, rule
from ravop.graph.op import Op
from ravop.ops.catalogue import cast, integers, node

_CLASSES = 1
"""The axis of the classes."""


@rule("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy_loss(n: NodeView, g: Op | None, by_logarithms: Op | None = None) -> Grads:
    """(softmax - one-hot) · weight of the sample; and of the logarithms h: h - softmax · Σh."""
    if n.wanted(2):
        return by_body(n, g, by_logarithms)
    softmax = node("Softmax", [n.x], axis=_CLASSES)
    found: Op | None = None
    if g is not None:
        found = (softmax - _truth(n)) * _weights(n, g)
    if by_logarithms is not None:
        more = by_logarithms - softmax * reduce_sum(by_logarithms, [_CLASSES], keepdims=True)
        found = more if found is None else found + more
    return [found]


@rule("NegativeLogLikelihoodLoss")
def negative_log_likelihood_loss(n: NodeView, g: Op) -> Grads:
    """-one-hot · weight of the sample."""
    return by_body(n, g) if n.wanted(2) else [-(_truth(n) * _weights(n, g))]


def _truth(n: NodeView) -> Op:
    """The classes as one-hot vectors along the axis of classes."""
    ends = n.x.graph.constant(np.array([0, 1], dtype=n.x.dtype))
    return node("OneHot", [n.input(1), integers(n.x, [n.x.static_shape[_CLASSES]]), ends], axis=_CLASSES)


def _weights(n: NodeView, g: Op) -> Op:
    """For each sample what its loss counts, times the gradient `g`, with an axis of one for the classes."""
    classes, ignored = n.input(1), n.attribute("ignore_index")
    weights, kept = n.optional(2), None
    if ignored is not None:
        ignore = classes.graph.constant(np.array(ignored, dtype=classes.dtype))
        same = node("Equal", [classes, ignore])
        kept = cast(node("Not", [same]), n.x.dtype)
        classes = node("Where", [same, classes.graph.constant(np.array(0, dtype=classes.dtype)), classes])
    each = kept
    if weights is not None:
        each = node("Gather", [weights, classes])
        each = each if kept is None else each * kept
    reduction = n.attribute("reduction", "mean")
    if reduction == "mean":
        count = math.prod(classes.static_shape)
        g = g * (1 / count) if each is None else g / node("ReduceSum", [each], keepdims=0)
    shape = classes.static_shape
    by_sample = g if each is None else each * g
    if by_sample.ndim == 0:
        return by_sample
    return reshape(by_sample, (shape[0], 1, *shape[1:]))
