"""The table that `NeuralNetwork.summary()` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ravdl.neural_networks.layers import Layer

PLAIN_WIDTH = 100
"""Columns where the output is no terminal."""


def show(layers: Sequence[Layer], title: str) -> None:
    """Print each layer's name, output shape and number of parameters, and their sums."""
    table = Table(title=title, title_justify="left")
    table.add_column("layer")
    table.add_column("output shape")
    table.add_column("parameters", justify="right")
    for layer in layers:
        shape = ", ".join(["batch", *map(str, layer.output_shape)])
        frozen = "" if layer.trainable or not layer.weights() else " (frozen)"
        table.add_row(layer.name + frozen, f"({shape})", f"{parameters([layer]):,}")
    total, trained = parameters(layers), parameters(layers, trained=True)
    table.caption = f"{total:,} parameters: {trained:,} trained, {total - trained:,} not"
    console = Console(highlight=False, markup=False)
    (console if console.is_terminal else Console(highlight=False, markup=False, width=PLAIN_WIDTH)).print(
        table
    )


def parameters(layers: Sequence[Layer], trained: bool = False) -> int:
    """Numbers in the layers' weights; with `trained`, only those that the optimizer moves."""
    return sum(
        math.prod(spec.shape)
        for layer in layers
        for spec in layer.weights()
        if not trained or (layer.trainable and spec.trainable)
    )
