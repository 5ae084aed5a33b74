"""What layers with a kernel `W` and a bias `w0` have in common: their arguments, and the weights that follow from them.

Only for the modules of this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypedDict, Unpack

from ravdl.neural_networks.activations import ACTIVATIONS, activation_named
from ravdl.neural_networks.initializers import InitializerLike, initializer_for, initializer_named
from ravdl.neural_networks.layers.arguments import Shape, flag
from ravdl.neural_networks.layers.layer import Layer, WeightSpec
from ravop.errors import ArgumentError
from ravop.graph import Op

Regularizer = Callable[[Op], Op]
"""From a weight to what is added to the loss, a float32 scalar."""


class KernelOptions(TypedDict, total=False):
    """Arguments that all layers with a kernel and a bias take.

    activation: a name in `activations.ACTIVATIONS`, applied to the output; `"linear"` by default.
    initializer: of the kernel, a name in `initializers.INITIALIZERS` or an object of that module; `"glorot_uniform"` by default.
    use_bias: whether there is a bias.
    bias_initializer: of the bias; `"zeros"` by default.
    regularizer, bias_regularizer: from the weight to what is added to the loss for it, such as `regularizers.L2(0.01)`; None by
        default.
    """

    activation: str
    initializer: InitializerLike
    use_bias: bool
    bias_initializer: InitializerLike
    regularizer: Regularizer | None
    bias_regularizer: Regularizer | None


@dataclass(frozen=True)
class Kernel:
    """The checked `KernelOptions` of one layer."""

    activation: str = "linear"
    initializer: InitializerLike = "glorot_uniform"
    use_bias: bool = True
    bias_initializer: InitializerLike = "zeros"
    regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None

    def kernel(self, shape: Shape, name: str = "W") -> WeightSpec:
        return spec(name, shape, self.initializer, self.regularizer)

    def bias(self, shape: Shape, name: str = "w0") -> tuple[WeightSpec, ...]:
        """The bias, if there is one."""
        return (spec(name, shape, self.bias_initializer, self.bias_regularizer),) if self.use_bias else ()

    def parameters(self) -> dict[str, Any]:
        """As the layer's constructor takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def kernel_from(layer: str, **options: Unpack[KernelOptions]) -> Kernel:
    """The options of a layer of this class, checked. Raises `ArgumentError`."""
    known = {field.name for field in fields(Kernel)}
    for name in options:
        if name not in known:
            raise ArgumentError(
                f"{layer} has no argument {name!r}",
                expected=f"its own, and {', '.join(sorted(known))}",
                received=f"{name}={options[name]!r}",  # type: ignore[literal-required]
            )
    kernel = Kernel(**options)
    activation_named(kernel.activation)
    initializer_named(kernel.initializer)
    initializer_named(kernel.bias_initializer)
    flag(kernel.use_bias, "use_bias")
    checked_regularizer(kernel.regularizer)
    checked_regularizer(kernel.bias_regularizer)
    return kernel


def checked_regularizer(value: object) -> Any:
    """`value`, when it is None or can be called. Raises `ArgumentError`."""
    if value is not None and not callable(value):
        raise ArgumentError(
            "this is no regularizer",
            expected="a function from an op to a scalar op, or None",
            received=repr(value),
        )
    return value


def spec(
    name: str, shape: Shape, initializer: InitializerLike, regularizer: Regularizer | None = None
) -> WeightSpec:
    """A trained weight that starts by the initializer of this name."""
    return WeightSpec(name, shape, initializer_for(initializer), regularizer=regularizer)


def fixed(name: str, shape: Shape, initializer: InitializerLike) -> WeightSpec:
    """A weight that the optimizer does not move."""
    return WeightSpec(name, shape, initializer_for(initializer), trainable=False)


class Activated(Layer):
    """Base of layers that end in an activation function: they override `call_raw` alone."""

    takes_activation = True

    def __init__(self, activation: str, input_shape: object) -> None:
        super().__init__(input_shape)
        self.last_activation = activation

    def call(self, x: Op, weights: Mapping[str, Op]) -> Op:
        return ACTIVATIONS[self.last_activation](self.call_raw(x, weights))
