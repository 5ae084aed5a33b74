"""Numbers that have a name, each as an op of its own."""

from __future__ import annotations

import math

from numpy.typing import DTypeLike

from ravop.graph.op import Op
from ravop.ops.catalogue import creator
from ravop.ops.create import t

__all__ = ["e", "epsilon", "inf", "minus_one", "nan", "one", "pi"]


@creator
def epsilon(dtype: DTypeLike | None = None) -> Op:
    """1e-12, Raven's smallest number to divide by.

    Example:
        >>> R.epsilon("float64") * 1e12
        1.0
    """
    return t(1e-12, dtype)


@creator
def one() -> Op:
    """1, int64.

    Example:
        >>> R.one()
        1
    """
    return t(1)


@creator
def minus_one() -> Op:
    """−1, int64.

    Example:
        >>> R.minus_one()
        -1
    """
    return t(-1)


@creator
def inf() -> Op:
    """Infinity, float32.

    Example:
        >>> R.inf()
        inf
    """
    return t(math.inf)


@creator
def pi() -> Op:
    """π, float32.

    Example:
        >>> R.pi()
        3.1416
    """
    return t(math.pi)


@creator
def e() -> Op:
    """Euler's number, the base of `exp` and `natlog`, float32.

    Example:
        >>> R.e()
        2.7183
    """
    return t(math.e)


@creator
def nan() -> Op:
    """Not a number, float32.

    Example:
        >>> R.nan()
        nan
    """
    return t(math.nan)
