"""Gradients over drawn shapes and attributes, against PyTorch: broadcasting, reductions, slices, padding, picking."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from ravop.ops.catalogue import node

few = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SHAPES = nps.array_shapes(min_dims=1, max_dims=4, max_side=4)


def numbers(shape, seed, low=0.5, high=2.0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def integers(x, values):
    return x.graph.tensor(np.asarray(values, np.int64))


@few
@given(nps.mutually_broadcastable_shapes(num_shapes=2, min_side=1, max_dims=3, max_side=3), st.integers(0, 9))
def test_broadcasting(check_torch, shapes, seed):
    first, second = (numbers(shape, seed + i) for i, shape in enumerate(shapes.input_shapes))

    def ours(a, b):
        return node("Max", [node("Div", [a, b]), node("Mul", [a, b]), node("Pow", [a, b])])

    def theirs(a, b):
        return torch.maximum(torch.maximum(a / b, a * b), a**b)

    check_torch(ours, theirs, first, second, times=2, rtol=1e-3, atol=1e-3)


@few
@given(st.data(), SHAPES, st.booleans())
def test_reductions(check_torch, data, shape, keepdims):
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    signed = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]

    def ours(x):
        made = [
            node(f"Reduce{how}", [x, integers(x, signed)], keepdims=int(keepdims))
            for how in ("Prod", "L2", "Max")
        ]
        return node("Sum", made)

    def theirs(x):
        product = x
        for axis in sorted(axes, reverse=True):
            product = product.prod(axis, keepdim=keepdims)
        norm = x.square().sum(tuple(axes), keepdims).sqrt()
        return product + norm + x.amax(tuple(axes), keepdims)

    check_torch(ours, theirs, numbers(shape, len(shape)), times=2, rtol=1e-3, atol=1e-3)


@few
@given(st.data(), SHAPES)
def test_slices(check_torch, data, shape):
    cuts = [data.draw(st.slices(size)) for size in shape]
    cuts = [cut if len(range(size)[cut]) else slice(None) for cut, size in zip(cuts, shape, strict=True)]
    places = [np.arange(size)[cut].copy() for cut, size in zip(cuts, shape, strict=True)]
    check_torch(lambda x: x[tuple(cuts)], lambda x: x[np.ix_(*places)], numbers(shape, 3), times=2)


@few
@given(st.data(), st.sampled_from(["edge", "reflect", "wrap"]))
def test_padding(check_torch, data, mode):
    shape = tuple(data.draw(st.lists(st.integers(2, 4), min_size=2, max_size=2)))
    front, back = ([data.draw(st.integers(0, size - 1)) for size in shape] for _ in range(2))
    theirs = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}[mode]
    check_torch(
        lambda x: node("Pad", [x, integers(x, [0, *front, 0, *back])], mode=mode),
        lambda x: F.pad(x[None], (front[1], back[1], front[0], back[0]), mode=theirs)[0],
        numbers((2, *shape), 4), times=2,
    )  # fmt: skip


@few
@given(st.data(), nps.array_shapes(min_dims=2, max_dims=3, max_side=3))
def test_picking(check_torch, data, shape):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    size = shape[axis]
    rows = np.array(data.draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=4)))
    count = min(size, 2)

    def ours(x):
        largest, _ = x.graph.apply("TopK", [x, integers(x, [count])], {"axis": axis})
        return node("Concat", [node("Gather", [x, integers(x, rows)], axis=axis), largest], axis=axis)

    def theirs(x):
        return torch.cat([x.index_select(axis, torch.tensor(rows % size)), x.topk(count, axis).values], axis)

    check_torch(ours, theirs, numbers(shape, 5), times=2)
