"""How weights start: named initializers, drawing from a NumPy generator that the caller seeds.

Fans: for (in, out) they are in and out; for a convolution's (out, in, height, width) they are in and out
times the filter's area. Glorot & Bengio 2010; He et al. 2015.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from ravop.errors import ArgumentError
from ravop.protocol.tensors import Array

Initializer = Callable[[tuple[int, ...], Generator], Array]
"""(shape, generator) → float32 array of that shape."""


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan in, fan out) of a weight of this shape."""
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    if len(shape) == 2:
        return shape[0], shape[1]
    area = math.prod(shape[2:])
    return shape[1] * area, shape[0] * area


def _uniform(variance: Callable[[int, int], float]) -> Initializer:
    def initializer(shape: tuple[int, ...], generator: Generator) -> Array:
        limit = math.sqrt(3 * variance(*fans(shape)))
        return generator.uniform(-limit, limit, shape).astype(np.float32)

    return initializer


def _normal(variance: Callable[[int, int], float]) -> Initializer:
    def initializer(shape: tuple[int, ...], generator: Generator) -> Array:
        return generator.normal(0, math.sqrt(variance(*fans(shape))), shape).astype(np.float32)

    return initializer


def _glorot(fan_in: int, fan_out: int) -> float:
    return 2 / (fan_in + fan_out)


def _he(fan_in: int, fan_out: int) -> float:
    return 2 / fan_in


INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": _uniform(_glorot),
    "glorot_normal": _normal(_glorot),
    "he_uniform": _uniform(_he),
    "he_normal": _normal(_he),
    "zeros": lambda shape, generator: np.zeros(shape, np.float32),
    "ones": lambda shape, generator: np.ones(shape, np.float32),
}


def initializer_named(name: str) -> str:
    """`name`, when there is such an initializer. Raises `ArgumentError`."""
    if name not in INITIALIZERS:
        raise ArgumentError("unknown initializer", expected=", ".join(INITIALIZERS), received=repr(name))
    return name


def generator_for(seed: int, weight: str) -> Generator:
    """The generator of one weight: adding a layer to a model does not change how the others start."""
    return np.random.default_rng([seed, zlib.crc32(weight.encode())])
