"""Inputs and the model's own idea of them: how many, of which dtypes and sizes, and what the named dimensions are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ravop.errors import ArgumentError, DTypeError, ShapeError
from ravop.graph.dtypes import is_float, is_integer
from ravop.graph.graph import Graph
from ravop.graph.op import Op
from ravop.importing.values import Value
from ravop.protocol.tensors import Array

if TYPE_CHECKING:
    from ravop.importing.model import Port


def ordered(ports: Sequence[Port], given: Sequence[Any], named: dict[str, Any]) -> list[Any]:
    """One value for each port, by position or name. Raises `ArgumentError` for too many, too few, or unknown names."""
    names = [port.name for port in ports]
    values = dict(zip(names, given, strict=False))
    unknown = [name for name in named if name not in names]
    twice = [name for name in named if name in values]
    values |= named
    missing = [port.name for port in ports if port.name not in values and port.kind != "optional"]
    if len(given) > len(names) or unknown or twice or missing:
        what = (
            f"{', '.join(map(repr, unknown))}, which it does not take" if unknown
            else f"{', '.join(map(repr, twice))} twice" if twice
            else f"no value for {', '.join(map(repr, missing))}" if missing
            else f"{len(given)} inputs"
        )  # fmt: skip
        raise ArgumentError("the inputs are not those of the model", expected="; ".join(map(told, ports)) or "no inputs",
                            received=what)  # fmt: skip
    return [values.get(name) for name in names]


def told(port: Port) -> str:
    """The port in words, such as `'x' float32[N, 3]`."""
    dims = (
        "any shape"
        if not port.ranked
        else str([dim if dim is not None else "?" for dim in port.shape]).replace("'", "")
    )
    kind = "" if port.kind == "tensor" else f"{port.kind} of "
    return f"{port.name!r} {kind}{port.dtype}{dims}"


def as_input(graph: Graph, port: Port, value: Any) -> Value:
    """`value` as an op of the port's dtype; sequences as lists, None for an optional.

    Floating arrays take the port's float dtype, Python's numbers its dtype; other arrays and ops must have it.
    """
    if port.kind != "tensor" and (value is None or isinstance(value, list | tuple)):
        return (
            None if value is None else [as_input(graph, port._replace(kind="tensor"), one) for one in value]
        )
    if isinstance(value, Op):
        return value
    if value is None:
        raise ArgumentError("an input of the model has no value", expected=told(port), received="None")
    try:
        array: Array = np.asarray(value)
    except ValueError as error:
        raise DTypeError("this is not a tensor", expected=told(port), received=str(error)) from error
    plain = not isinstance(value, np.ndarray | np.generic)
    same_kind = is_float(array.dtype) and is_float(port.dtype)
    if same_kind or (
        plain and not (is_float(array.dtype) and not is_float(port.dtype)) and array.dtype.kind in "biuf"
    ):
        array = array.astype(port.dtype)
    if array.dtype != port.dtype:
        raise _wrong_dtype(port, array.dtype)
    return graph.tensor(array, port.dtype)


def bound_sizes(ports: Sequence[Port], values: Sequence[Value]) -> dict[str, int]:
    """The sizes of the named dimensions. Raises where a value does not fit its port, or two sizes of one name differ."""
    if len(values) != len(ports):
        raise ArgumentError("the model takes another number of inputs", expected="; ".join(map(told, ports)) or "no inputs",
                            received=f"{len(values)} inputs")  # fmt: skip
    sizes: dict[str, tuple[int, str]] = {}
    for port, value in zip(ports, values, strict=True):
        if isinstance(value, Op | np.ndarray):
            _bind(port, value, sizes)
        elif port.kind == "tensor":
            raise DTypeError("an input of the model is no tensor", expected=told(port), received=repr(value))
        elif isinstance(value, list):
            for one in value:
                if isinstance(one, Op | np.ndarray) and one.dtype != port.dtype:
                    raise _wrong_dtype(port, one.dtype)
    return {name: size for name, (size, _) in sizes.items()}


def _bind(port: Port, value: Op | Array, sizes: dict[str, tuple[int, str]]) -> None:
    if value.dtype != port.dtype:
        raise _wrong_dtype(port, value.dtype)
    if not port.ranked or port.kind != "tensor":
        return
    if len(value.shape) != len(port.shape):
        raise ShapeError(
            f"the input {port.name!r} has another number of axes",
            expected=told(port),
            received=list(value.shape),
        )
    for axis, (dim, size) in enumerate(zip(port.shape, value.shape, strict=True)):
        if not isinstance(size, int) or dim is None:
            continue
        if isinstance(dim, str):
            before, where = sizes.setdefault(dim, (size, port.name))
            if before != size:
                raise ShapeError(
                    f"the dimension {dim!r} of the model has two sizes", expected=f"{before}, as in {where!r}",
                    received=f"{size} in axis {axis} of {port.name!r}", hint="give inputs that agree",
                )  # fmt: skip
        elif dim != size:
            raise ShapeError(
                f"the input {port.name!r} has another size than the model asks for", expected=told(port),
                received=f"{list(value.shape)}, {size} in axis {axis}",
                hint="give an input of this shape, or export the model with a dynamic axis",
            )  # fmt: skip


def _wrong_dtype(port: Port, received: Any) -> DTypeError:
    integers = is_integer(port.dtype) and is_integer(np.dtype(received))
    hint = "convert it with .astype(...)" if not integers else f"convert it with .astype({port.dtype.name!r})"
    return DTypeError(
        f"the input {port.name!r} has another dtype", expected=told(port), received=received, hint=hint
    )
