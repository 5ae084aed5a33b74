"""GridSample and Col2Im against PyTorch's grid_sample and fold."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ravop.ops.catalogue import node

RNG = np.random.default_rng(6)
X = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
GRID = RNG.uniform(-1.3, 1.3, size=(2, 3, 2, 2)).astype(np.float32)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize(
    ("mode", "padding"), list(itertools.product(("linear", "nearest"), ("zeros", "border", "reflection")))
)
def test_grid_sample(check_torch, mode, padding, align):
    theirs = {"mode": {"linear": "bilinear"}.get(mode, mode), "padding_mode": padding}
    given = {"mode": mode, "padding_mode": padding, "align_corners": align}
    if mode == "nearest":
        check_torch(
            lambda x: node("GridSample", [x, x.graph.tensor(GRID)], **given),
            lambda x: F.grid_sample(x, _torch(GRID), align_corners=bool(align), **theirs), X,
        )  # fmt: skip
        return
    check_torch(
        lambda x, grid: node("GridSample", [x, grid], **given),
        lambda x, grid: F.grid_sample(x, grid, align_corners=bool(align), **theirs), X, GRID, rtol=1e-3, atol=1e-4,
    )  # fmt: skip


def _torch(array):
    return torch.tensor(array)


def test_sampling_a_volume(check_torch):
    check_torch(
        lambda x, grid: node("GridSample", [x, grid]),
        lambda x, grid: F.grid_sample(x, grid, align_corners=False),
        RNG.normal(size=(1, 2, 3, 4, 2)), RNG.uniform(-1.2, 1.2, size=(1, 2, 2, 2, 3)), rtol=1e-3, atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, 0), (2, 1, 1), (1, 2, 1)])
def test_col2im(check_torch, stride, dilation, padding):
    columns = F.unfold(_torch(X), (2, 3), dilation, padding, stride).numpy()

    def ours(x):
        sizes = [x.graph.tensor(np.array(v)) for v in ((4, 5), (2, 3))]
        return node("Col2Im", [x, *sizes], strides=[stride] * 2, dilations=[dilation] * 2, pads=[padding] * 4)

    check_torch(ours, lambda x: F.fold(x, (4, 5), (2, 3), dilation, padding, stride), columns, times=2)
