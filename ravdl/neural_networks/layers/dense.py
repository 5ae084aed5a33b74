"""Dense: every output is a weighted sum of all inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from ravdl.neural_networks.layers.arguments import Shape, positive
from ravdl.neural_networks.layers.layer import WeightSpec
from ravdl.neural_networks.layers.options import Activated, KernelOptions, kernel_from
from ravop.errors import ShapeError
from ravop.graph import Op


class Dense(Activated):
    """y = activation(x @ W + w0), over flat samples, or over each step of a series (steps, features).

    Args:
        n_units: size of the output.
        input_shape: `(features,)` or `(steps, features)`; needed on the first layer.
        options: see `options.KernelOptions`.

    Weights: `W` of shape (features, n_units), `w0` of shape (n_units,).
    """

    def __init__(self, n_units: int, input_shape: object = None, **options: Unpack[KernelOptions]) -> None:
        self.kernel = kernel_from("Dense", **options)
        super().__init__(self.kernel.activation, input_shape)
        self.n_units = positive(n_units, "n_units")

    @property
    def use_bias(self) -> bool:
        return self.kernel.use_bias

    def shape_after(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (1, 2):
            raise ShapeError(
                "Dense takes flat samples, or series of them",
                expected="input of shape (features,) or (steps, features)",
                received=input_shape,
                hint="put Flatten() before it",
            )
        return (*input_shape[:-1], self.n_units)

    def weights(self) -> tuple[WeightSpec, ...]:
        kernel = self.kernel.kernel((self.input_shape[-1], self.n_units))
        return (kernel, *self.kernel.bias((self.n_units,)))

    def parameters(self) -> dict[str, Any]:
        return {"n_units": self.n_units, **self.kernel.parameters()}

    def call_raw(self, x: Op, weights: Mapping[str, Op]) -> Op:
        product = x @ weights["W"]
        return product + weights["w0"] if self.use_bias else product
