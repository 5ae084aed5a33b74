"""The gradient of Resize: against PyTorch's interpolation, and for its other modes against the engine's own forward pass."""

import itertools

import numpy as np
import pytest
import torch.nn.functional as F

from ravop.autodiff import grad
from ravop.engine import Session
from ravop.graph import Graph
from ravop.graph.serde import to_bytes

X = np.random.default_rng(4).normal(size=(2, 3, 4, 5)).astype(np.float32)


def resized(sizes=None, scales=None, roi=None, **attributes):
    def ours(x):
        given = [
            None if v is None else x.graph.tensor(np.asarray(v, d), d)
            for v, d in ((roi, np.float32), (scales, np.float32), (sizes, np.int64))
        ]
        out = (
            *x.static_shape[:2],
            *(sizes or [int(n * s) for n, s in zip(X.shape, scales, strict=True)])[-2:],
        )
        return x.graph.apply("Resize", [x, *given], attributes, outputs=[(x.dtype, out)])[0]

    return ours


TORCH = [
    ({"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, {"mode": "nearest"}),
    ({"mode": "nearest", "nearest_mode": "round_prefer_ceil"}, {"mode": "nearest-exact"}),
    ({"mode": "linear"}, {"mode": "bilinear"}),
    ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, {"mode": "bilinear", "align_corners": True}),
    ({"mode": "cubic"}, {"mode": "bicubic"}),
    ({"mode": "linear", "antialias": 1, "exclude_outside": 1}, {"mode": "bilinear", "antialias": True}),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), TORCH)
@pytest.mark.parametrize("size", [(8, 10), (3, 7), (2, 2)])
def test_interpolation_as_in_pytorch(check_torch, ours, theirs, size):
    check_torch(
        resized(sizes=[2, 3, *size], **ours), lambda x: F.interpolate(x, size=size, **theirs), X,
        times=2, rtol=1e-3, atol=1e-4,
    )  # fmt: skip


MODES = [
    {"mode": mode, "coordinate_transformation_mode": where, **more}
    for mode, where in itertools.product(
        ("nearest", "linear", "cubic"),
        ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"),
    )
    for more in ({}, {"exclude_outside": 1} if mode == "cubic" else {"nearest_mode": "ceil"})
] + [{"mode": "linear", "antialias": 1}, {"mode": "cubic", "antialias": 1, "cubic_coeff_a": -0.5}]


def test_every_mode_is_the_linear_map_that_the_engine_computes():
    """⟨resize(x), w⟩ = ⟨x, gradient⟩, as resizing is linear; all modes in one session."""
    graph = Graph()
    x = graph.variable(X)
    expected = {}
    for number, attributes in enumerate(MODES):
        for scales in ([1, 1, 2, 1.5], [1, 1, 0.5, 0.6]):
            out = resized(scales=scales, **attributes)(x)
            weights = np.random.default_rng(number).normal(size=out.static_shape).astype(np.float32)
            loss = (out * weights).sum()
            name = f"{number} {scales}"
            loss.persist_op(f"loss {name}")
            (grad(loss, x) * x).sum().persist_op(f"dual {name}")
            expected[name] = attributes
    cropped = resized(
        sizes=[3, 6], roi=[0.1, -0.2, 0.8, 1.1], axes=[2, 3], mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
    )  # fmt: skip
    loss = (cropped(x) * cropped(x)).sum()
    loss.persist_op("loss cropped")
    ((grad(loss, x) * x).sum() / 2).persist_op("dual cropped")
    got = Session(to_bytes(graph.model())).run(graph.inputs)
    for name in [*expected, "cropped"]:
        value, dual = (got[graph.persisted[f"{kind} {name}"].value] for kind in ("loss", "dual"))
        np.testing.assert_allclose(dual, value, rtol=1e-3, atol=2e-4, err_msg=str(expected.get(name)))
