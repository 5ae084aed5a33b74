"""Dense: every output is a weighted sum of all inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ravdl.neural_networks.initializers import INITIALIZERS, initializer_named
from ravdl.neural_networks.layers.arguments import Shape, positive
from ravdl.neural_networks.layers.layer import Layer, WeightSpec
from ravop.errors import ShapeError
from ravop.graph import Op


class Dense(Layer):
    """y = x @ W + w0, over flat samples.

    Args:
        n_units: size of the output.
        input_shape: `(features,)`; needed on the first layer.
        initializer: of W, a name in `initializers.INITIALIZERS`; w0 starts at zero.
        use_bias: whether w0 is there.

    Weights: `W` of shape (features, n_units), `w0` of shape (n_units,).
    """

    def __init__(
        self,
        n_units: int,
        input_shape: object = None,
        initializer: str = "glorot_uniform",
        use_bias: bool = True,
    ) -> None:
        super().__init__(input_shape)
        self.n_units = positive(n_units, "n_units")
        self.initializer = initializer_named(initializer)
        self.use_bias = use_bias

    def shape_after(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ShapeError(
                "Dense takes flat samples",
                expected="input of shape (features,)",
                received=input_shape,
                hint="put Flatten() before it",
            )
        return (self.n_units,)

    def weights(self) -> tuple[WeightSpec, ...]:
        kernel = WeightSpec("W", (self.input_shape[0], self.n_units), INITIALIZERS[self.initializer])
        return (
            (kernel, WeightSpec("w0", (self.n_units,), INITIALIZERS["zeros"])) if self.use_bias else (kernel,)
        )

    def parameters(self) -> dict[str, Any]:
        return {"n_units": self.n_units, "initializer": self.initializer, "use_bias": self.use_bias}

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        product = x @ weights["W"]
        return product + weights["w0"] if self.use_bias else product
