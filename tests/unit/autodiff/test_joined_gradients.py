"""Gradients of pieces of one op, against PyTorch: they are put side by side where the pieces are the whole."""

import numpy as np
import pytest
import torch

import ravop as R
from ravop.autodiff import grad

X = np.random.default_rng(0).normal(size=(3, 7, 2)).astype(np.float32)

CASES = {
    "pieces in another order": ([(1, 4, 7), (1, 0, 2), (1, 2, 4)], ["Concat"]),
    "with a gap": ([(1, 0, 2), (1, 4, 7)], ["Pad"]),
    "that overlap": ([(1, 0, 4), (1, 3, 7)], ["Pad"]),
    "one of them twice": ([(1, 0, 4), (1, 0, 4), (1, 4, 7)], ["Pad"]),
    "along different axes": ([(0, 0, 1), (1, 0, 3), (0, 1, 3)], ["Pad"]),
    "and the whole": ([(0, 0, 1), (0, 1, 3), (2, 0, 2)], ["Concat"]),
}


@pytest.mark.parametrize("name", CASES)
def test_pieces(name):
    pieces, kinds = CASES[name]

    def loss(x):
        total = 0.0
        for number, (axis, start, stop) in enumerate(pieces):
            index = tuple(slice(start, stop) if axis == i else slice(None) for i in range(3))
            total = total + (x[index] ** 2 * (number + 1.0)).sum()
        return total

    graph = R.Graph("pieces")
    x = graph.variable(X)
    before = len(graph.main.ir)
    found = grad(loss(x), x)
    found.persist_op("g")
    made = {node.op_type for node in list(graph.main.ir)[before:]}
    assert made & {"Concat", "Pad"} >= set(kinds)
    assert "Concat" in kinds or "Concat" not in made
    theirs = torch.from_numpy(X).requires_grad_()
    loss(theirs).backward()
    np.testing.assert_allclose(R.run_local()["g"], theirs.grad.numpy(), rtol=1e-5, atol=1e-6)
