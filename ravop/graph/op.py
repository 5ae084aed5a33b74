"""`Op`: one symbolic tensor of a graph.

An op knows its `shape` and `dtype` at once and computes nothing. What can be done with it is the operator catalogue
(`ravop.ops`): each operator registered there is a method of every op, and Python's own operators map to it by the
table at the end of this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import onnx_ir as ir

from ravop.errors import DTypeError, ShapeError
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

    # NumPy leaves `array + op` to the op's reflected operator.
    __array_ufunc__ = None
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
            raise AttributeError(f"no operator is called {name!r}")
        return operator.__get__(self)  # type: ignore[no-any-return]

    def __getitem__(self, index: Any) -> Op:
        return CATALOGUE["index"](self, index)  # type: ignore[no-any-return]

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
            hint="use ravop.where(condition, a, b) instead of if",
        )

    def _has_no_value(self, *_: object, **__: object) -> NoReturn:
        """What NumPy, `float()` and `int()` get: without it NumPy would make an array of objects."""
        raise DTypeError(
            "an op has no value: nothing is computed while the script runs",
            op=self.name,
            source=describe(user_line()),
            hint="use ravop's operators on it, or fetch its value when it is computed",
        )

    __array__ = __float__ = __int__ = _has_no_value

    def __invert__(self) -> Op:
        """The inverse of a matrix; of booleans, which one is false."""
        return CATALOGUE["logical_not" if self.dtype.kind == "b" else "inv"](self)  # type: ignore[no-any-return]

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
    __and__, __rand__ = _binary("logical_and"), _reflected("logical_and")
    __or__, __ror__ = _binary("logical_or"), _reflected("logical_or")
    __xor__, __rxor__ = _binary("logical_xor"), _reflected("logical_xor")
    __lt__, __le__ = _binary("less"), _binary("less_equal")
    __gt__, __ge__ = _binary("greater"), _binary("greater_equal")
    __eq__ = _binary("equal")  # type: ignore[assignment]
    __ne__ = _binary("not_equal")  # type: ignore[assignment]


Operand = Op | Array | float | int | bool | Sequence[Any]
"""What an operator takes: an op, or anything `ravop.t` takes."""
