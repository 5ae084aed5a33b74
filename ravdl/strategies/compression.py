"""How differences of weights travel between workers: as they are, rounded to half precision, or to 8 bits by blocks.

What rounding loses is not lost for good: the sender adds it to what it sends next (error feedback; Seide et al. 2014,
Karimireddy et al. 2019). Only makes ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import ravop as R
from ravop.graph import Op

BLOCK = 1024
"""Elements that share a scale."""

Sent = tuple[Op, ...]
"""What travels."""


class Transfer(NamedTuple):
    """A way to send a tensor of floats."""

    pack: Callable[[Op], Sent]
    unpack: Callable[[Sent, tuple[int, ...]], Op]
    """From what was sent, and the tensor's shape, to float32."""
    exact: bool = False
    """Nothing is rounded."""
    bits: float = 32.0
    """That an element takes."""


def _whole(x: Op) -> Sent:
    return (x,)


def _unwhole(sent: Sent, shape: tuple[int, ...]) -> Op:
    return sent[0]


_HALF_MAX = float(np.finfo(np.float16).max)


def _half(x: Op) -> Sent:
    return (R.astype(R.clip(x, -_HALF_MAX, _HALF_MAX), np.float16),)


def _unhalf(sent: Sent, shape: tuple[int, ...]) -> Op:
    return R.astype(sent[0], np.float32)


def _bytes(x: Op) -> Sent:
    """Each block of `BLOCK` elements as whole numbers from -127 to 127, and a scale: the largest magnitude / 127.

    A block with a NaN or an infinity gets the scale NaN, so that a diverged training shows.
    """
    count = math.prod(x.static_shape)
    flat = R.reshape(x, (-1,))
    lacking = -count % BLOCK
    if lacking:
        flat = R.concat([flat, R.zeros((lacking,))], axis=0)
    blocks = R.reshape(flat, (-1, BLOCK))
    largest = R.max(R.abs(blocks), axis=1, keepdims=True)
    scale = largest * (1 / 127) + R.sum(blocks, axis=1, keepdims=True) * 0.0
    numbers = blocks / R.where(R.equal(largest, 0.0), 1.0, scale)
    return R.astype(R.round(numbers), np.int8), scale


def _unbytes(sent: Sent, shape: tuple[int, ...]) -> Op:
    numbers, scale = sent
    flat = R.reshape(R.astype(numbers, np.float32) * scale, (-1,))
    count = math.prod(shape)
    return R.reshape(flat if flat.static_shape[0] == count else flat[:count], shape)


TRANSFERS: dict[str, Transfer] = {
    "float32": Transfer(_whole, _unwhole, exact=True),
    "float16": Transfer(_half, _unhalf, bits=16.0),
    "int8": Transfer(_bytes, _unbytes, bits=8.0 + 32.0 / BLOCK),
}


def send(transfer: Transfer, x: Op, error: Op | None) -> tuple[Op, Op | None]:
    """What arrives of `x`, and what is to be added to the next. `error`: what the last one lost; None where nothing is."""
    if error is not None:
        x = x + error
    arrived = transfer.unpack(transfer.pack(x), x.static_shape)
    return arrived, None if error is None else x - arrived
