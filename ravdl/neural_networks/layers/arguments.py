"""Checks of the arguments that layers take; each returns the argument in its one internal form.

Only for the modules of this folder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ravop.errors import ArgumentError

NUMBER = int | float | np.integer | np.floating

Shape = tuple[int, ...]
"""Sizes without the batch axis."""


def positive(value: object, what: str) -> int:
    """An integer of at least 1. Raises `ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f"{what} must be a positive integer", expected="1, 2, 3, …", received=repr(value))
    return int(value)


def fraction(value: object, what: str) -> float:
    """A number from 0 to below 1. Raises `ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, NUMBER) or not 0 <= value < 1:
        raise ArgumentError(
            f"{what} is out of range", expected="a number from 0 to below 1", received=repr(value)
        )
    return float(value)


def above_zero(value: object, what: str) -> float:
    """A finite number above 0. Raises `ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, NUMBER) or not 0 < value < math.inf:
        raise ArgumentError(
            f"{what} is out of range", expected="a finite number above 0", received=repr(value)
        )
    return float(value)


def pair(value: object, what: str) -> tuple[int, int]:
    """One size for height and width, or both. Raises `ArgumentError`."""
    if isinstance(value, int | np.integer):
        size = positive(value, what)
        return size, size
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        return positive(value[0], what), positive(value[1], what)
    raise ArgumentError(
        f"{what} has the wrong form", expected="an integer, or (height, width)", received=repr(value)
    )


def sizes(value: object, what: str) -> Shape:
    """A shape without the batch axis. Raises `ArgumentError`."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ArgumentError(
            f"{what} must be a tuple of sizes, without the batch axis",
            expected="(features,) or (channels, height, width)",
            received=repr(value),
        )
    return tuple(positive(size, what) for size in value)
