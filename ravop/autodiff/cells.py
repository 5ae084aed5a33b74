"""The cells of recurrent networks as their gradients need them: gates of all steps at once, and one step backwards.

Gates lie side by side in the order of ONNX, each as wide as the hidden state. Formulas are those of the ONNX operators'
documentation, differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ravop.autodiff.control import turned
from ravop.autodiff.rules import NodeView, reshape
from ravop.graph import tree
from ravop.graph.control import scan
from ravop.graph.op import Op
from ravop.graph.tree import Tree
from ravop.ops.catalogue import cast, integers, node


@dataclass(frozen=True)
class Steps:
    """One direction of a recurrent node, in the order in which it walks: x (T, N, I), y (T, N, H), h0 and c0 (N, H),
    w (gates·H, I), r (gates·H, H), bias (2·gates·H,) or None."""

    x: Op
    y: Op
    h0: Op
    c0: Op
    w: Op
    r: Op
    bias: Op | None

    @property
    def hidden(self) -> int:
        return int(self.y.static_shape[2])


@dataclass(frozen=True)
class Back:
    """Gradients: of what the products with w gave (T, N, gates·H); of what those with r gave, in pieces, each with its
    operand (T, N, H); of the initial states."""

    by_w: Op
    by_r: Sequence[tuple[Op, Op]]
    by_h0: Op
    by_c0: Op | None


class Cell:
    """A kind of cell. `activations` are the ones that its formulas hold for."""

    activations: tuple[tuple[str, ...], ...]

    def __init__(self, n: NodeView, position: int, steps: Steps) -> None:
        """`position` is that of the direction in the node's weights."""
        self.steps = steps
        self.before = node("Concat", [_lifted(steps.h0), _but_last(steps.y)], axis=0)
        """The hidden state before each step, (T, N, H)."""

    def back(self, by_y: Op | None, by_h: Op, by_c: Op) -> Back:
        """From the gradients of all hidden states, and of the last hidden and cell state."""
        raise NotImplementedError

    def gates(self, operand: Op, weights: Op, bias: Op | None, to: Op | None = None) -> Op:
        """operand·weightsᵀ (+ bias) (+ to) for all steps."""
        steps, batch, _ = operand.static_shape
        rows = reshape(operand, (steps * batch, operand.static_shape[2]))
        plus = bias if to is None else reshape(to, (steps * batch, weights.static_shape[0]))
        found = node("Gemm", [rows, weights, *([] if plus is None else [plus])], transB=1)
        return reshape(found, (steps, batch, weights.static_shape[0]))

    def biases(self) -> tuple[Op | None, Op | None]:
        """That of w and that of r."""
        bias = self.steps.bias
        if bias is None:
            return None, None
        first, second = pieces(bias, 0, 2)
        return first, second

    def gates_of_both(self) -> Op:
        """What w and r give together, where they only are added."""
        ours, theirs = self.biases()
        bias = None if ours is None or theirs is None else ours + theirs
        return self.gates(self.before, self.steps.r, None, self.gates(self.steps.x, self.steps.w, bias))


_SLOPES: Mapping[str, Callable[[Op], Op]] = {
    "Tanh": lambda y: 1 - y * y,
    "Relu": lambda y: cast(y > 0, y.dtype),
    "Sigmoid": lambda y: y * (1 - y),
}
"""Of an activation, by what it gave."""


class RNN(Cell):
    """h = f(W·x + R·h + b): the slope of f is told by h."""

    activations = (("Tanh",), ("Relu",), ("Sigmoid",))

    def __init__(self, n: NodeView, position: int, steps: Steps) -> None:
        super().__init__(n, position, steps)
        names = n.attribute("activations") or ("Tanh",) * (position + 1)
        self.slope = _SLOPES[str(names[position]).capitalize()](steps.y)

    def back(self, by_y: Op | None, by_h: Op, by_c: Op) -> Back:
        r = self.steps.r

        def step(by_h: Tree, given: Tree) -> tuple[Tree, Tree]:
            by_y, slope = given
            gates = _plus(by_h, by_y) * slope
            return node("Gemm", [gates, r]), gates

        by_h0, gates = _backwards(step, by_h, (by_y, self.slope))
        return Back(gates, [(gates, self.before)], by_h0, None)


class LSTM(Cell):
    """Hochreiter & Schmidhuber 1997, with forget gates: c = f·c + i·g, h = o·tanh(c); gates in the order i, o, f, g."""

    activations = (("Sigmoid", "Tanh", "Tanh"),)

    def back(self, by_y: Op | None, by_h: Op, by_c: Op) -> Back:
        r, hidden = self.steps.r, self.steps.hidden
        gates, new = _split(self.gates_of_both(), [3 * hidden, hidden])
        gates, g = node("Sigmoid", [gates]), node("Tanh", [new])
        i, o, f = pieces(gates, 2, 3)
        cells, before = self._cells(f, i * g)
        tanh = node("Tanh", [cells])
        # The gradient of each gate is the gradient of c, or for o that of h, times a factor that no other step decides.
        slopes = gates * (1 - gates) * node("Concat", [g, tanh, before], axis=2)
        factors = node("Concat", [slopes, i * (1 - g * g)], axis=2)
        by_tanh = o * (1 - tanh * tanh)

        def step(by: Tree, given: Tree) -> tuple[Tree, Tree]:
            by_h, by_c = by
            by_y, factor, by_tanh, f = given
            by_h = _plus(by_h, by_y)
            by_c = by_c + by_h * by_tanh
            gates = node("Concat", [by_c, by_h, by_c, by_c], axis=1) * factor
            return (node("Gemm", [gates, r]), by_c * f), gates

        (by_h0, by_c0), by_gates = _backwards(step, (by_h, by_c), (by_y, factors, by_tanh, f))
        return Back(by_gates, [(by_gates, self.before)], by_h0, by_c0)

    def _cells(self, f: Op, added: Op) -> tuple[Op, Op]:
        """The cell states after each step, and before it."""

        def step(c: Tree, given: Tree) -> tuple[Tree, Tree]:
            f, added = given
            c = c * f + added
            return c, c

        _, cells = scan(step, self.steps.c0, (f, added))
        return cells, node("Concat", [_lifted(self.steps.c0), _but_last(cells)], axis=0)


class GRU(Cell):
    """Cho et al. 2014: h = (1 - z)·n + z·h, gates in the order z, r, n; r times the hidden state before the product with
    its weights, or times the product (linear_before_reset)."""

    activations = (("Sigmoid", "Tanh"),)

    def __init__(self, n: NodeView, position: int, steps: Steps) -> None:
        super().__init__(n, position, steps)
        self.reset_last = bool(n.attribute("linear_before_reset", 0))

    def back(self, by_y: Op | None, by_h: Op, by_c: Op) -> Back:
        hidden, before = self.steps.hidden, self.before
        two = [2 * hidden, hidden]
        of_w, of_r = self.biases()
        gates_x, new_x = _split(self.gates(self.steps.x, self.steps.w, of_w), two)
        r_gates, r_new = _split(self.steps.r, two, axis=0)
        b_gates, b_new = (None, None) if of_r is None else _split(of_r, two, axis=0)
        gates = node("Sigmoid", [self.gates(before, r_gates, b_gates) + gates_x])
        z, r = pieces(gates, 2, 2)
        inner = self.gates(before if self.reset_last else r * before, r_new, b_new)
        new = node("Tanh", [new_x + (r * inner if self.reset_last else inner)])
        by_new, by_z = (1 - z) * (1 - new * new), (before - new) * z * (1 - z)
        if self.reset_last:
            return self._reset_last(by_y, by_h, z, r, by_z, by_new, inner)
        return self._reset_first(by_y, by_h, z, r, by_z, by_new, (r_gates, r_new))

    def _reset_last(self, by_y: Op | None, by_h: Op, z: Op, r: Op, by_z: Op, by_new: Op, inner: Op) -> Back:
        """All gates have the gradient of h times a factor of their own."""
        weights, by_r = self.steps.r, by_new * inner * r * (1 - r)

        def step(by_h: Tree, given: Tree) -> tuple[Tree, Tree]:
            by_y, factor, z = given
            by_h = _plus(by_h, by_y)
            gates = node("Concat", [by_h, by_h, by_h], axis=1) * factor
            return node("Gemm", [gates, weights, by_h * z]), (gates, by_h)

        factors = node("Concat", [by_z, by_r, by_new * r], axis=2)
        by_h0, (gates, by_each) = _backwards(step, by_h, (by_y, factors, z))
        zr, _ = _split(gates, [2 * self.steps.hidden, self.steps.hidden])
        by_w = node("Concat", [zr, by_each * by_new], axis=2)
        return Back(by_w, [(gates, self.before)], by_h0, None)

    def _reset_first(
        self, by_y: Op | None, by_h: Op, z: Op, r: Op, by_z: Op, by_new: Op, weights: tuple[Op, Op]
    ) -> Back:
        (r_gates, r_new), by_r = weights, self.before * r * (1 - r)

        def step(by_h: Tree, given: Tree) -> tuple[Tree, Tree]:
            by_y, by_z, by_r, by_new, z, r = given
            by_h = _plus(by_h, by_y)
            new = by_h * by_new
            reset = node("Gemm", [new, r_new])
            gates = node("Concat", [by_h * by_z, reset * by_r], axis=1)
            return node("Gemm", [gates, r_gates, by_h * z + reset * r]), (gates, new)

        by_h0, (gates, new) = _backwards(step, by_h, (by_y, by_z, by_r, by_new, z, r))
        by_w = node("Concat", [gates, new], axis=2)
        return Back(by_w, [(gates, self.before), (new, r * self.before)], by_h0, None)


def _backwards(
    step: Callable[[Tree, Tree], tuple[Tree, Tree]], carry: Tree, series: tuple[Op | None, ...]
) -> tuple[Tree, Tree]:
    """`step` from the last element of `series` to the first; what it gives for each is in the order of `series` again."""
    last, given = scan(step, carry, tuple([None if op is None else turned(op) for op in series]))
    return last, tree.rebuild(given, iter([turned(op) for op in tree.leaves(given)]))


def _plus(by_h: Op, by_y: Op | None) -> Op:
    return by_h if by_y is None else by_h + by_y


def _lifted(state: Op) -> Op:
    return reshape(state, (1, *state.static_shape))


def _but_last(series: Op) -> Op:
    numbers = (0, series.static_shape[0] - 1, 0)
    return node("Slice", [series, *(integers(series, [v]) for v in numbers)])


def pieces(op: Op, axis: int, count: int) -> tuple[Op, ...]:
    """`op` in `count` equal pieces along an axis."""
    return op.graph.apply("Split", [op], {"axis": axis, "num_outputs": count})


def _split(op: Op, sizes: Sequence[int], axis: int = 2) -> tuple[Op, Op]:
    first, second = op.graph.apply("Split", [op, integers(op, sizes)], {"axis": axis})
    return first, second
