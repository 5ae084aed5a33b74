"""`docs/layers.md`: every layer, by family: its constructor, what it computes, its arguments and weights; activations."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

from ravdl.neural_networks.activations import ACTIVATIONS
from ravdl.neural_networks.layers import LAYERS, Layer
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
        parts += [_entry(layer) for layer in LAYERS.values() if layer.__module__ == module]
    parts.append("## Arguments in common\n")
    parts += [
        _options(name, kind) for name, kind in (("Kernels", KernelOptions), ("Recurrence", RecurrentOptions))
    ]
    parts.append("## Activations\n\nBy name, for `Activation(name)` and `activation=`.\n")
    parts.append("\n".join(_activation(name, function) for name, function in ACTIVATIONS.items()))
    return "\n".join(parts)


def _entry(layer: type[Layer]) -> str:
    found = f"`{layer.__name__}{_signature(layer)}`"
    return f"### {layer.__name__}\n\n{found}\n\n{_text(inspect.getdoc(layer) or '')}\n"


def _signature(layer: type[Layer]) -> str:
    given = list(inspect.signature(layer).parameters.values())
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in given]
    return str(inspect.Signature(bare))


def _options(title: str, kind: Any) -> str:
    head, *rest = (inspect.getdoc(kind) or "").split("\n\n")
    return (
        f"### {title}\n\n`**options`: {head[0].lower()}{head[1:]}\n\n" + _arguments("\n\n".join(rest)) + "\n"
    )


def _text(doc: str) -> str:
    """The docstring, with its arguments as a list."""
    paragraphs = []
    for paragraph in doc.split("\n\n"):
        head, _, rest = paragraph.partition("\n")
        paragraphs.append(_arguments(inspect.cleandoc(rest)) if head == "Args:" else paragraph)
    return "\n\n".join(paragraphs)


def _arguments(text: str) -> str:
    """`name: what it is`, one after another, as a list."""
    lines: list[str] = []
    for line in text.splitlines():
        found = re.match(r"([a-zA-Z_0-9, ]+): (.*)", line)
        if found and not line.startswith(" "):
            names = ", ".join(f"`{name.strip()}`" for name in found[1].split(","))
            lines.append(f"- {names}: {found[2]}")
        else:
            lines.append("  " + line.strip())
    return "\n".join(lines)


def _activation(name: str, function: Callable[..., Any]) -> str:
    doc = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
    _, *given = inspect.signature(function).parameters.values()
    defaults = ", ".join(f"{each.name} = {each.default}" for each in given)
    return f"- `{name}`: {doc}" + (f" Here {defaults}." if defaults else "")
