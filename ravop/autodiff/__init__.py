"""Reverse-mode differentiation of graphs: a table of rules over ONNX operators, and the sweep that applies them.

`grad` is the public face. A rule is a small function decorated with `@rule("OperatorName")`, in the module of its
family; it makes nodes through the operator catalogue, so gradients are graphs like any other and can be differentiated
again. Pure: nothing is computed here.
"""

from ravop.autodiff import (
    control,
    convolution,
    elementwise,
    functions,
    indexing,
    linear,
    losses,
    normalization,
    padding,
    pooling,
    recurrent,
    reduction,
    resize,
    sampling,
    shape,
    signal,
)
from ravop.autodiff.rules import NodeView, rule
from ravop.autodiff.sweep import grad

__all__ = [
    "NodeView", "control", "convolution", "elementwise", "functions", "grad", "indexing", "linear", "losses",
    "normalization", "padding", "pooling", "recurrent", "reduction", "resize", "rule", "sampling", "shape", "signal",
]  # fmt: skip
