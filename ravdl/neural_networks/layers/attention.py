"""Attention: each step of a series takes a weighted mean of the steps of another, or of its own.

Softmax over products of queries and keys (Luong et al. 2015; Vaswani et al. 2017). Inputs are the series query and value,
and key where it is not value; for `MultiHeadAttention` one input is all three. A fourth input is a mask: (value steps,) or
(query steps, value steps), above 0 where a step of the query may attend to one of the value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import ravop as R
from ravdl.neural_networks.initializers import InitializerLike, initializer_named
from ravdl.neural_networks.layers.arguments import Shape, flag, fraction, positive
from ravdl.neural_networks.layers.layer import Layer, Moment, WeightSpec
from ravdl.neural_networks.layers.noise import dropped
from ravdl.neural_networks.layers.options import Regularizer, checked_regularizer, spec
from ravdl.neural_networks.layers.windows import spatial
from ravop.errors import ArgumentError, ShapeError
from ravop.graph import Op


class Attending(Layer):
    """What both layers here have in common: their inputs, the mask of causality, and dropout of the weights.

    Args:
        causal: no step attends to later ones.
        p: probability to drop a weight of attention in training.
    """

    mixes_examples = False
    fewest = 2

    def __init__(self, causal: bool, p: float, input_shape: object) -> None:
        super().__init__(input_shape)
        self.causal = flag(causal, "causal")
        self.p = fraction(p, "p")

    def take(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        if not self.fewest <= len(shapes) <= 4:
            raise ArgumentError(
                f"{type(self).__name__} takes another number of inputs",
                expected="[query, value], [query, value, key] or [query, value, key, mask]"
                + ("" if self.fewest > 1 else ", or one for all"),
                received=len(shapes),
            )
        self.n_inputs = len(shapes)
        return super().take(shapes)

    def lengths(self, shapes: Sequence[Shape]) -> tuple[int, int]:
        """(steps of the query, steps of the value). Raises `ShapeError` for series that do not fit."""
        kind = type(self).__name__
        steps = [spatial(shape, kind, 1)[1][0] for shape in shapes[:3]]
        if len(steps) == 3 and steps[1] != steps[2]:
            raise ShapeError(
                f"{kind} needs a key for each value",
                expected=f"{steps[1]} steps",
                received=f"{steps[2]} steps",
            )
        query, value = steps[0], steps[min(1, len(steps) - 1)]
        if len(shapes) == 4 and shapes[3] not in ((value,), (query, value)):
            raise ShapeError(
                f"{kind}'s mask does not fit its series",
                expected=f"({value},) or ({query}, {value})",
                received=shapes[3],
            )
        return query, value

    def call_all(self, xs: Sequence[Op], weights: Mapping[str, Op]) -> tuple[Op, ...]:
        return (self.attended(xs[:3], weights, None, _allowed(xs)),)

    def train_all(
        self, xs: Sequence[Op], weights: Mapping[str, Op], moment: Moment
    ) -> tuple[tuple[Op, ...], dict[str, Op]]:
        return (self.attended(xs[:3], weights, moment, _allowed(xs)),), {}

    def attended(
        self, xs: Sequence[Op], weights: Mapping[str, Op], moment: Moment | None, allowed: Op | None
    ) -> Op:
        """The output; in training with a moment. Where `allowed` (batch, query steps, value steps) is false, nothing
        is attended to.
        """
        raise NotImplementedError

    def mixed(self, scores: Op, values: Op, moment: Moment | None, allowed: Op | None) -> Op:
        """softmax(scores) @ values, for scores (batch, …, query steps, value steps)."""
        if allowed is not None:
            scores = R.where(R.expand_dims(allowed, 1) if scores.ndim == 4 else allowed, scores, _NEVER)
        if self.causal:
            steps, others = self.lengths(self.input_shapes)
            graph = scores.graph
            # Computed, so that the graph does not grow with the square of the steps; the engine does it once.
            row, column = graph.integers(range(steps)), graph.integers(range(others))
            never, always = (graph.constant(np.array(v, scores.dtype)) for v in (-np.inf, 0))
            scores = scores + R.where(R.expand_dims(row, 1) < column, never, always)
        shares = R.softmax(scores)
        if moment is not None and self.p:
            shares = dropped(shares, self.p, moment, self.name)
        return shares @ values


_NEVER = -3e4
"""In place of scores that do not count; finite, so that a step that may attend to nothing takes the plain mean, not NaN."""


def _allowed(xs: Sequence[Op]) -> Op | None:
    """A mask among the inputs as booleans (batch, query steps, value steps), or with one query step for all."""
    if len(xs) < 4:
        return None
    mask = R.expand_dims(xs[3], 1) if xs[3].ndim == 2 else xs[3]
    return mask > 0


class Attention(Attending):
    """softmax(query · keyᵀ) · value, for query (steps, features), value (others, units) and key (others, features)
    (Luong et al. 2015). Inputs [query, value] or [query, value, key]; without key, value is the key.

    Args:
        use_scale: multiply the products by a learned number, which starts at 1.
        causal: no step attends to later ones.
        p: probability to drop a weight of attention in training.

    Weights: `scale` of shape (1,), with `use_scale`.
    """

    def __init__(
        self, use_scale: bool = False, causal: bool = False, p: float = 0.0, input_shape: object = None
    ) -> None:
        super().__init__(causal, p, input_shape)
        self.use_scale = flag(use_scale, "use_scale")

    def shapes_after(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        steps, _ = self.lengths(shapes)
        key = shapes[:3][-1]
        if shapes[0][1] != key[1]:
            raise ShapeError(
                f"{type(self).__name__} compares queries with keys",
                expected=f"keys of {shapes[0][1]} features",
                received=key,
            )
        return ((steps, shapes[1][1]),)

    def weights(self) -> tuple[WeightSpec, ...]:
        return (spec("scale", (1,), "ones"),) if self.use_scale else ()

    def parameters(self) -> dict[str, Any]:
        return {"use_scale": self.use_scale, "causal": self.causal, "p": self.p}

    def attended(
        self, xs: Sequence[Op], weights: Mapping[str, Op], moment: Moment | None, allowed: Op | None
    ) -> Op:
        query, value, key = xs[0], xs[1], xs[-1]
        return self.mixed(self.scores(query, key, weights), value, moment, allowed)

    def scores(self, query: Op, key: Op, weights: Mapping[str, Op]) -> Op:
        """How much each step of the query (batch, steps, features) attends to each of the key: (batch, steps, others)."""
        products = query @ R.swapaxes(key, 1, 2)
        return products * weights["scale"] if self.use_scale else products


class AdditiveAttention(Attention):
    """As `Attention`, with the sum over features of scale · tanh(query + key) in place of the product (Bahdanau et al.
    2015).

    Args:
        use_scale: whether there is scale; without it, it is 1.
        causal, p: as for `Attention`.

    Weights: `scale` of shape (features,), with `use_scale`.
    """

    def __init__(
        self, use_scale: bool = True, causal: bool = False, p: float = 0.0, input_shape: object = None
    ) -> None:
        super().__init__(use_scale, causal, p, input_shape)

    def weights(self) -> tuple[WeightSpec, ...]:
        features = self.input_shape[1]
        return (spec("scale", (features,), "glorot_uniform"),) if self.use_scale else ()

    def scores(self, query: Op, key: Op, weights: Mapping[str, Op]) -> Op:
        bent = R.tanh(R.expand_dims(query, 2) + R.expand_dims(key, 1))
        return bent @ weights["scale"] if self.use_scale else R.sum(bent, axis=-1)


class MultiHeadAttention(Attending):
    """Attention with `n_heads` learned projections side by side (Vaswani et al. 2017):

    softmax(Q Kᵀ / √key_dim) V for each head, with Q = query · W_query + w0_query, K and V likewise; the heads' results side
    by side, times W_output plus w0_output. Inputs query, [query, value] or [query, value, key]; what is not given is value,
    and value where there is one input is query.

    Args:
        n_heads: number of heads.
        key_dim: size of a head's queries and keys.
        value_dim: size of a head's values; None for key_dim.
        n_units: size of the output; None for the query's.
        causal: no step attends to later ones.
        p: probability to drop a weight of attention in training.
        use_bias: whether there are biases.
        initializer: of the matrices, a name in `initializers.INITIALIZERS`.
        regularizer: from each matrix to what is added to the loss.

    Weights: `W_query` of shape (features, n_heads · key_dim), `W_key`, `W_value` likewise, `W_output` of shape
    (n_heads · value_dim, n_units), and for each a `w0_…` of its second size. Keras's matrices of shape (features, n_heads,
    key_dim) are these, reshaped; PyTorch's `in_proj_weight` has the transposes of the first three in rows.
    """

    fewest = 1

    def __init__(
        self,
        n_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        n_units: int | None = None,
        causal: bool = False,
        p: float = 0.0,
        use_bias: bool = True,
        initializer: InitializerLike = "glorot_uniform",
        regularizer: Regularizer | None = None,
        input_shape: object = None,
    ) -> None:
        super().__init__(causal, p, input_shape)
        self.n_heads = positive(n_heads, "n_heads")
        self.key_dim = positive(key_dim, "key_dim")
        self.value_dim = self.key_dim if value_dim is None else positive(value_dim, "value_dim")
        self.n_units = None if n_units is None else positive(n_units, "n_units")
        self.use_bias = flag(use_bias, "use_bias")
        self.initializer = initializer_named(initializer)
        self.regularizer = checked_regularizer(regularizer)

    def shapes_after(self, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
        steps, _ = self.lengths(shapes)
        return ((steps, self.n_units or shapes[0][1]),)

    def weights(self) -> tuple[WeightSpec, ...]:
        query, value, key = self._three([shape[1] for shape in self.input_shapes[:3]])
        keys, values = self.n_heads * self.key_dim, self.n_heads * self.value_dim
        sizes = {
            "query": (query, keys),
            "key": (key, keys),
            "value": (value, values),
            "output": (values, self.output_shape[-1]),
        }
        matrices = [spec(f"W_{n}", s, self.initializer, self.regularizer) for n, s in sizes.items()]
        biases = [spec(f"w0_{n}", s[1:], "zeros") for n, s in sizes.items()] if self.use_bias else []
        return (*matrices, *biases)

    def parameters(self) -> dict[str, Any]:
        return {
            "n_heads": self.n_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "n_units": self.n_units,
            "causal": self.causal,
            "p": self.p,
            "use_bias": self.use_bias,
            "initializer": self.initializer,
            "regularizer": self.regularizer,
        }

    def attended(
        self, xs: Sequence[Op], weights: Mapping[str, Op], moment: Moment | None, allowed: Op | None
    ) -> Op:
        query, value, key = self._three(xs)
        queries = self._heads(query, "query", weights, (0, 2, 1, 3)) * (1 / math.sqrt(self.key_dim))
        keys = self._heads(key, "key", weights, (0, 2, 3, 1))
        values = self._heads(value, "value", weights, (0, 2, 1, 3))
        found = R.transpose(self.mixed(queries @ keys, values, moment, allowed), (0, 2, 1, 3))
        steps = self.input_shape[0]
        return self._projected(
            R.reshape(found, (-1, steps, self.n_heads * self.value_dim)), "output", weights
        )

    @staticmethod
    def _three(given: Sequence[Any]) -> tuple[Any, Any, Any]:
        """(query, value, key) of one, two or three."""
        return given[0], given[min(1, len(given) - 1)], given[-1]

    def _projected(self, x: Op, name: str, weights: Mapping[str, Op]) -> Op:
        product = x @ weights[f"W_{name}"]
        return product + weights[f"w0_{name}"] if self.use_bias else product

    def _heads(self, x: Op, name: str, weights: Mapping[str, Op], order: tuple[int, ...]) -> Op:
        """The projection, with axes batch, step, head, element in this order."""
        projected = self._projected(x, name, weights)
        steps = x.shape[1]
        assert isinstance(steps, int)
        size = self.value_dim if name == "value" else self.key_dim
        return R.transpose(R.reshape(projected, (-1, steps, self.n_heads, size)), order)
