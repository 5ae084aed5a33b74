"""Symbols: what layers are called on before there is a model (the functional form), as `Input` makes them.

A symbol only remembers where it comes from. `ravdl.neural_networks.network` reads a model off its symbols.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ravdl.neural_networks.layers.arguments import Shape
from ravop.errors import ArgumentError, RavenError
from ravop.graph.source import located

if TYPE_CHECKING:
    from ravdl.neural_networks.layers.layer import Layer
    from ravdl.neural_networks.nested import Nested

FLOAT = np.dtype(np.float32)
_SERIAL = itertools.count()


@dataclass(frozen=True, eq=False)
class Symbol:
    """One tensor of a model to be: an input, or an output of a layer's call."""

    shape: Shape
    """Of one sample, without the batch axis."""
    dtype: np.dtype[np.generic] = FLOAT
    name: str = ""
    """Of an input; empty where the model is to number it."""
    call: SymbolCall | None = field(default=None, repr=False)
    """What it comes from; None for an input."""
    index: int = 0
    """Which output of that call it is."""

    __array_ufunc__ = None
    """So that NumPy leaves `array + symbol` to the symbol."""

    def _no_arithmetic(self, *others: object) -> Any:
        error = ArgumentError(
            "a symbol is not computed with: it holds the place of a layer's input",
            expected="a call of a layer",
            received=f"{self!r} within an expression",
            hint="Lambda(lambda x: x + 1)(a) for ops of your own; Add()([a, b]), Subtract, Multiply, Concatenate join symbols",
        )
        raise located(error, "Input") from None

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __matmul__ = __rmatmul__ = _no_arithmetic
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __neg__ = __getitem__ = _no_arithmetic
    __lt__ = __le__ = __gt__ = __ge__ = _no_arithmetic


@dataclass(frozen=True, eq=False)
class SymbolCall:
    """A layer, or a whole model, at one place, and what it gets there."""

    layer: Layer | Nested
    inputs: tuple[Symbol, ...]
    serial: int = field(default_factory=lambda: next(_SERIAL))
    """Grows from call to call."""


def called(layer: Layer | Nested, inputs: object) -> Symbol | list[Symbol]:
    """The outputs of the layer for these symbols: one, or a list where the layer gives several.

    Raises `ArgumentError` for what is no symbol, and what the layer raises for shapes that it does not take.
    """
    given = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    kind = type(layer).__name__
    try:
        call = SymbolCall(layer, tuple(_checked(each, kind) for each in given))
        shapes = layer.take([symbol.shape for symbol in call.inputs])
    except RavenError as error:
        raise located(error, kind) from None
    outputs = [Symbol(shape, call=call, index=index) for index, shape in enumerate(shapes)]
    return outputs[0] if len(outputs) == 1 else outputs


def proper_name(name: object, what: str) -> str:
    """A name from which names of measures can be made. Raises `ArgumentError`."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.:\-/ ]+", name) or re.match(r"val(_|$)", name):
        raise ArgumentError(
            f"{what} needs another name",
            expected="letters, digits and _-.:/, and not val, which validation's measures begin with",
            received=repr(name),
        )
    return name


def _checked(value: object, kind: str) -> Symbol:
    if not isinstance(value, Symbol):
        raise ArgumentError(
            f"{kind} was called on something that is no symbol",
            expected="Input(shape), what another layer gave for one, or a list of these",
            received=repr(value),
            hint="layers are called to describe a model; model.predict(X) computes",
        )
    return value
