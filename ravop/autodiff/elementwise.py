"""Gradients of operators that work element by element, with NumPy's broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ravop.autodiff.rules import Grads, NodeView, number, rule, sum_to
from ravop.graph.op import Op
from ravop.ops.catalogue import cast, integers, node

Derivative = Callable[[Op, Op, Op], Op]
"""(input, output, output's gradient) → the input's gradient."""

ONE_OPERAND: dict[str, Derivative] = {
    "Abs": lambda x, y, g: g * node("Sign", [x]),
    "Acos": lambda x, y, g: -g / _sqrt(1 - x * x),
    "Acosh": lambda x, y, g: g / (_sqrt(x - 1) * _sqrt(x + 1)),
    "Asin": lambda x, y, g: g / _sqrt(1 - x * x),
    "Asinh": lambda x, y, g: g / _leg(x),
    "Atan": lambda x, y, g: g / (1 + x * x),
    "Atanh": lambda x, y, g: g / (1 - x * x),
    "Cos": lambda x, y, g: -g * node("Sin", [x]),
    "Cosh": lambda x, y, g: g * node("Sinh", [x]),
    "Erf": lambda x, y, g: g * (node("Exp", [-(x * x)]) * (2 / math.sqrt(math.pi))),
    "Exp": lambda x, y, g: g * y,
    "Identity": lambda x, y, g: g,
    "Log": lambda x, y, g: g / x,
    "Neg": lambda x, y, g: -g,
    "Reciprocal": lambda x, y, g: -(g * y * y),
    # The slope at 0 is 0, as everybody has it. From the output, so that a fused operator need not keep the input; and
    # as a product, because the engine's Where takes longer than Cast and Mul together.
    "Relu": lambda x, y, g: g * cast(y > 0, g.dtype),
    "Sigmoid": lambda x, y, g: g * (y * (1 - y)),
    "Sin": lambda x, y, g: g * node("Cos", [x]),
    "Sinh": lambda x, y, g: g * node("Cosh", [x]),
    "Softplus": lambda x, y, g: g * node("Sigmoid", [x]),
    "Softsign": lambda x, y, g: g / _square(1 + node("Abs", [x])),
    "Sqrt": lambda x, y, g: g * 0.5 / y,
    "Tan": lambda x, y, g: g * (1 + y * y),
    "Tanh": lambda x, y, g: g * (1 - y * y),
}
"""The derivative of y = f(x), times g."""


def _sqrt(x: Op) -> Op:
    return node("Sqrt", [x])


def _leg(x: Op) -> Op:
    """√(x² + 1), also where x² would be infinite: there, and long before, it is |x|."""
    size = node("Abs", [x])
    far = node("Greater", [size, number(x, 200 if x.dtype == np.float16 else 1e9)])
    return node("Where", [far, size, _sqrt(_square(node("Where", [far, number(x, 1), x])) + 1)])


def _square(x: Op) -> Op:
    return x * x


@rule(*ONE_OPERAND)
def one_operand(n: NodeView, g: Op) -> Grads:
    return [ONE_OPERAND[n.node.op_type](n.x, n.y, g)]


@rule("Cast", "CastLike")
def cast_rule(n: NodeView, g: Op) -> Grads:
    return [cast(g, n.x.dtype)]


@rule("Add", "Sum")
def add(n: NodeView, g: Op) -> Grads:
    return [sum_to(g, op) if op is not None and n.wanted(i) else None for i, op in enumerate(n.inputs)]


@rule("Mean")
def mean(n: NodeView, g: Op) -> Grads:
    share = g * (1 / len(n.inputs))
    return [sum_to(share, op) if op is not None else None for op in n.inputs]


@rule("Sub")
def sub(n: NodeView, g: Op) -> Grads:
    return [
        sum_to(g, n.x) if n.wanted(0) else None,
        -sum_to(g, n.input(1)) if n.wanted(1) else None,
    ]


@rule("Mul")
def mul(n: NodeView, g: Op) -> Grads:
    a, b = n.x, n.input(1)
    return [sum_to(g * b, a) if n.wanted(0) else None, sum_to(g * a, b) if n.wanted(1) else None]


@rule("Div")
def div(n: NodeView, g: Op) -> Grads:
    a, b = n.x, n.input(1)
    share = g / b
    return [sum_to(share, a) if n.wanted(0) else None, sum_to(-(share * n.y), b) if n.wanted(1) else None]


@rule("Pow")
def power(n: NodeView, g: Op) -> Grads:
    """d x^e = e·x^(e-1) dx + x^e·ln(x) de; the second part is 0 where x is 0, as PyTorch has it."""
    x, e = n.x, n.input(1)
    exponent = cast(e, x.dtype)
    by_x = by_e = None
    if n.wanted(0):
        by_x = sum_to(g * (x * 2 if _is_two(e) else exponent * node("Pow", [x, exponent - 1])), x)
    if n.wanted(1):
        log = node("Log", [node("Where", [node("Equal", [x, number(x, 0)]), number(x, 1), x])])
        by_e = cast(sum_to(g * n.y * log, e), e.dtype)
    return [by_x, by_e]


def _is_two(exponent: Op) -> bool:
    value = exponent.constant
    return value is not None and value.size == 1 and float(value.item()) == 2.0


@rule("Mod")
def mod(n: NodeView, g: Op) -> Grads:
    """a mod b = a - b·q with a whole number q, which small changes leave as it is."""
    a, b = n.x, n.input(1)
    quotient = node("Round", [(a - n.y) / b]) if n.wanted(1) else None
    return [
        sum_to(g, a) if n.wanted(0) else None,
        sum_to(-(g * quotient), b) if quotient is not None else None,
    ]


@rule("Max", "Min")
def extremum(n: NodeView, g: Op) -> Grads:
    """To the operand that was chosen; shared evenly where several are equal, as PyTorch has it."""
    ops = [n.input(i) for i in range(len(n.inputs))]
    chosen = [cast(node("Equal", [op, n.y]), g.dtype) for op in ops]
    if len(ops) > 1:
        g = g / node("Sum", chosen)
    return [
        sum_to(g * mask, op) if wanted else None
        for op, mask, wanted in zip(ops, chosen, n.wants, strict=True)
    ]


@rule("Where")
def where(n: NodeView, g: Op) -> Grads:
    condition, zero = n.x, number(g, 0)
    return [
        None,
        sum_to(node("Where", [condition, g, zero]), n.input(1)) if n.wanted(1) else None,
        sum_to(node("Where", [condition, zero, g]), n.input(2)) if n.wanted(2) else None,
    ]


@rule("Clip")
def clip(n: NodeView, g: Op) -> Grads:
    """Passes inside the limits and on them; a limit gets the gradients of the elements it cut, as PyTorch has it."""
    x, low, high = n.x, n.optional(1), n.optional(2)
    if low is None and high is None:
        return [g]
    zero = number(g, 0)
    by_low = by_high = None
    if low is not None and n.wanted(1):
        cut = node("Less", [x, low])
        if high is not None:  # where the limits cross, the higher one counts
            cut = node("And", [cut, node("Less", [low, high])])
        by_low = sum_to(node("Where", [cut, g, zero]), low)
    if high is not None and n.wanted(2):
        cut = node("Greater", [x if low is None else node("Max", [x, low]), high])
        by_high = sum_to(node("Where", [cut, g, zero]), high)
    # What was not cut is equal to its output; one comparison, and Cast and Mul instead of Where, take half the time.
    return [g * cast(node("Equal", [x, n.y]), g.dtype) if n.wanted(0) else None, by_low, by_high]


@rule("LeakyRelu")
def leaky_relu(n: NodeView, g: Op) -> Grads:
    return [node("Where", [n.x > 0, g, g * n.attribute("alpha", 0.01)])]


@rule("PRelu")
def prelu(n: NodeView, g: Op) -> Grads:
    x, slope = n.x, n.input(1)
    positive = x > 0
    return [
        node("Where", [positive, g, g * slope]) if n.wanted(0) else None,
        sum_to(node("Where", [positive, number(g, 0), g * x]), slope) if n.wanted(1) else None,
    ]


@rule("Elu")
def elu(n: NodeView, g: Op) -> Grads:
    return [node("Where", [n.x > 0, g, g * (n.y + n.attribute("alpha", 1.0))])]


@rule("Celu")
def celu(n: NodeView, g: Op) -> Grads:
    return [node("Where", [n.x > 0, g, g * (n.y / n.attribute("alpha", 1.0) + 1)])]


@rule("Selu")
def selu(n: NodeView, g: Op) -> Grads:
    alpha, gamma = n.attribute("alpha", 1.6732632423543772), n.attribute("gamma", 1.0507009873554805)
    return [node("Where", [n.x > 0, g * gamma, g * (n.y + alpha * gamma)])]


@rule("HardSigmoid")
def hard_sigmoid(n: NodeView, g: Op) -> Grads:
    inside = node("And", [n.y > 0, n.y < 1])
    return [node("Where", [inside, g * n.attribute("alpha", 0.2), number(g, 0)])]


@rule("HardSwish")
def hard_swish(n: NodeView, g: Op) -> Grads:
    """x·h with h = clip(x/6 + 1/2, 0, 1): the slope is h, plus x/6 where h is not clipped."""
    x = n.x
    gate = node("Clip", [x / 6 + 0.5, number(x, 0), number(x, 1)])
    inside = node("Less", [node("Abs", [x]), number(x, 3)])
    return [g * (gate + node("Where", [inside, x / 6, number(x, 0)]))]


@rule("Mish")
def mish(n: NodeView, g: Op) -> Grads:
    """x·t with t = tanh(ln(1 + eˣ)) = u / (u + 2), u = eˣ(eˣ + 2), which is 1 long before eˣ is too large.

    The engine's Softplus takes several times as long.
    """
    x = n.x
    e = node("Exp", [node("Min", [x, number(x, 20)])])
    u = e * (e + 2)
    t = u / (u + 2)
    return [g * (t + x * (1 - t * t) * node("Sigmoid", [x]))]


@rule("Gelu")
def gelu(n: NodeView, g: Op) -> Grads:
    """x·Φ(x), exact, or with tanh(√(2/π)·(x + 0.044715 x³)) (Hendrycks & Gimpel 2016)."""
    x = n.x
    if n.attribute("approximate", "none") == "tanh":
        scale = math.sqrt(2 / math.pi)
        t = node("Tanh", [(x + x * x * x * 0.044715) * scale])
        return [g * ((t + 1) * 0.5 + x * (1 - t * t) * (0.5 * scale) * (1 + x * x * (3 * 0.044715)))]
    density = node("Exp", [x * x * -0.5]) * (1 / math.sqrt(2 * math.pi))
    return [g * ((node("Erf", [x * math.sqrt(0.5)]) + 1) * 0.5 + x * density)]


@rule("Dropout")
def dropout(n: NodeView, g: Op | None, _: Op | None = None) -> Grads:
    """As it is in inference; in training what was kept is scaled as in the output, so the mask must be an output too."""
    if g is None:
        return []
    training = n.optional(2)
    if training is None:
        return [g]
    if training.constant is None:
        raise n.error("whether it trains must be a constant")
    if not training.constant.item():
        return [g]
    if len(n.outputs) < 2:
        raise n.error("in training its mask must be an output")
    ratio = n.optional(1)
    share = number(g, 0.5) if ratio is None else cast(ratio, g.dtype)
    return [g * cast(n.outputs[1], g.dtype) / (1 - share)]


@rule("DequantizeLinear")
def dequantize_linear(n: NodeView, g: Op) -> Grads:
    """(x - zero point) · scale: only the scale is a float."""
    x, scale, zero = n.x, n.input(1), n.optional(2)
    if n.attribute("block_size", 0):
        raise n.error("scales of blocks are not supported")
    shape = [1] * x.ndim
    if scale.ndim:
        shape[n.axis(1)] = scale.static_shape[0]
    steps = cast(x, g.dtype)
    if zero is not None:
        steps = steps - node("Reshape", [cast(zero, g.dtype), integers(g, shape)])
    summed = sum_to(g * steps, node("Reshape", [cast(scale, g.dtype), integers(g, shape)]))
    return [None, cast(node("Reshape", [summed, integers(g, scale.static_shape)]), scale.dtype)]
