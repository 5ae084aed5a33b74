"""Control flow beside `scan`: `cond` (ONNX `If`), `while_loop` (ONNX `Loop`), `map` and `fori_loop` (a `Scan`).

Each traces Python functions into scopes of their own, as `ravop.graph.control` does; what they take from outside is
captured. Trees of ops go in and come out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ravop.errors import ArgumentError, DTypeError, RavenError, ShapeError
from ravop.graph import tree
from ravop.graph.control import check_function, close, next_carry, scan
from ravop.graph.dtypes import BOOL, INT
from ravop.graph.graph import Graph, graph_of
from ravop.graph.infer import Shape
from ravop.graph.op import Op, Operand
from ravop.graph.scope import Scope
from ravop.graph.source import located
from ravop.graph.tree import Tree


def cond(
    predicate: Operand, then: Callable[..., Tree], otherwise: Callable[..., Tree], *operands: Tree
) -> Tree:
    """`then(*operands)` where `predicate` is true, else `otherwise(*operands)`; only that one is computed.

    One ONNX `If`. With a predicate that is known while the script runs, only that branch is traced at all. The
    gradient goes through the branch that was taken.

    Args:
        predicate: a boolean scalar: an op, or True or False.
        then, otherwise: functions of the operands; both give trees of one form, with equal shapes and dtypes. They may use
            ops from outside.
        operands: trees of ops or arrays.
    Raises:
        DTypeError, ShapeError: a predicate that is no boolean scalar, or branches that differ in dtypes or shapes.
        ArgumentError: branches that give trees of different forms, or nothing.

    Example:
        >>> R.cond(R.sum([1.0, 2.0]) > 2, lambda x: x * 10, lambda x: x - 1, R.t([1.0, 2.0]))
        [10.0, 20.0]
    """
    try:
        return _cond(predicate, then, otherwise, operands)
    except RavenError as error:
        raise located(error, "cond") from None


def _cond(
    predicate: Operand, then: Callable[..., Tree], otherwise: Callable[..., Tree], operands: tuple[Tree, ...]
) -> Tree:
    for branch in (then, otherwise):
        check_function(branch, "a branch", "then(*operands), otherwise(*operands)", len(operands))
    graph = graph_of(predicate, *tree.leaves(operands))
    condition = _condition(graph, predicate, "predicate")
    given = _as_ops(graph, operands)
    if condition.constant is not None:
        chosen = then if bool(condition.constant) else otherwise
        return _as_ops(graph, chosen(*given))
    scopes, results = [], []
    for name, branch in (("then", then), ("otherwise", otherwise)):
        with graph.body(name) as scope:
            results.append(branch(*given))
            scopes.append(scope)
    if tree.form(results[0]) != tree.form(results[1]) or not tree.leaves(results[0]):
        raise ArgumentError(
            "both branches must give trees of one form",
            expected="an op, or a tree of ops, from both",
            received=f"{tree.form(results[0])} and {tree.form(results[1])}",
        )
    outputs = _alike(graph, scopes, results)
    for scope, ops in zip(scopes, outputs, strict=True):
        with graph.reopen(scope):
            close(graph, scope, ops)
    made = graph.apply(
        "If", [condition], {"then_branch": scopes[0].ir, "else_branch": scopes[1].ir},
        outputs=[(a.dtype, _common_shape(a, b, "result")) for a, b in zip(*outputs, strict=True)],
    )  # fmt: skip
    return tree.rebuild(results[0], iter(made))


def _common_shape(first: Op, second: Op, where: str) -> Shape:
    """The shape of what either branch gives: dimensions that only the run can tell may differ."""
    pairs = list(zip(first.shape, second.shape, strict=False))
    if first.ndim != second.ndim or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs
    ):
        raise ShapeError(
            f"{where} has different shapes in the branches", expected=f"{list(first.shape)}, as `then` gives",
            received=list(second.shape), source=second.source, hint="reshape or pad one of them",
        )  # fmt: skip
    return tuple(a if a == b else None for a, b in pairs)


def _alike(graph: Graph, scopes: Sequence[Scope], results: Sequence[Tree]) -> list[list[Op]]:
    """What both branches give, leaf by leaf of one type. A number takes the dtype of the op that the other one gives."""
    outputs: list[list[Op]] = [[], []]
    for (path, left), right in zip(tree.paths(results[0]), tree.leaves(results[1]), strict=True):
        pair = []
        for scope, leaf, other in ((scopes[0], left, right), (scopes[1], right, left)):
            with graph.reopen(scope):
                weak = isinstance(leaf, bool | int | float) and isinstance(other, Op)
                pair.append(graph.tensor(leaf, other.dtype if weak else None))
        where = f"result{path}"
        first, second = pair
        if first.dtype != second.dtype:
            raise DTypeError(
                f"{where} has different dtypes in the branches", expected=f"{first.dtype}, as `then` gives",
                received=second.dtype, source=second.source, hint="convert one with .astype(...)",
            )  # fmt: skip
        _common_shape(first, second, where)
        outputs[0].append(first)
        outputs[1].append(second)
    return outputs


def while_loop(
    cond: Callable[[Tree], Operand],
    body: Callable[[Tree], Tree],
    init: Tree,
    max_iterations: int | None = None,
    differentiable: bool = False,
) -> Tree:
    """Run `body` on the carry as long as `cond` of it is true. → the last carry.

    The same as `while cond(carry): carry = body(carry)`, as one ONNX `Loop`, which one provider computes.

    Args:
        cond: takes the carry, gives a boolean scalar.
        body: takes the carry, gives the next one, of the same form, shapes and dtypes. Both may use ops from outside.
        init: the carry before the first iteration, a tree of ops or arrays with at least one leaf.
        max_iterations: end after so many, whatever `cond` says.
        differentiable: make a `Scan` of `max_iterations` steps instead, of which those after the end do nothing: so it has
            a gradient, and costs memory for `max_iterations` carries where one is taken.
    Raises:
        ShapeError, DTypeError: a carry that changes, or a condition that is no boolean scalar.
        ArgumentError: a carry of another form, no carry, `max_iterations` below 1, or `differentiable` without it.

    Example:
        >>> R.while_loop(lambda x: x < 100, lambda x: x * 2, R.t(3))
        192
        >>> R.while_loop(lambda x: x < 100, lambda x: x * 2, R.t(3.0), max_iterations=9, differentiable=True)
        192.0
    """
    try:
        if differentiable and max_iterations is None:
            raise ArgumentError(
                "a differentiable loop needs a bound", expected="max_iterations", received="none",
                hint="the gradient keeps the carry of every iteration, so their number must be bounded",
            )  # fmt: skip
        return (_bounded if differentiable else _while)(cond, body, init, max_iterations)
    except RavenError as error:
        raise located(error, "while_loop") from None


def _checked(cond: Callable[..., Any], body: Callable[..., Any], init: Tree, limit: int | None) -> None:
    check_function(cond, "a loop's condition", "cond(carry)", 1)
    check_function(body, "a loop's body", "body(carry)", 1)
    if not tree.leaves(init):
        raise ArgumentError("a loop needs a carry", expected="an op, or a tree of ops", received=repr(init))
    if limit is not None and (not isinstance(limit, int | np.integer) or limit < 1):
        raise ArgumentError(
            "a loop's bound is a number of iterations", expected="1 or more", received=repr(limit)
        )


def _while(
    cond: Callable[[Tree], Operand], body: Callable[[Tree], Tree], init: Tree, limit: int | None
) -> Tree:
    _checked(cond, body, init, limit)
    graph = graph_of(*tree.leaves(init))
    carries = [graph.tensor(leaf) for leaf in tree.leaves(init)]
    start = _condition(graph, cond(tree.rebuild(init, iter(carries))), "the condition")
    with graph.body("while") as scope:
        counter = graph.placeholder(INT, ())
        graph.placeholder(BOOL, ())
        scope.make_counter = lambda: counter
        carry_ins = [graph.placeholder(op.dtype, op.shape) for op in carries]
        carry_outs = next_carry(graph, init, carries, body(tree.rebuild(init, iter(carry_ins))))
        again = _condition(graph, cond(tree.rebuild(init, iter(carry_outs))), "the condition")
        close(graph, scope, [again, *carry_outs])
    bound = None if limit is None else graph.constant(np.array(limit, dtype=np.int64))
    outputs = graph.apply(
        "Loop", [bound, start, *carries], {"body": scope.ir}, outputs=[(op.dtype, op.shape) for op in carry_outs]
    )  # fmt: skip
    return tree.rebuild(init, iter(outputs))


def _bounded(
    cond: Callable[[Tree], Operand], body: Callable[[Tree], Tree], init: Tree, limit: int | None
) -> Tree:
    _checked(cond, body, init, limit)
    graph = graph_of(*tree.leaves(init))
    start = _as_ops(graph, init)

    def advance(carry: Tree) -> Tree:
        before = tree.leaves(carry)
        after = tree.rebuild(init, iter(next_carry(graph, init, before, body(carry))))
        return after, _condition(graph, cond(after), "the condition")

    def step(state: tuple[Tree, Op], _: None) -> tuple[Tree, None]:
        carry, going = state
        return _cond(going, advance, lambda same: (same, going), (carry,)), None

    going = _condition(graph, cond(start), "the condition")
    (last, _), _ = scan(step, (start, going), length=limit)
    return last


def fori_loop(lower: int, upper: int, body: Callable[[Op, Tree], Tree], init: Tree) -> Tree:
    """`for i in range(lower, upper): carry = body(i, carry)`, as one `Scan`. → the last carry; has a gradient.

    Raises what `scan` raises; without iterations it gives `init`.

    Example:
        >>> R.fori_loop(1, 6, lambda i, total: total * i, R.t(1))
        120
    """
    if not all(isinstance(bound, int | np.integer) for bound in (lower, upper)):
        error = ArgumentError("the bounds of a loop are known", expected="two ints", received=f"{lower!r}, {upper!r}",
                              hint="use while_loop where an op decides how often")  # fmt: skip
        raise located(error, "fori_loop")
    try:
        check_function(body, "a loop's body", "body(i, carry)", 2)
    except RavenError as error:
        raise located(error, "fori_loop") from None
    if upper <= lower:
        return _as_ops(graph_of(*tree.leaves(init)), init)
    graph = graph_of(*tree.leaves(init))

    def step(carry: Tree, offset: Op) -> tuple[Tree, None]:
        return body(
            graph.apply("Add", [offset, graph.constant(np.array(lower, dtype=np.int64))])[0], carry
        ), None

    return scan(step, init, graph.apply("Range", [graph.constant(np.array(n)) for n in (0, upper - lower, 1)],
                                        outputs=[(INT, (int(upper - lower),))])[0])[0]  # fmt: skip


def map(function: Callable[..., Tree], *xs: Tree) -> Tree:
    """`function` of each element along the first axis of `xs`, stacked: `stack([function(*x) for x in zip(*xs)])`.

    One `Scan` without a carry, whose iterations a coordinator may spread over providers. Each leaf of `xs` has a first axis
    of one length. Random operators inside draw anew for each element; the gradient goes through. Raises what `scan` raises.

    Example:
        >>> R.map(lambda row: row @ row, [[1.0, 2.0], [3.0, 4.0]])
        [5.0, 25.0]
    """
    try:
        check_function(function, "what map calls", "function(*xs)", len(xs))
        graph = graph_of(*tree.leaves(xs))
        arrays = tuple(graph.tensor(x) if _is_numbers(x) else x for x in xs)
        return scan(lambda _, x: (None, function(*x)), None, arrays)[1]
    except RavenError as error:
        raise located(error, "map") from None


def _is_numbers(x: Tree) -> bool:
    """Whether a list is a tensor written out, and no tree of tensors."""
    return isinstance(x, list) and not any(isinstance(leaf, Op | np.ndarray) for leaf in tree.leaves(x))


def _as_ops(graph: Graph, given: Tree) -> Tree:
    return tree.rebuild(given, iter([graph.tensor(leaf) for leaf in tree.leaves(given)]))


def _condition(graph: Graph, value: Any, what: str) -> Op:
    """`value` as a boolean scalar op."""
    op = graph.tensor(value)
    if op.dtype != BOOL:
        raise DTypeError(f"{what} must be true or false", expected="a boolean scalar", received=f"{op.dtype}{list(op.shape)}",
                         hint="compare it, such as with x > 0")  # fmt: skip
    if op.shape == ():
        return op
    if any(dim != 1 for dim in op.shape):
        raise ShapeError(f"{what} must be one truth value", expected="a boolean scalar", received=list(op.shape),
                         hint="reduce it with ravop.all or ravop.any")  # fmt: skip
    return graph.apply("Reshape", [op, graph.constant(np.zeros(0, dtype=np.int64))])[0]
