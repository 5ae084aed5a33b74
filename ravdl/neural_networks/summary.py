"""The table that `NeuralNetwork.summary()` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ravdl.neural_networks.layers import Layer
from ravdl.neural_networks.layers.arguments import Shape
from ravdl.neural_networks.network import Call, Network

PLAIN_WIDTH = 100
"""Columns where the output is no terminal."""


def show(network: Network, title: str) -> None:
    """Print each layer's name, output shape and number of parameters, and their sums; and where the layers are not in one
    row, a line for each call, with what it gets.
    """
    layers = network.layers
    row = is_row(network)
    table = Table(title=title, title_justify="left")
    table.add_column("layer")
    table.add_column("output shape")
    table.add_column("parameters", justify="right")
    if not row:
        table.add_column("connected to")
        for port in network.inputs:
            table.add_row(f"{port.name} ({port.dtype.name})", _shape([port.shape]), "0", "")
    makers = _makers(network)
    for call in network.calls:
        layer = call.layer
        frozen = "" if layer.trainable or not layer.weights() else " (frozen)"
        count = 0 if call.number else parameters([layer])
        cells = [_title(call) + frozen, _shape(layer.output_shapes), f"{count:,}"]
        table.add_row(*cells, *([] if row else [", ".join(makers[value] for value in call.inputs)]))
    total, trained = parameters(layers), parameters(layers, trained=True)
    table.caption = f"{total:,} parameters: {trained:,} trained, {total - trained:,} not"
    if not row:
        table.caption += f"; outputs: {', '.join(makers[value] for value in network.outputs)}"
    console = Console(highlight=False, markup=False)
    (console if console.is_terminal else Console(highlight=False, markup=False, width=PLAIN_WIDTH)).print(
        table
    )


def is_row(network: Network) -> bool:
    """Whether each layer gets what the one before it gives, and nothing else."""
    expected = 0
    for call in network.calls:
        if call.inputs != (expected,) or len(call.outputs) != 1 or call.number:
            return False
        expected = call.outputs[0]
    return len(network.inputs) == 1 and network.outputs == (expected,)


def _title(call: Call) -> str:
    """The layer's name; `Dense_1#2` for the second call of a shared layer."""
    return f"{call.layer.name}#{call.number + 1}" if call.number else call.layer.name


def _makers(network: Network) -> dict[int, str]:
    """Of each value, the name of what it comes from."""
    found = {number: port.name for number, port in enumerate(network.inputs)}
    for call in network.calls:
        for place, value in enumerate(call.outputs):
            found[value] = _title(call) + (f"[{place}]" if len(call.outputs) > 1 else "")
    return found


def _shape(shapes: Sequence[Shape]) -> str:
    return ", ".join(f"({', '.join(['batch', *map(str, shape)])})" for shape in shapes)


def parameters(layers: Sequence[Layer], trained: bool = False) -> int:
    """Numbers in the layers' weights; with `trained`, only those that the optimizer moves."""
    return sum(
        math.prod(spec.shape)
        for layer in layers
        for spec in layer.weights()
        if not trained or (layer.trainable and spec.trainable and spec.name not in layer.frozen)
    )
