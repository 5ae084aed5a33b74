"""`docs/layers.md`: every layer, by family: its constructor, what it computes, its arguments and weights; activations."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from docs.generate.describe import arguments, entry
from ravdl.neural_networks.activations import ACTIVATIONS
from ravdl.neural_networks.layers import LAYERS
from ravdl.neural_networks.layers.options import KernelOptions
from ravdl.neural_networks.layers.recurrent import RecurrentOptions

HEAD = """\
# Layers

Made by `python -m docs.generate` from the layers' own descriptions: do not edit.

`from ravdl.neural_networks.layers import Dense, …`. Shapes are those of one sample, without the batch axis: rows (features,),
series (steps, features), images (channels, height, width), volumes (channels, depth, height, width). All compute in float32.
The first layer of a model that is made by `add` takes `input_shape=`. A weight's name in the model is that of the layer and its
own, such as `Dense_1_W`. Every layer trains, exports to ONNX and is saved with its model.
"""


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for module in sorted({layer.__module__ for layer in LAYERS.values()}):
        doc = inspect.getdoc(sys.modules[module]) or ""
        parts.append(f"## {module.rpartition('.')[2].replace('_', ' ').capitalize()}\n\n{doc}\n")
        parts += [entry(layer) for layer in LAYERS.values() if layer.__module__ == module]
    parts.append("## Arguments in common\n")
    parts += [
        _options(name, kind) for name, kind in (("Kernels", KernelOptions), ("Recurrence", RecurrentOptions))
    ]
    parts.append("## Activations\n\nBy name, for `Activation(name)` and `activation=`.\n")
    parts.append("\n".join(_activation(name, function) for name, function in ACTIVATIONS.items()))
    return "\n".join(parts)


def _options(title: str, kind: Any) -> str:
    head, *rest = (inspect.getdoc(kind) or "").split("\n\n")
    return (
        f"### {title}\n\n`**options`: {head[0].lower()}{head[1:]}\n\n" + arguments("\n\n".join(rest)) + "\n"
    )


def _activation(name: str, function: Callable[..., Any]) -> str:
    doc = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
    _, *given = inspect.signature(function).parameters.values()
    defaults = ", ".join(f"{each.name} = {each.default}" for each in given)
    return f"- `{name}`: {doc}" + (f" Here {defaults}." if defaults else "")
