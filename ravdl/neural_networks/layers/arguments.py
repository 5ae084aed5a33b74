"""Checks of the arguments that layers take; each returns the argument in its one internal form.

Only for the modules of this folder.
"""

from __future__ import annotations

import operator
import os
import reprlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ravop.errors import ArgumentError

NUMBER = int | float | np.integer | np.floating
LARGEST = sys.float_info.max
MOST = 2**62
"""Above all counts, and far enough below the end of int64 to calculate with."""

Shape = tuple[int, ...]
"""Sizes without the batch axis."""


def _short(value: object) -> str:
    return reprlib.repr(value)


def positive(value: object, what: str) -> int:
    """An integer of at least 1. Raises `ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value < MOST:
        raise ArgumentError(
            f"{what} must be a positive integer", expected="1, 2, 3, …", received=_short(value)
        )
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
    if isinstance(value, bool) or not isinstance(value, NUMBER) or not 0 < value <= LARGEST:
        raise ArgumentError(
            f"{what} is out of range", expected="a finite number above 0", received=_short(value)
        )
    return float(value)


def number(value: object, what: str) -> float:
    """A finite number. Raises `ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, NUMBER) or not -LARGEST <= value <= LARGEST:
        raise ArgumentError(f"{what} must be a number", expected="a finite number", received=_short(value))
    return float(value)


def not_negative(value: object, what: str) -> float:
    """A finite number of at least 0. Raises `ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, NUMBER) or not 0 <= value <= LARGEST:
        raise ArgumentError(
            f"{what} is out of range", expected="a finite number of 0 or more", received=_short(value)
        )
    return float(value)


def flag(value: object, what: str) -> bool:
    """True or false. Raises `ArgumentError`."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{what} must be true or false", expected="True or False", received=repr(value))
    return bool(value)


def file_path(value: object) -> Path:
    """A path of a file, which need not be there. Raises `ArgumentError`."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ArgumentError(
            "this is no path of a file", expected="a path, such as 'model.onnx'", received=_short(value)
        )
    return Path(text)


def choice(value: object, what: str, choices: Iterable[str]) -> str:
    """One of these names. Raises `ArgumentError`."""
    names = list(choices)
    if not isinstance(value, str) or value not in names:
        raise ArgumentError(f"unknown {what}", expected=", ".join(names), received=repr(value))
    return value


def whole(value: object, what: str) -> int:
    """An integer, also a negative one, such as an axis. Raises `ArgumentError`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ArgumentError(f"{what} must be an integer", expected="an integer", received=repr(value))
    return int(value)


def _at_least(value: object, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(
            f"{what} is out of range", expected=f"integers from {least} on", received=repr(value)
        )
    return int(value)


AXES = {1: "(steps,)", 2: "(height, width)", 3: "(depth, height, width)"}
"""The spatial axes of series, images and volumes."""


def each(value: object, what: str, rank: int, least: int = 1) -> Shape:
    """One integer for all of `rank` spatial axes, or one for each. Raises `ArgumentError`."""
    values = (value,) * rank if isinstance(value, int | np.integer) else value
    if isinstance(values, Sequence) and not isinstance(values, str) and len(values) == rank:
        return tuple(_at_least(v, what, least) for v in values)
    raise ArgumentError(
        f"{what} has the wrong form", expected=f"an integer, or {AXES[rank]}", received=repr(value)
    )


def sides(value: object, what: str, rank: int) -> tuple[tuple[int, int], ...]:
    """(before, after) for each spatial axis, none negative: from one size for all sides, for a series (before, after),
    else one size for each axis or a pair for each. Raises `ArgumentError`.
    """
    forms = SIDES[rank]
    try:
        given = np.array(value, dtype=object)
        if rank > 1 and given.ndim == 1:
            given = given.reshape(-1, 1)
        pairs = tuple(
            (operator.index(before), operator.index(after))
            for before, after in np.broadcast_to(given, (rank, 2))
        )
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"the {what} has the wrong form", expected=forms, received=repr(value)) from error
    if min(min(pair) for pair in pairs) < 0:
        raise ArgumentError(f"{what} cannot be negative", expected=forms, received=repr(value))
    return pairs


SIDES = {
    1: "an integer, or (before, after)",
    2: "an integer, (height, width), or ((top, bottom), (left, right))",
    3: "an integer, (depth, height, width), or ((front, back), (top, bottom), (left, right))",
}
"""The forms that `sides` takes."""


def sizes(value: object, what: str) -> Shape:
    """A shape without the batch axis. Raises `ArgumentError`."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ArgumentError(
            f"{what} must be a tuple of sizes, without the batch axis",
            expected="(features,) or (channels, height, width)",
            received=repr(value),
        )
    return tuple(positive(size, what) for size in value)
