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


def _orthogonal(shape: tuple[int, ...], generator: Generator) -> Array:
    """Rows or columns at right angles, of length 1, of the weight as a matrix (Saxe et al. 2014)."""
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.sign(np.diagonal(r))
    matrix: Array = (q if rows >= columns else q.T).reshape(shape).astype(np.float32)
    return matrix


INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": _uniform(_glorot),
    "glorot_normal": _normal(_glorot),
    "he_uniform": _uniform(_he),
    "he_normal": _normal(_he),
    "orthogonal": _orthogonal,
    "random_normal": lambda shape, generator: generator.normal(0, 0.05, shape).astype(np.float32),
    "random_uniform": lambda shape, generator: generator.uniform(-0.05, 0.05, shape).astype(np.float32),
    "zeros": lambda shape, generator: np.zeros(shape, np.float32),
    "ones": lambda shape, generator: np.ones(shape, np.float32),
}


def initializer_named(name: str) -> str:
    """`name`, when there is such an initializer. Raises `ArgumentError`."""
    if not isinstance(name, str) or name not in INITIALIZERS:
        raise ArgumentError("unknown initializer", expected=", ".join(INITIALIZERS), received=repr(name))
    return name


def generator_for(seed: int, weight: str) -> Generator:
    """The generator of one weight: adding a layer to a model does not change how the others start."""
    return np.random.default_rng([seed, zlib.crc32(weight.encode())])
