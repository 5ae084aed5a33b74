"""`Input`: where a model begins in the functional form.

x = Input((8,))
y = Dense(4)(x)
model = NeuralNetwork(Adam(), SquareLoss, inputs=x, outputs=y)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ravdl.neural_networks.layers.arguments import sizes
from ravdl.neural_networks.network import INTEGER
from ravdl.neural_networks.symbols import FLOAT, Symbol, proper_name
from ravop.errors import ArgumentError

_DTYPES: dict[str, np.dtype[Any]] = {"float32": FLOAT, "int64": INTEGER, "bool": np.dtype(np.bool_)}


def Input(shape: object, dtype: object = None, name: str | None = None) -> Symbol:  # noqa: N802 - the field's name
    """A symbol for the model's input: `shape` of one sample, without the batch axis.

    Args:
        shape: such as `(features,)`, or one size; `()` for one number a sample.
        dtype: `"float32"` (the default), `"int64"` (any integer data is converted to it) or `"bool"`.
        name: by which data is given in a dict, and which an exported model has.
    Raises:
        ArgumentError: another shape or dtype.
    """
    try:
        kind = "float32" if dtype is None else np.dtype(dtype).name  # type: ignore[call-overload]
    except TypeError:
        kind = repr(dtype)
    kind = "int64" if kind in ("int8", "int16", "int32", "uint8", "uint16", "uint32") else kind
    if kind not in _DTYPES:
        raise ArgumentError(
            "an input of this dtype is not possible", expected=", ".join(_DTYPES), received=kind
        )
    checked = () if shape == () else sizes((shape,) if isinstance(shape, int) else shape, "shape")
    return Symbol(checked, _DTYPES[kind], "" if name is None else proper_name(name, "an input"))
