"""A broad table of operators: outputs, gradients and gradients of gradients against PyTorch's, in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ravop.graph.op import Op
from ravop.ops.catalogue import node

RNG = np.random.default_rng(5)


def draw(*shape, low=-2.0, high=2.0):
    return RNG.uniform(low, high, shape).astype(np.float32)


def const(x, value, dtype=np.int64):
    return x.graph.tensor(np.asarray(value, dtype), dtype)


def op(op_type, *constants, **attributes):
    """A function of ops: the operator on them, and on the given constants after them."""

    def ours(*ops):
        rest = [None if c is None else c if isinstance(c, Op) else const(ops[0], *c) for c in constants]
        return node(op_type, [*ops, *rest], **attributes)

    return ours


I64, F32 = np.int64, np.float32
X = draw(3, 4)
POSITIVE = draw(3, 4, low=0.3, high=2.5)
MAP = draw(2, 3, 4, 5)
ROWS = np.array([2, -1, 0, 2])
COLUMNS = np.array([[0, -1], [3, 1], [1, 1]])
ZEROS = np.array([[0.0, 1.5, -2.0], [0.0, 0.0, 3.0], [1.0, 2.0, -1.0]], F32)

ELEMENTWISE = {
    "HardSigmoid": (op("HardSigmoid", alpha=0.25, beta=0.4), lambda x: (x * 0.25 + 0.4).clamp(0, 1)),
    "HardSwish": (op("HardSwish"), F.hardswish),
    "Mish": (op("Mish"), F.mish),
    "Softplus": (op("Softplus"), F.softplus),
    "Softsign": (op("Softsign"), F.softsign),
    "Gelu": (op("Gelu"), F.gelu),
    "Gelu tanh": (op("Gelu", approximate="tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "Elu": (op("Elu", alpha=0.6), lambda x: F.elu(x, 0.6)),
    "Celu": (op("Celu", alpha=0.6), lambda x: F.celu(x, 0.6)),
    "Selu": (op("Selu"), F.selu),
    "Shrink": (op("Shrink", lambd=0.5, bias=0.0), lambda x: F.hardshrink(x, 0.5)),
    "Shrink soft": (op("Shrink", lambd=0.5, bias=0.5), lambda x: F.softshrink(x, 0.5)),
    "ThresholdedRelu": (op("ThresholdedRelu", alpha=0.7), lambda x: F.threshold(x, 0.7, 0)),
    "LeakyRelu": (op("LeakyRelu", alpha=0.3), lambda x: F.leaky_relu(x, 0.3)),
    "Softmax": (op("Softmax", axis=0), lambda x: F.softmax(x, 0)),
    "LogSoftmax": (op("LogSoftmax", axis=1), lambda x: F.log_softmax(x, 1)),
    "Erf": (op("Erf"), torch.erf),
    "Tanh": (op("Tanh"), torch.tanh),
    "Dropout": (op("Dropout"), lambda x: x * 1),
}

BINARY = {
    "PRelu": (op("PRelu"), lambda x, s: torch.where(x > 0, x, x * s), draw(2, 3, 4), draw(3, 1)),
    "Pow": (op("Pow"), torch.pow, POSITIVE, draw(4)),
    "Div": (op("Div"), torch.div, X, draw(1, 4, low=0.5)),
    "Mod": (op("Mod", fmod=1), torch.fmod, X, draw(4, low=0.5)),
    "Max": (op("Max"), lambda a, b, c: torch.maximum(torch.maximum(a, b), c), X, draw(4), draw(3, 1)),
    "Min": (op("Min"), lambda a, b: torch.minimum(a, b), X, draw(4)),
    "Mean": (op("Mean"), lambda a, b, c: (a + b + c) / 3, X, draw(4), draw(3, 1)),
    "Sum": (op("Sum"), lambda a, b, c: a + b + c, X, draw(4), draw(3, 1)),
    "Clip": (op("Clip"), torch.clamp, X * 2, np.float32(-0.7), np.float32(0.9)),
    "Clip crossed": (op("Clip"), torch.clamp, X * 2, np.float32(0.5), np.float32(-0.2)),
    "Det": (op("Det"), torch.linalg.det, draw(2, 3, 3) + 3 * np.eye(3, dtype=F32)),
    "Gemm": (
        op("Gemm", alpha=0.5, beta=2.0, transA=1), lambda a, b, c: 0.5 * a.T @ b + 2 * c,
        draw(3, 2), draw(3, 4), draw(4),
    ),
    "MatMul": (op("MatMul"), torch.matmul, draw(2, 1, 3, 4), draw(3, 4, 2)),
}  # fmt: skip

REDUCTIONS = {
    "ReduceL1": lambda x, a, k: x.abs().sum(a, k),
    "ReduceL2": lambda x, a, k: x.square().sum(a, k).sqrt(),
    "ReduceLogSum": lambda x, a, k: x.sum(a, k).log(),
    "ReduceLogSumExp": lambda x, a, k: x.logsumexp(a, k),
    "ReduceMax": lambda x, a, k: x.amax(a, k),
    "ReduceMin": lambda x, a, k: x.amin(a, k),
    "ReduceMean": lambda x, a, k: x.mean(a, k),
    "ReduceSum": lambda x, a, k: x.sum(a, k),
    "ReduceSumSquare": lambda x, a, k: x.square().sum(a, k),
}


def padded(mode, *pads):
    return lambda x: F.pad(x, pads, mode=mode)


def reversed_parts(x):
    return torch.stack([torch.cat([x[i, :n].flip(0), x[i, n:]]) for i, n in enumerate((2, 4, 1))])


def scattered(how):
    def theirs(x, u):
        return x.scatter_reduce(1, torch.tensor([[0, 3, 0], [2, 2, 2], [1, 0, 3]]), u, how)

    return theirs


def scattering(reduction):
    places = np.array([[0, 3, 0], [2, 2, -2], [1, 0, 3]])
    return lambda x, u: node("ScatterElements", [x, const(x, places), u], axis=1, reduction=reduction)


def scattering_rows(reduction):
    return lambda x, u: node("ScatterND", [x, const(x, [[2], [0], [2]]), u], reduction=reduction)


def scattered_rows(how):
    def theirs(x, u):
        places = torch.tensor([2, 0, 2])[:, None].expand(3, 4)
        return x.scatter_reduce(0, places, u, how)

    return theirs


MOVES = {
    "Gather": (op("Gather", (ROWS,), axis=0), lambda x: x[ROWS], X),
    "Gather last": (op("Gather", (ROWS,), axis=-1), lambda x: x[:, ROWS], X),
    "GatherElements": (
        op("GatherElements", (COLUMNS,), axis=1), lambda x: x.gather(1, torch.tensor(COLUMNS % 4)), X,
    ),
    "GatherND": (op("GatherND", ([[0, 1], [2, -1]],)), lambda x: x[[0, 2], [1, -1]], X),
    "GatherND batch": (
        op("GatherND", ([[[1], [0]], [[2], [-1]]],), batch_dims=1),
        lambda x: torch.stack([x[0, [1, 0]], x[1, [2, -1]]]), MAP[:, :, 0],
    ),
    "ScatterElements add": (scattering("add"), scattered("sum"), X, draw(3, 3)),
    "ScatterElements mul": (scattering("mul"), scattered("prod"), X, draw(3, 3)),
    "ScatterElements max": (scattering("max"), scattered("amax"), X, draw(3, 3)),
    "ScatterElements min": (scattering("min"), scattered("amin"), np.round(X), np.round(draw(3, 3))),
    "ScatterND add": (scattering_rows("add"), scattered_rows("sum"), X, draw(3, 4)),
    "ScatterND mul": (scattering_rows("mul"), scattered_rows("prod"), X, draw(3, 4)),
    "ScatterND max": (scattering_rows("max"), scattered_rows("amax"), np.round(X), np.round(draw(3, 4))),
    "Slice": (op("Slice", ([3, -1],), ([0, -4],), ([1, 0],), ([-2, -1],)), lambda x: x.flip(1, 0)[:, :3:2], X),
    "Tile": (op("Tile", ([2, 3],)), lambda x: x.repeat(2, 3), X),
    "Expand": (op("Expand", ([2, 3, 4],)), lambda x: x.expand(2, 3, 4), X),
    "Trilu": (op("Trilu", (-1,), upper=0), lambda x: x.tril(-1), X),
    "DepthToSpace CRD": (
        op("DepthToSpace", blocksize=2, mode="CRD"), lambda x: F.pixel_shuffle(x, 2), draw(2, 8, 2, 3),
    ),
    "SpaceToDepth": (
        op("SpaceToDepth", blocksize=2),
        lambda x: F.pixel_unshuffle(x, 2).reshape(2, 3, 4, 2, 3).transpose(1, 2).reshape(2, 12, 2, 3),
        draw(2, 3, 4, 6),
    ),
    "ReverseSequence": (op("ReverseSequence", ([2, 4, 1],), batch_axis=0, time_axis=1), reversed_parts, X),
    "Compress": (op("Compress", ([True, False, True], bool), axis=0), lambda x: x[[0, 2]], X),
    "Compress flat": (
        op("Compress", ([False, True, True, False, True], bool)), lambda x: x.flatten()[[1, 2, 4]], X,
    ),
    "Pad constant": (op("Pad", ([0, 1, -1, 2],)), padded("constant", 1, 2, 0, -1), X),
    "Pad edge": (op("Pad", ([0, 0, 1, 2, 0, 0, 3, 1],), mode="edge"), padded("replicate", 2, 1, 1, 3), MAP),
    "Pad reflect": (op("Pad", ([0, 0, 1, 2, 0, 0, 3, 4],), mode="reflect"), padded("reflect", 2, 4, 1, 3), MAP),
    "Pad wrap": (op("Pad", ([0, 0, 1, 2, 0, 0, 3, 4],), mode="wrap"), padded("circular", 2, 4, 1, 3), MAP),
    "Pad and cut": (
        op("Pad", ([0, 0, 1, -2, 0, 0, 3, 1],), mode="edge"),
        lambda x: F.pad(x[..., 2:], (0, 1, 1, 3), mode="replicate"), MAP,
    ),
    "CumSum": (
        op("CumSum", (1,), exclusive=1, reverse=1),
        lambda x: torch.cat([x.flip(1).cumsum(1).flip(1)[:, 1:], torch.zeros(3, 1)], 1), X,
    ),
    "CenterCropPad": (op("CenterCropPad", ([5, 2],)), lambda x: F.pad(x[:, 1:3], (0, 0, 1, 1)), X),
    "ReduceProd": (op("ReduceProd", ([1],), keepdims=0), lambda x: x.prod(1), ZEROS),
    "ReduceProd of all": (op("ReduceProd", ([0, 2],)), lambda x: x.prod(2, True).prod(0, True), MAP[0]),
    "OneHot": (
        lambda v: node("OneHot", [const(v, [1, 0]), const(v, 3), v]),
        lambda v: v[F.one_hot(torch.tensor([1, 0]), 3)], draw(2),
    ),
}  # fmt: skip

EINSUMS = {
    "ij,jk->ik": (draw(2, 3), draw(3, 4)),
    "...ij,...jk->...ik": (draw(2, 2, 3), draw(2, 3, 4)),
    "ii->i": (draw(3, 3),),
    "iij,j->ij": (draw(3, 3, 2), draw(2)),
    "i,j,ij": (draw(2), draw(3), draw(2, 3)),
    "bij->b": (draw(2, 3, 4),),
}


@pytest.mark.parametrize("case", ELEMENTWISE)
def test_elementwise(check_torch, case):
    ours, theirs = ELEMENTWISE[case]
    check_torch(ours, theirs, X * 1.9, times=2, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", BINARY)
def test_several_operands(check_torch, case):
    ours, theirs, *arrays = BINARY[case]
    check_torch(ours, theirs, *arrays, times=2, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_reductions(check_torch, op_type, keepdims):
    theirs = REDUCTIONS[op_type]
    x = draw(2, 3, 2, low=0.5)
    check_torch(
        op(op_type, ([0, -1],), keepdims=keepdims), lambda x: theirs(x, (0, 2), bool(keepdims)), x,
        times=2, rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    check_torch(op(op_type, keepdims=keepdims), lambda x: theirs(x, (0, 1, 2), bool(keepdims)), x)


@pytest.mark.parametrize("case", MOVES)
def test_moves(check_torch, case):
    ours, theirs, *arrays = MOVES[case]
    check_torch(ours, theirs, *arrays, times=2, rtol=1e-3)


@pytest.mark.parametrize("equation", EINSUMS)
def test_einsum(check_torch, equation):
    full = equation if "->" in equation else f"{equation}->"
    check_torch(
        lambda *ops: node("Einsum", list(ops), equation=equation),
        lambda *ops: torch.einsum(full, *ops), *EINSUMS[equation], times=2, rtol=1e-3, atol=1e-4,
    )  # fmt: skip


def test_a_reduction_over_no_axes(check_torch):
    for op_type, theirs in {"ReduceSumSquare": torch.square, "ReduceProd": lambda x: x * 1}.items():
        check_torch(op(op_type, noop_with_empty_axes=1), theirs, X, times=2 if op_type != "ReduceProd" else 1)


def test_factors_of_zero(check_torch):
    check_torch(scattering("mul"), scattered("prod"), ZEROS[:, [0, 1, 2, 1]], np.round(draw(3, 3)))


def test_limits_of_a_slice_that_only_the_run_can_tell(check_torch):
    def ours(x):
        start = node("ReduceSum", [const(x, [1, 0])], keepdims=1)
        return node("Slice", [x, start, const(x, [3])])

    check_torch(ours, lambda x: x[1:3], X, times=1)


def test_scale_of_quantized_numbers(check_torch):
    q = np.array([[1, -3], [7, 0]], np.int8)
    check_torch(
        lambda s: node("DequantizeLinear", [const(s, q, np.int8), s, const(s, [1, 2], np.int8)], axis=1),
        lambda s: (torch.tensor(q).float() - torch.tensor([1.0, 2.0])) * s, draw(2),
    )  # fmt: skip


def test_mean_variance_normalization(check_torch):
    def theirs(x):
        mean = x.mean((0, 2, 3), keepdim=True)
        return (x - mean) / (x.var((0, 2, 3), unbiased=False, keepdim=True).sqrt() + 1e-9)

    def ours(x):
        return x.graph.apply("MeanVarianceNormalization", [x], outputs=[(x.dtype, x.shape)])[0]

    check_torch(ours, theirs, MAP, rtol=1e-3, atol=1e-4)


def test_affine_grid(check_torch):
    check_torch(
        op("AffineGrid", ([2, 1, 3, 4],)), lambda t: F.affine_grid(t, (2, 1, 3, 4), align_corners=False),
        draw(2, 2, 3),
    )  # fmt: skip
