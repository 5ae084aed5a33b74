"""What learners are given: samples (n, d), targets (n,), and labels of classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ravop.errors import ArgumentError, DTypeError, ShapeError
from ravop.graph.dtypes import BOOL, INT, is_integer
from ravop.graph.op import Op, Operand
from ravop.ops.arguments import whole
from ravop.ops.catalogue import cast, common, floats, node
from ravop.ops.shaping import expand_dims


def samples(x: Operand, like: Op | None = None) -> Op:
    """`x` as floats (n, d), in the graph of `like`, of its width. Raises `ShapeError` for another rank, or no samples."""
    op = floats(x if like is None else like.graph.tensor(x))
    width = "d" if like is None else like.static_shape[-1]
    if op.ndim != 2 or 0 in op.static_shape or width not in ("d", op.static_shape[1]):
        raise ShapeError(
            "learners take one row of features for each sample",
            expected=f"(n, {width})",
            received=list(op.shape),
            hint="reshape a single feature with .reshape(-1, 1)",
        )
    return op


def queries(x: Operand, learned: Op) -> tuple[Op, Op]:
    """Samples to predict for, and what was learned, (…, d), in one dtype."""
    left, right = common(samples(x, learned), learned)
    return left, right


def targets(x: Op, y: Operand) -> tuple[Op, Op]:
    """x and y as floats of one dtype; y is (n,). Raises `ShapeError` where they do not fit."""
    left, right = common(x, floats(x.graph.tensor(y)))
    if right.shape != left.shape[:1]:
        raise ShapeError(
            "there must be one target for each sample",
            expected=list(left.shape[:1]),
            received=list(right.shape),
        )
    return left, right


def members(codes: Op, classes: int, like: Op) -> Op:
    """(n, classes): 1 of the dtype of `like` at each sample's number, else 0."""
    return cast(node("Equal", [expand_dims(codes, 1), codes.graph.tensor(np.arange(classes))]), like.dtype)


class Labels(NamedTuple):
    """Classes as numbers from 0, how many there are, and the labels they stand for (None: the numbers themselves)."""

    codes: Op
    classes: int
    names: Op | None

    def named(self, codes: Op) -> Op:
        """The labels for class numbers."""
        return codes if self.names is None else node("Gather", [self.names, codes], axis=0)

    def chosen(self, like: Op) -> Op:
        """(n, classes): 1 of the dtype of `like` at each sample's class, else 0."""
        return members(self.codes, self.classes, like)


def labels(x: Op, y: Any, n_classes: int | None) -> Labels:
    """The labels y, (n,), of the samples x: any integers where they are known, 0 … n_classes − 1 where an op gives them.

    Raises `ArgumentError` for an op without `n_classes`, or fewer than two classes; `DTypeError`, `ShapeError` for y.
    """
    op = x.graph.tensor(y)
    if not (is_integer(op.dtype) or op.dtype == BOOL):
        raise DTypeError(
            "labels are whole numbers", expected="integers", received=op.dtype, hint="use .astype('int64')"
        )
    if op.shape != x.shape[:1]:
        raise ShapeError(
            "there must be one label for each sample", expected=list(x.shape[:1]), received=list(op.shape)
        )
    known = np.asarray(y) if not isinstance(y, Op) else y.constant
    if n_classes is not None:
        count = whole(n_classes, "n_classes")
        names = None
    elif known is None:
        raise ArgumentError(
            "how many classes there are must be known while the graph is defined", expected="n_classes=",
            received=f"{op!r}, computed later",
        )  # fmt: skip
    else:
        found, codes = np.unique(known, return_inverse=True)
        count = len(found)
        names = op.graph.tensor(found.astype(np.int64))
        op = op.graph.tensor(codes.reshape(-1).astype(np.int64))
    if count < 2:
        raise ArgumentError("there is nothing to tell apart", expected="two classes or more", received=count)
    return Labels(cast(op, INT), count, names)
