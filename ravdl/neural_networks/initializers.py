"""How weights start: initializers by name, or as objects with arguments, drawing from a NumPy generator that the caller
seeds.

Fans: for (in, out) they are in and out; for a convolution's (out, in, height, width) they are in and out
times the filter's area. Glorot & Bengio 2010; He et al. 2015; LeCun et al. 1998.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.random import Generator

from ravop.errors import ArgumentError, ShapeError
from ravop.protocol.tensors import Array

Initializer = Callable[[tuple[int, ...], Generator], Array]
"""(shape, generator) → float32 array of that shape."""

InitializerLike = str | Initializer
"""What layers take: a name in `INITIALIZERS`, an object of this module, or such a function."""


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan in, fan out) of a weight of this shape."""
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    if len(shape) == 2:
        return shape[0], shape[1]
    area = math.prod(shape[2:])
    return shape[1] * area, shape[0] * area


class InitializerObject:
    """Base of those here, which are frozen dataclasses: their fields are numbers or one of some words, and their `config()`."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value, least = getattr(self, field.name), _LEAST.get(field.name, -math.inf)
            if field.name in _WORDS:
                if value not in _WORDS[field.name]:
                    raise ArgumentError(
                        f"unknown {field.name}", expected=", ".join(_WORDS[field.name]), received=repr(value)
                    )
                continue
            number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < least:
                raise ArgumentError(
                    f"{field.name} is out of range",
                    expected="a finite number" + (" of 0 or more" if least == 0 else ""),
                    received=repr(value),
                )

    def __call__(self, shape: tuple[int, ...], generator: Generator) -> Array:
        """A new float32 array of this shape. Raises `ShapeError` for a shape that cannot start so."""
        return self.draw(shape, generator).astype(np.float32)

    def draw(self, shape: tuple[int, ...], generator: Generator) -> Array:
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Constant(InitializerObject):
    """The same number everywhere."""

    value: float = 0.0

    def draw(self, shape: tuple[int, ...], generator: Generator) -> Array:
        return np.full(shape, self.value)


@dataclass(frozen=True)
class IdentityMatrix(InitializerObject):
    """gain on the diagonal of a matrix, 0 elsewhere."""

    gain: float = 1.0

    def draw(self, shape: tuple[int, ...], generator: Generator) -> Array:
        if len(shape) != 2:
            raise ShapeError("an identity is a matrix", expected="a weight of two axes", received=shape)
        return np.eye(*shape) * self.gain


@dataclass(frozen=True)
class RandomNormal(InitializerObject):
    """Normally distributed."""

    mean: float = 0.0
    stddev: float = 0.05

    def draw(self, shape: tuple[int, ...], generator: Generator) -> Array:
        return generator.normal(self.mean, self.stddev, shape)


@dataclass(frozen=True)
class TruncatedNormal(InitializerObject):
    """Normally distributed; what is further than two standard deviations from the mean is drawn again."""

    mean: float = 0.0
    stddev: float = 0.05

    def draw(self, shape: tuple[int, ...], generator: Generator) -> Array:
        found = generator.standard_normal(shape)
        while (outside := np.abs(found) > 2).any():
            found[outside] = generator.standard_normal(int(outside.sum()))
        return found * self.stddev + self.mean


@dataclass(frozen=True)
class RandomUniform(InitializerObject):
    """Evenly distributed from low to below high."""

    low: float = -0.05
    high: float = 0.05

    def draw(self, shape: tuple[int, ...], generator: Generator) -> Array:
        return generator.uniform(self.low, self.high, shape)


@dataclass(frozen=True)
class Orthogonal(InitializerObject):
    """Rows or columns at right angles, of length `gain`, of the weight as a matrix (Saxe et al. 2014)."""

    gain: float = 1.0

    def draw(self, shape: tuple[int, ...], generator: Generator) -> Array:
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = np.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diagonal(r))
        matrix: Array = (q if rows >= columns else q.T).reshape(shape) * self.gain
        return matrix


@dataclass(frozen=True)
class VarianceScaling(InitializerObject):
    """Of mean 0 and variance scale / n, where n is the fan in, the fan out or their mean.

    Args:
        mode: `"fan_in"`, `"fan_out"`, `"fan_avg"`.
        distribution: `"truncated_normal"`, `"untruncated_normal"`, `"uniform"`.
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def draw(self, shape: tuple[int, ...], generator: Generator) -> Array:
        into, out = fans(shape)
        count = {"fan_in": into, "fan_out": out, "fan_avg": (into + out) / 2}[self.mode]
        variance = self.scale / max(1.0, count)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return generator.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return generator.normal(0, math.sqrt(variance), shape)
        return TruncatedNormal(0.0, math.sqrt(variance) / _CUT).draw(shape, generator)


_CUT = 0.87962566103423978
"""Standard deviation of a normal distribution that is cut off at 2."""
_LEAST = {"stddev": 0.0, "scale": 0.0}
_WORDS = {
    "mode": ("fan_in", "fan_out", "fan_avg"),
    "distribution": ("truncated_normal", "untruncated_normal", "uniform"),
}

INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": VarianceScaling(1.0, "fan_avg", "uniform"),
    "glorot_normal": VarianceScaling(1.0, "fan_avg", "truncated_normal"),
    "he_uniform": VarianceScaling(2.0, "fan_in", "uniform"),
    "he_normal": VarianceScaling(2.0, "fan_in", "truncated_normal"),
    "lecun_uniform": VarianceScaling(1.0, "fan_in", "uniform"),
    "lecun_normal": VarianceScaling(1.0, "fan_in", "truncated_normal"),
    "variance_scaling": VarianceScaling(),
    "orthogonal": Orthogonal(),
    "identity": IdentityMatrix(),
    "random_normal": RandomNormal(),
    "random_uniform": RandomUniform(),
    "truncated_normal": TruncatedNormal(),
    "constant": Constant(),
    "zeros": Constant(0.0),
    "ones": Constant(1.0),
}

INITIALIZER_CLASSES: dict[str, type[InitializerObject]] = {
    kind.__name__: kind
    for kind in (
        Constant,
        IdentityMatrix,
        Orthogonal,
        RandomNormal,
        RandomUniform,
        TruncatedNormal,
        VarianceScaling,
    )
}
"""By class name, as saved models name them."""


def initializer_named(given: InitializerLike) -> Any:
    """`given`, when it is the name of an initializer, or one itself. Raises `ArgumentError`."""
    if callable(given) or (isinstance(given, str) and given in INITIALIZERS):
        return given
    raise ArgumentError(
        "unknown initializer",
        expected=f"{', '.join(INITIALIZERS)}, or a function of shape and generator",
        received=repr(given),
    )


def initializer_for(given: InitializerLike) -> Initializer:
    """The initializer of this name, or itself; what a function gives that is none of these is checked."""
    if isinstance(given, str):
        return INITIALIZERS[given]
    return given if isinstance(given, InitializerObject) else _Checked(given)


@dataclass(frozen=True)
class _Checked:
    """A function of somebody's own."""

    function: Initializer

    def __call__(self, shape: tuple[int, ...], generator: Generator) -> Array:
        found = np.asarray(self.function(shape, generator))
        if found.shape != tuple(shape) or found.dtype.kind not in "biuf":
            raise ShapeError(
                "an initializer gave what is no such weight",
                expected=f"numbers of shape {tuple(shape)}",
                received=f"{found.dtype} of shape {found.shape}",
            )
        return found.astype(np.float32)


def generator_for(seed: int, weight: str) -> Generator:
    """The generator of one weight: adding a layer to a model does not change how the others start."""
    return np.random.default_rng([seed, zlib.crc32(weight.encode())])
