"""Loops and functions: `scan` makes one ONNX `Scan` node, `function` a model-local ONNX function.

Both trace a Python function into a scope of its own. What the body takes from outside is captured: a loop's body reads
it as a value of the outer graph; a function, which cannot, gets it as one more argument.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
import onnx_ir as ir

from ravop.errors import ArgumentError, DTypeError, RavenError, ShapeError
from ravop.graph import tree
from ravop.graph.dtypes import INT
from ravop.graph.graph import Graph, graph_of
from ravop.graph.infer import TensorType
from ravop.graph.keys import KEY, KEY_WORDS, call_key
from ravop.graph.op import Op
from ravop.graph.scope import Scope
from ravop.graph.source import located
from ravop.graph.tree import Tree

FUNCTION_DOMAIN = "ravop.local"
"""Domain of the functions that a graph's model declares itself."""

P = ParamSpec("P")
R = TypeVar("R")


def scan(
    body: Callable[[Tree, Tree], tuple[Tree, Tree]], init: Tree, xs: Tree = None, length: int | None = None
) -> tuple[Tree, Tree]:
    """Run `body` once for each element along the first axis of `xs`, one after another. → (last carry, stacked ys).

    The same as `for x in xs: carry, y = body(carry, x)`, as one node: a loop of a million iterations is a graph as small as
    one of two. `init`, `xs` and y are trees of ops or arrays: a single one, tuples, lists or dicts of them, or None.

    Args:
        body: takes (carry, x), gives (carry, y); the carry keeps its form, shapes and dtypes. It may use ops from outside.
        init: the carry before the first iteration.
        xs: each leaf has a first axis of `length`.
        length: number of iterations; needed when `xs` is None.
    Returns:
        the carry after the last iteration, and y with a new first axis of `length`.
    Raises:
        ShapeError, DTypeError: leaves of xs of different lengths, or a carry that changes.
        ArgumentError: no length, or the body does not give a pair.

    Example:
        >>> R.scan(lambda total, x: (total + x, total * x), R.t(0.0), R.t([1.0, 2.0, 3.0]))[1]
        [0.0, 2.0, 9.0]
    """
    try:
        return _scan(body, init, xs, length)
    except RavenError as error:
        raise located(error, "scan") from None


def _scan(
    body: Callable[[Tree, Tree], tuple[Tree, Tree]], init: Tree, xs: Tree, length: int | None
) -> tuple[Tree, Tree]:
    check_function(body, "a scan's body", "body(carry, x)", 2)
    graph = graph_of(*tree.leaves(init), *tree.leaves(xs))
    carries = [graph.tensor(leaf) for leaf in tree.leaves(init)]
    sliced = [graph.tensor(leaf) for leaf in tree.leaves(xs)]
    length = _length(sliced, length)

    with graph.body("scan") as scope:
        scope.make_counter = lambda: graph.placeholder(INT, (), scope)
        carry_ins = [graph.placeholder(op.dtype, op.shape) for op in carries]
        x_ins = [graph.placeholder(op.dtype, op.shape[1:]) for op in sliced]
        given = body(tree.rebuild(init, iter(carry_ins)), tree.rebuild(xs, iter(x_ins)))
        if not isinstance(given, tuple) or len(given) != 2:
            raise ArgumentError(
                "a scan's body gives a pair", expected="(carry, y)", received=type(given).__name__
            )
        carry_outs = next_carry(graph, init, carries, given[0])
        y_outs = [graph.tensor(leaf) for leaf in tree.leaves(given[1])]
        close(graph, scope, carry_outs + y_outs)
        needs_index = scope.counted or not sliced
        if not sliced and not scope.counted:
            scope.iteration  # noqa: B018 - a Scan needs something to walk along

    inputs = [*carries, *sliced, *([indices(graph, length)] if needs_index else [])]
    outputs = graph.apply(
        "Scan", inputs, {"body": scope.ir, "num_scan_inputs": len(sliced) + needs_index},
        outputs=[(op.dtype, op.shape) for op in carry_outs] + [(op.dtype, (length, *op.shape)) for op in y_outs],
    )  # fmt: skip
    return (
        tree.rebuild(init, iter(outputs[: len(carries)])),
        tree.rebuild(given[1], iter(outputs[len(carries) :])),
    )


def check_function(function: Any, what: str, expected: str, count: int) -> None:
    """Raises `ArgumentError` where `function` is none, or cannot be called with `count` arguments."""
    if not callable(function):
        raise ArgumentError(f"{what} is a function", expected=expected, received=repr(function))
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a built-in function that does not tell
        return
    try:
        signature.bind(*[None] * count)
    except TypeError as error:
        raise ArgumentError(
            f"{what} does not take the arguments it gets", expected=expected,
            received=f"{getattr(function, '__name__', 'a function')}{signature}: {error}",
            hint="each argument is one tree: take a tuple apart inside, as in `a, b = carry`",
        ) from None  # fmt: skip


def _length(sliced: list[Op], length: int | None) -> int:
    for op in sliced:
        if not op.ndim or not isinstance(op.shape[0], int):
            raise ShapeError(
                "xs needs a first axis of known length", expected="at least one axis", received=list(op.shape)
            )
        if length is None:
            length = op.shape[0]
        if op.shape[0] != length:
            raise ShapeError(
                "the leaves of xs differ in length",
                expected=f"{length} along the first axis",
                received=list(op.shape),
            )
    if length is None:
        raise ArgumentError("scan needs to know how often", expected="xs, or length", received="neither")
    if not isinstance(length, int | np.integer) or length < 1:
        raise ArgumentError(
            "scan needs at least one iteration", expected="a length of 1 or more", received=repr(length)
        )
    return int(length)


def next_carry(graph: Graph, init: Tree, carries: list[Op], carry: Tree) -> list[Op]:
    """The ops of the carry that a body gives. Raises where form, dtypes or shapes are not those of `carries`."""
    if tree.form(carry) != tree.form(init):
        raise ArgumentError(
            "the body must keep the form of the carry", expected=tree.form(init), received=tree.form(carry)
        )
    outs = []
    for (path, leaf), start in zip(tree.paths(carry), carries, strict=True):
        op = leaf if isinstance(leaf, Op) else graph.tensor(leaf, start.dtype)
        where = f"carry{path}"
        if op.dtype != start.dtype:
            raise DTypeError(
                f"{where} changes its dtype in the body",
                expected=f"{start.dtype}, as in init",
                received=op.dtype,
                source=op.source,
                hint="convert it with .astype(...), or start with this dtype",
            )
        if op.shape != start.shape:
            raise ShapeError(
                f"{where} changes its shape in the body",
                expected=f"{list(start.shape)}, as in init",
                received=list(op.shape),
                source=op.source,
                hint="start with a tensor of this shape",
            )
        outs.append(op)
    return outs


def function(traced: Callable[P, R]) -> Callable[P, R]:
    """Decorator: keep what `traced` does as one ONNX function, made once for all calls with arguments of the same types.

    The result is called like `traced`. Arguments are trees; their ops and arrays are the function's
    inputs, everything else (numbers,
    texts, None) belongs to its signature. Ops that it uses from outside come in as further inputs. Gives what `traced` gives: a
    tree of ops. Random operators inside draw anew at each call.

    Example:
        >>> R.function(lambda x: x * 2)(R.t([1.0, 2.0]))
        [2.0, 4.0]
    """

    @functools.wraps(traced)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return _call(traced, (args, kwargs))  # type: ignore[no-any-return]
        except RavenError as error:
            raise located(error, traced.__name__) from None

    return call


@dataclass(frozen=True, eq=False)
class Traced:
    """An ONNX function of a graph, and how to call it."""

    identifier: ir.OperatorIdentifier
    extra: tuple[Op | None, ...]
    """What it takes after its arguments: outer ops, and None where it takes the key of the call."""
    outputs: tuple[TensorType, ...]
    result: Tree


def _call(traced: Callable[..., Tree], arguments: Tree) -> Tree:
    graph = graph_of(*tree.leaves(arguments))
    given = [graph.tensor(leaf) if _is_tensor(leaf) else leaf for leaf in tree.leaves(arguments)]
    signature = (traced, tree.form(arguments), tuple(_signature(leaf) for leaf in given))
    found = graph.traced.get(signature)
    if found is None or any(op is not None and not op.scope.encloses(graph.scope) for op in found.extra):
        found = graph.traced[signature] = _trace(graph, traced, arguments, given)
    inputs = [leaf for leaf in given if isinstance(leaf, Op)]
    inputs += [call_key(graph) if op is None else op for op in found.extra]
    scope: Scope | None = graph.scope
    while scope is not None:
        scope.ir.opset_imports[FUNCTION_DOMAIN] = 1
        scope = scope.parent
    outputs = graph.apply(
        found.identifier[1],
        inputs,
        domain=FUNCTION_DOMAIN,
        outputs=[(t.dtype, t.shape) for t in found.outputs],
    )
    return tree.rebuild(found.result, iter(outputs))


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, Op | np.ndarray)


def _signature(leaf: Any) -> Hashable:
    if isinstance(leaf, Op):
        return leaf.dtype.num, leaf.shape
    if not isinstance(leaf, Hashable):
        raise DTypeError("a function cannot take this", expected="ops, arrays, numbers, texts, or trees of them",
                         received=type(leaf).__name__)  # fmt: skip
    return type(leaf), leaf


def _trace(graph: Graph, traced: Callable[..., Tree], arguments: Tree, given: list[Any]) -> Traced:
    with graph.body(traced.__name__.strip("<>"), is_function=True) as scope:
        scope.make_counter = lambda: graph.placeholder(KEY, (KEY_WORDS,), scope)
        inside = [
            graph.placeholder(leaf.dtype, leaf.shape) if isinstance(leaf, Op) else leaf for leaf in given
        ]
        count = len(scope.ir.inputs)
        args, kwargs = tree.rebuild(arguments, iter(inside))
        result = traced(*args, **kwargs)
        outputs = [graph.tensor(leaf) for leaf in tree.leaves(result)]
        if not outputs:
            raise ArgumentError(
                "a function must give ops", expected="an op, or a tree of ops", received=repr(result)
            )
        close(graph, scope, outputs)
    outer = {inner.value: op for op, inner in scope.captured.items()}
    made = ir.Function(FUNCTION_DOMAIN, str(scope.ir.name), graph=scope.ir, attributes=())
    graph.functions[made.identifier()] = made
    extra = tuple(outer.get(value) for value in scope.ir.inputs[count:])
    return Traced(made.identifier(), extra, tuple(op.type for op in outputs), result)


def indices(graph: Graph, length: int) -> Op:
    """0, 1, …, length − 1, int64; a node however long it is, so that the graph stays small."""
    numbers = [graph.constant(np.array(n, dtype=np.int64)) for n in (0, length, 1)]
    return graph.apply("Range", numbers, outputs=[(INT, (length,))])[0]


def close(graph: Graph, scope: Scope, outputs: list[Op]) -> None:
    """Make `outputs` the outputs of the body being traced, which is the current scope.

    ONNX wants each to be made by a node of the body, and to be different: others go through an `Identity`.
    """
    taken: set[ir.Value] = set()
    for op in outputs:
        own = (
            op.scope is scope
            and op.graph is graph
            and op.value.producer() is not None
            and op.value not in taken
        )
        value = op.value if own else graph.apply("Identity", [op])[0].value
        taken.add(value)
        scope.ir.outputs.append(value)
