"""How an operator enters the language, and what operators share: making nodes, and operands of one dtype.

An operator is a function of ops decorated with `@operator`; it is then `ravop.NAME(...)` and a method of every op.
Operators make nodes through `Graph.apply` only. They belong to the family modules beside this one; how they read the
plain numbers among their arguments is in `arguments`.
"""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeGuard, TypeVar

import numpy as np

from ravop.errors import ArgumentError, DTypeError, RavenError
from ravop.graph.dtypes import BOOL, FLOAT, INT, DType, as_dtype, is_float, is_number, promote, to_ir
from ravop.graph.graph import Graph, graph_of
from ravop.graph.op import CATALOGUE, Op, Operand
from ravop.graph.source import located
from ravop.protocol.tensors import DTYPES

P = ParamSpec("P")
R = TypeVar("R")

CREATORS: dict[str, Callable[..., Any]] = {}
"""What makes ops of something else than ops, by name."""

_IR_NUMBER = {dtype: int(to_ir(dtype)) for dtype in DTYPES}


def operator(function: Callable[P, R]) -> Callable[P, R]:
    """Register `function` under its own name, and let its errors tell the user's line."""
    CATALOGUE[function.__name__] = made = _telling(function)
    return made


def creator(function: Callable[P, R]) -> Callable[P, R]:
    """As `operator`, for what takes no op to begin with, and so is no method of ops."""
    CREATORS[function.__name__] = made = _telling(function)
    return made


def _telling(function: Callable[P, R]) -> Callable[P, R]:
    """`function` with the user's line in its errors."""

    @functools.wraps(function)
    def telling(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RavenError as error:
            raise located(error, function.__name__) from None
        except _FROM_ARGUMENTS as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is None:
                raise  # the call itself does not fit the signature, and Python says so best
            raise located(_refused(function, args, kwargs, error), function.__name__) from error

    return telling


_FROM_ARGUMENTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What Python and NumPy raise for a value of another kind than the code expects."""


def _refused(
    function: Callable[..., Any], args: Sequence[object], kwargs: Mapping[str, object], error: Exception
) -> RavenError:
    """The error for arguments that `function` stumbled over."""
    name = function.__name__
    given = [reprlib.repr(value) for value in args]
    given += [f"{key}={reprlib.repr(value)}" for key, value in kwargs.items()]
    return (DTypeError if isinstance(error, AttributeError | TypeError) else ArgumentError)(
        f"{name} cannot take these arguments: {error}",
        expected=f"{name}{inspect.signature(function)}",
        received=f"{name}({', '.join(given)})",
        hint="check the kind and the range of each argument",
    )


def also(name: str, function: Callable[P, R]) -> Callable[P, R]:
    """A second name for an operator or creator."""
    registry = CATALOGUE if function.__name__ in CATALOGUE else CREATORS
    registry[name] = function
    return function


def node(op_type: str, inputs: Sequence[Op | None], **attributes: Any) -> Op:
    """The only output of a new node. At least one input is an op."""
    first = inputs[0] if inputs else None
    graph = graph_of(*inputs) if first is None else first.graph
    return graph.apply(op_type, inputs, attributes)[0]


_KERNELS = {
    "Einsum": {"int32", "int64"},
    "MatMul": {"int32", "uint32", "int64", "uint64"},
    "Max": {"int8", "uint8", "int32", "uint32", "int64", "uint64"},
    "Min": {"int8", "uint8", "int32", "uint32", "int64", "uint64"},
    "Pow": {"int32", "int64"},
    "ReduceMax": {"bool", "int8", "uint8", "int32", "int64"},
    "ReduceMin": {"bool", "int8", "uint8", "int32", "int64"},
    "Where": {"int8", "uint8", "int32", "uint32", "int64"},
}
"""Integer dtypes that ONNX Runtime computes these operators with; they take all floats that we use."""


def exact(
    op_type: str, ops: Sequence[Op], before: Sequence[Op] = (), after: Sequence[Op] = (), **attributes: Any
) -> Op:
    """As `node` for `ops` of one dtype (`before` and `after` are further inputs), with a result of that dtype.

    Integers and booleans that engines have no kernel for are computed with as int64.
    """
    dtype = ops[0].dtype
    if not is_float(dtype) and dtype.name not in _KERNELS[op_type]:
        ops = [cast(op, INT) for op in ops]
    return cast(node(op_type, [*before, *ops, *after], **attributes), dtype)


_SINGLE = {"Asin", "Acos", "Atan", "Elu", "Erf", "HardSigmoid", "LeakyRelu", "Selu", "Softsign"}
"""What ONNX Runtime computes in float32 and float16, but has no kernel of float64 for."""


def unary(op_type: str, x: Operand, **attributes: Any) -> Op:
    """A float operator of one operand. Where engines know it in single precision only, float64 goes through float32."""
    op = floats(x)
    if op.dtype == np.float64 and op_type in _SINGLE:
        return cast(node(op_type, [cast(op, FLOAT)], **attributes), op.dtype)
    return node(op_type, [op], **attributes)


def as_op(value: Operand) -> Op:
    return value if isinstance(value, Op) else graph_of().tensor(value)


def cast(op: Op, dtype: DType) -> Op:
    return op if op.dtype == dtype else node("Cast", [op], to=_IR_NUMBER[dtype])


def common(*values: Operand, at_least: DType | None = None) -> tuple[Op, ...]:
    """`values` as ops of one dtype: promoted as NumPy does, floats staying float32, Python scalars weak.

    With `at_least` a float dtype, integers and booleans become that dtype.
    """
    if at_least is None and _alike(values):
        return values
    graph = graph_of(*values)
    dtype: DType | None = None
    for value in values:
        if not _is_weak(value):
            dtype = _own_dtype(value) if dtype is None else promote(dtype, _own_dtype(value))
    for value in values:
        if _is_weak(value):
            dtype = _with_scalar(dtype, value)
    assert dtype is not None
    if at_least is not None and not is_float(dtype):
        dtype = at_least
    return tuple(cast(v, dtype) if isinstance(v, Op) else _constant(graph, v, dtype) for v in values)


def _alike(values: tuple[Operand, ...]) -> TypeGuard[tuple[Op, ...]]:
    """Whether all are ops of one dtype."""
    first = values[0]
    if not isinstance(first, Op):
        return False
    return all(isinstance(value, Op) and value.dtype is first.dtype for value in values)


def _is_weak(value: Operand) -> bool:
    return type(value) in (int, float, bool) or isinstance(value, np.float64)


def _own_dtype(value: Operand) -> DType:
    if isinstance(value, Op):
        return value.dtype
    try:
        dtype = np.asarray(value).dtype
    except ValueError as error:
        raise DTypeError(
            "this is not a tensor", expected="numbers, or lists of equal length", received=str(error)
        ) from error
    if not is_number(dtype):
        raise DTypeError(
            "this is not a tensor of numbers",
            expected=", ".join(sorted(map(str, DTYPES))),
            received=f"{type(value).__name__} of {dtype}",
        )
    return FLOAT if is_float(dtype) else as_dtype(dtype)


def _with_scalar(dtype: DType | None, scalar: Any) -> DType:
    own = BOOL if isinstance(scalar, bool) else INT if isinstance(scalar, int) else FLOAT
    if dtype is None:
        return own
    return dtype if _rank(dtype) >= _rank(own) else own


def _rank(dtype: DType) -> int:
    """Booleans below integers below floats."""
    return 2 if is_float(dtype) else 0 if dtype == BOOL else 1


def _constant(graph: Graph, value: Any, dtype: DType) -> Op:
    if type(value) in (int, bool) and not is_float(dtype) and dtype is not BOOL:
        limits = np.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise ArgumentError(
                f"the number does not fit into {dtype}",
                expected=f"{limits.min} to {limits.max}",
                received=value,
                hint="convert the op with .astype(...) to a wider dtype first",
            )
    return graph.tensor(value, dtype)


def floats(value: Operand) -> Op:
    """`value` as an op of a float dtype: integers and booleans become float32."""
    op = as_op(value)
    return op if is_float(op.dtype) else cast(op, FLOAT)


def numbers(value: Operand) -> Op:
    """`value` as an op to calculate with: booleans become int8, as in NumPy."""
    op = as_op(value)
    return op if op.dtype != BOOL else cast(op, _INT8)


_INT8 = np.dtype(np.int8)
_UINT64 = np.dtype(np.uint64)


def summands(value: Operand) -> Op:
    """`value` as an op to add many elements of: integers and booleans become int64."""
    op = as_op(value)
    return op if is_float(op.dtype) else cast(op, INT)


def total(made: Op, of: Op) -> Op:
    """A sum or product of the `summands` of `of`, which for unsigned integers is uint64, as in NumPy.

    Engines have no kernels for those, and int64 holds the same bits.
    """
    return cast(made, _UINT64) if of.dtype.kind == "u" else made


def booleans(value: Operand) -> Op:
    """`value` as a boolean op: numbers are true when they are not zero."""
    return cast(as_op(value), BOOL)


def integers(like: Op, values: Iterable[int]) -> Op:
    """An int64 constant vector for an operator's sizes, axes or indices."""
    return like.graph.integers(values)


def scalar(like: Op, value: float | bool) -> Op:
    """A constant scalar of the dtype of `like`."""
    return like.graph.constant(np.array(value, dtype=like.dtype))
