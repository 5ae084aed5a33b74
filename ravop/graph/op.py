"""`Op`: one symbolic tensor of a graph.

An op knows its `shape` and `dtype` at once and computes nothing. What can be done with it is the operator catalogue
(`ravop.ops`): each operator registered there is a method of every op, and Python's own operators map to it by the
table at the end of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import onnx_ir as ir

from ravop.errors import ArgumentError, DTypeError, ShapeError, did_you_mean
from ravop.graph.dtypes import DType
from ravop.graph.infer import Shape, TensorType
from ravop.graph.source import Line, describe, user_line
from ravop.protocol.tensors import Array

if TYPE_CHECKING:
    from ravop.graph.graph import Graph
    from ravop.graph.scope import Scope

STOP_GRADIENT = "ravop.stop_gradient"
"""Key in a node's `metadata_props`: autodiff gives no gradient to the node's inputs. Made by `ravop.stop_gradient`."""

CATALOGUE: dict[str, Callable[..., Any]] = {}
"""Every operator by name; filled by `ravop.ops`."""


_TO_FETCH = (
    "nothing is computed while the script runs: op.persist_op(name), then "
    "ravop.run_local()[name] here, or ravop.fetch(name) when volunteers have computed it"
)
_OF_VALUES = frozenset({"cpu", "detach", "eval", "item", "numpy", "tolist"})
"""Methods of other libraries' tensors that tell their values."""


def _unary(name: str) -> Callable[[Op], Op]:
    return lambda op: CATALOGUE[name](op)


def _binary(name: str) -> Callable[[Op, Operand], Op]:
    return lambda op, other: CATALOGUE[name](op, other)


def _reflected(name: str) -> Callable[[Op, Operand], Op]:
    return lambda op, other: CATALOGUE[name](other, op)


class Op:
    """A tensor that will be computed: `shape`, `dtype`, and the user's line that made it.

    Made by the operators of `ravop`, never directly. `value` is the underlying `onnx_ir.Value`.
    """

    __slots__ = ("__weakref__", "dtype", "graph", "line", "scope", "shape", "type", "value")

    __hash__ = object.__hash__

    def __init__(self, value: ir.Value, graph: Graph, scope: Scope, type: TensorType, line: Line) -> None:
        self.value = value
        self.graph = graph
        self.scope = scope
        self.type = type
        self.dtype: DType = type.dtype
        self.shape: Shape = type.shape
        self.line = line

    @property
    def name(self) -> str:
        """The op's unique name within its graph."""
        return self.value.name or ""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def source(self) -> str:
        """The user's line that made this op, `path:line: code`."""
        return describe(self.line)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape, all dimensions known. Raises `ShapeError` where one is not."""
        if all(isinstance(dim, int) for dim in self.shape):
            return self.shape  # type: ignore[return-value]
        raise ShapeError(
            "this needs a fully known shape", received=list(self.shape), op=self.name, source=self.source
        )

    @property
    def constant(self) -> Array | None:
        """The op's value where it is a small constant, else None."""
        tensor = self.value.const_value
        return None if tensor is None else tensor.numpy()

    @property
    def T(self) -> Op:  # noqa: N802 - NumPy's name
        """The op with its axes reversed."""
        return CATALOGUE["transpose"](self)  # type: ignore[no-any-return]

    def persist_op(self, name: str) -> Op:
        """Keep this op's value at the coordinator under `name`, fetchable as soon as it is computed. → the op.

        Raises `DuplicateNameError` for a name in use, `ScopeError` inside a scan body or function.
        """
        self.graph.persist(self, name)
        return self

    def persist_each(self, name: str, first: Sequence[int] = ()) -> Op:
        """Keep the elements of this op's leading axes under a name with one `{}` for each such axis. → the op.

        `losses.persist_each("loss_epoch_{}_batch_{}", first=(1, 1))` over shape (epochs, batches) makes
        `loss_epoch_1_batch_1` and all others fetchable; elements appear while the loop that stacks them runs.
        """
        self.graph.persist(self, name, axes=name.count("{}"), first=tuple(first))
        return self

    def get_dtype(self) -> str:
        return str(self.dtype)

    def get_shape(self) -> Shape:
        return self.shape

    def get_output(self) -> Any:
        """The computed value of a persisted op (see `ravop.fetch_persisting_op`)."""
        return self.graph.run_state().fetch(self)

    def get_status(self) -> str:
        """`pending`, `computed` or `failed`, for a persisted op."""
        return self.graph.run_state().status(self)

    def wait_till_computed(self, timeout: float | None = None) -> None:
        """Return when the persisted op is computed. Raises what made the graph fail, `WaitTimeoutError`
        after `timeout` seconds.
        """
        self.graph.run_state().wait(self, timeout)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operator = CATALOGUE.get(name)
        if operator is None:
            hint = "" if name.startswith("_") else did_you_mean(name, [*CATALOGUE, *dir(Op)])
            hint = _TO_FETCH if name in _OF_VALUES else hint
            raise AttributeError(f"no operator is called {name!r}" + (f"; {hint}" if hint else ""))
        return operator.__get__(self)  # type: ignore[no-any-return]

    def __getitem__(self, index: Any) -> Op:
        return CATALOGUE["index"](self, index)  # type: ignore[no-any-return]

    def __setitem__(self, index: object, value: object) -> NoReturn:
        raise ArgumentError(
            "an op keeps its value",
            expected="a new op",
            received=f"an assignment to elements of {self!r}",
            source=describe(user_line()),
            hint="write x = x.set_value(numpy.s_[...], value)",
        )

    def __len__(self) -> int:
        if not self.shape or not isinstance(self.shape[0], int):
            raise TypeError(f"an op of shape {self.shape} has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Op]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        raise DTypeError(
            "an op has no truth value: nothing is computed while the script runs",
            op=self.name,
            source=describe(user_line()),
            hint="use ravop.where(condition, a, b) or ravop.cond instead of if, ravop.while_loop instead of while",
        )

    def _has_no_value(self, *_: object, **__: object) -> NoReturn:
        """What NumPy, `float()` and `int()` get: without it NumPy would make an array of objects."""
        raise DTypeError(
            "an op has no value: nothing is computed while the script runs",
            op=self.name,
            source=describe(user_line()),
            hint=f"use ravop's operators on it, or {_TO_FETCH}",
        )

    __array__ = __float__ = __int__ = _has_no_value

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Op:
        """What NumPy makes of `array + op`: the op's own operator. Anything else is for arrays only."""
        name = _OPERATORS.get(ufunc.__name__)
        if name is None or method != "__call__" or options:
            raise self._not_for_numpy(ufunc.__name__)
        return CATALOGUE[name](*inputs)  # type: ignore[no-any-return]

    def __array_function__(
        self, function: Callable[..., Any], types: object, args: object, kwargs: object
    ) -> Any:
        """What NumPy's functions do with an op among their arguments: tell its shape, nothing more."""
        if function in (np.shape, np.ndim):
            return self.shape if function is np.shape else self.ndim
        raise self._not_for_numpy(function.__name__)

    def _not_for_numpy(self, name: str) -> DTypeError:
        hint = f"use ravop.{name}" if name in CATALOGUE else did_you_mean(name, CATALOGUE, "ravop.")
        return DTypeError(
            f"numpy.{name} takes arrays, and an op has no value: nothing is computed while the script runs",
            op=self.name,
            source=describe(user_line()),
            hint=hint or "use ravop's operators, or fetch the op's value when it is computed",
        )

    def __invert__(self) -> Op:
        """The inverse of a matrix; of booleans, which one is false."""
        return CATALOGUE["logical_not" if self.dtype.kind == "b" else "inv"](self)  # type: ignore[no-any-return]

    def __round__(self, decimals: int | None = None) -> Op:
        return CATALOGUE["round"](self, decimals or 0)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<Op {self.name} {self.dtype}{list(self.shape)}>"

    __neg__, __pos__, __abs__ = _unary("neg"), _unary("pos"), _unary("abs")
    __add__, __radd__ = _binary("add"), _reflected("add")
    __sub__, __rsub__ = _binary("sub"), _reflected("sub")
    __mul__, __rmul__ = _binary("mul"), _reflected("mul")
    __truediv__, __rtruediv__ = _binary("div"), _reflected("div")
    __floordiv__, __rfloordiv__ = _binary("floor_div"), _reflected("floor_div")
    __mod__, __rmod__ = _binary("mod"), _reflected("mod")
    __pow__, __rpow__ = _binary("pow"), _reflected("pow")
    __matmul__, __rmatmul__ = _binary("matmul"), _reflected("matmul")
    __divmod__, __rdivmod__ = _binary("divmod"), _reflected("divmod")
    __and__, __rand__ = _binary("bitwise_and"), _reflected("bitwise_and")
    __or__, __ror__ = _binary("bitwise_or"), _reflected("bitwise_or")
    __xor__, __rxor__ = _binary("bitwise_xor"), _reflected("bitwise_xor")
    __lshift__, __rlshift__ = _binary("left_shift"), _reflected("left_shift")
    __rshift__, __rrshift__ = _binary("right_shift"), _reflected("right_shift")
    __lt__, __le__ = _binary("less"), _binary("less_equal")
    __gt__, __ge__ = _binary("greater"), _binary("greater_equal")
    __eq__ = _binary("equal")  # type: ignore[assignment]
    __ne__ = _binary("not_equal")  # type: ignore[assignment]


_OPERATORS = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "floor_divide": "floor_div",
    "remainder": "mod", "power": "pow", "matmul": "matmul", "divmod": "divmod", "bitwise_and": "bitwise_and",
    "bitwise_or": "bitwise_or", "bitwise_xor": "bitwise_xor", "left_shift": "left_shift", "right_shift": "right_shift",
    "less": "less", "less_equal": "less_equal",
    "greater": "greater", "greater_equal": "greater_equal", "equal": "equal", "not_equal": "not_equal",
}  # fmt: skip
"""NumPy's functions behind Python's binary operators → ours."""

Operand = Op | Array | float | int | bool | Sequence[Any]
"""What an operator takes: an op, or anything `ravop.t` takes."""
