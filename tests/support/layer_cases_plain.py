"""Cases of layers that treat elements alike, and of those that merge, move or draw."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from layer_cases import Case, Shape, one

from ravdl.neural_networks.layers import (
    ELU,
    GLU,
    Activation,
    Add,
    AlphaDropout,
    Average,
    Concat,
    Concatenate,
    Dense,
    Division,
    Dot,
    Dropout,
    Embedding,
    Flatten,
    GaussianDropout,
    GaussianNoise,
    Identity,
    Layer,
    LeakyReLU,
    Maximum,
    Minimum,
    Multiply,
    Permute,
    PositionalEmbedding,
    Power,
    PReLU,
    ReLU,
    RepeatVector,
    Rescaling,
    Reshape,
    SinusoidalEmbedding,
    Softmax,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
    Subtract,
    ThresholdedReLU,
    Transpose,
)

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: torch.softmax(x, -1),
    "tanh": torch.tanh,
    "linear": lambda x: 1 * x,
    "celu": F.celu,
    "elu": F.elu,
    "exponential": torch.exp,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hard_shrink": F.hardshrink,
    "hard_sigmoid": F.hardsigmoid,
    "hard_silu": F.hardswish,
    "hard_swish": F.hardswish,
    "hard_tanh": F.hardtanh,
    "leaky_relu": F.leaky_relu,
    "log_sigmoid": F.logsigmoid,
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "mish": F.mish,
    "relu6": F.relu6,
    "selu": F.selu,
    "silu": F.silu,
    "soft_shrink": F.softshrink,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "sparse_plus": lambda x: torch.where(x <= -1, 0, torch.where(x < 1, (x + 1) ** 2 / 4, x)),
    "sparse_sigmoid": lambda x: F.hardtanh(x + 1, 0, 2) / 2,
    "sparsemax": lambda x: nearest_probabilities(x),
    "squareplus": lambda x: (x + torch.sqrt(x * x + 4)) / 2,
    "swish": F.silu,
    "tanh_shrink": F.tanhshrink,
    "thresholded_relu": lambda x: F.threshold(x, 1, 0),
}


def nearest_probabilities(x: torch.Tensor) -> torch.Tensor:
    """The projection onto the simplex, found by halving the interval in which its threshold lies."""
    low, high = x.detach().amax(-1, keepdim=True) - 1, x.detach().amax(-1, keepdim=True)
    for _ in range(60):
        middle = (low + high) / 2
        over = torch.relu(x.detach() - middle).sum(-1, keepdim=True) > 1
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    support = (x.detach() > high).to(x.dtype)
    return (x - ((x * support).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)) * support


def activated(name: str) -> Case:
    return one(lambda: Activation(name), (2, 7), (2, 7), lambda x, w, t: ACTIVATIONS[name](3 * x / 3))


def still(make: Callable[[], Layer], shape: Shape) -> Case:
    """A layer that is idle in inference and draws in training."""
    return one(make, shape, shape, lambda x, w, t: 1 * x, idle=False)


def merged(
    make: Callable[[], Layer], twin: Callable[..., torch.Tensor], inputs: list[Shape], output: Shape
) -> Case:
    return Case(make, inputs, [output], lambda *given: twin(*given[:-2]))


def waves(x: torch.Tensor) -> torch.Tensor:
    """Vaswani et al. 2017, pair by pair."""
    table = torch.zeros(x.shape[1:])
    for position in range(x.shape[1]):
        for i in range(0, x.shape[2], 2):
            angle = torch.tensor(position / 10_000 ** (i / x.shape[2]))
            table[position, i] = torch.sin(angle)
            if i + 1 < x.shape[2]:
                table[position, i + 1] = torch.cos(angle)
    return x + table


PAIR: list[Shape] = [(3, 4), (3, 4)]

CASES: dict[str, Case] = {
    **{f"activation {name}": activated(name) for name in ACTIVATIONS},
    "dense": one(lambda: Dense(5), (7,), (5,), lambda x, w, t: x @ w["W"] + w["w0"]),
    "dense without bias": one(lambda: Dense(5, use_bias=False), (7,), (5,), lambda x, w, t: x @ w["W"]),
    "dense of series, activated": one(
        lambda: Dense(5, activation="tanh"), (3, 7), (3, 5), lambda x, w, t: torch.tanh(x @ w["W"] + w["w0"])
    ),
    "dense, softmax": one(
        lambda: Dense(5, activation="softmax"), (7,), (5,), lambda x, w, t: F.softmax(x @ w["W"] + w["w0"], -1)
    ),
    "relu": one(ReLU, (7,), (7,), lambda x, w, t: F.relu(x)),
    "relu with limits": one(
        lambda: ReLU(1.0, 0.1, 0.3), (5, 9), (5, 9),
        lambda x, w, t: torch.where(x >= 1.0, 1.0, torch.where(x >= 0.3, x, 0.1 * (x - 0.3))),
    ),
    "leaky relu": one(LeakyReLU, (7,), (7,), lambda x, w, t: F.leaky_relu(x, 0.3)),
    "prelu": one(PReLU, (3, 4), (3, 4), lambda x, w, t: torch.where(x > 0, x, x * w["alpha"])),
    "prelu of channels": one(
        lambda: PReLU(shared_axes=(2, 3)), (3, 4, 2), (3, 4, 2), lambda x, w, t: F.prelu(x, w["alpha"].reshape(-1))
    ),
    "elu": one(lambda: ELU(0.7), (7,), (7,), lambda x, w, t: F.elu(x, 0.7)),
    "thresholded relu": one(
        lambda: ThresholdedReLU(0.4), (3, 7), (3, 7), lambda x, w, t: F.threshold(x, 0.4, 0)
    ),
    "softmax of channels": one(lambda: Softmax(1), (3, 4, 2), (3, 4, 2), lambda x, w, t: torch.softmax(x, 1)),
    "glu": one(GLU, (3, 8), (3, 4), lambda x, w, t: F.glu(x)),
    "glu of channels": one(lambda: GLU(1), (4, 3, 2), (2, 3, 2), lambda x, w, t: F.glu(x, 1)),
    "softmax": one(Softmax, (5,), (5,), lambda x, w, t: torch.softmax(x, -1)),
    # ── elements moved ──
    "identity": one(Identity, (4, 3), (4, 3), lambda x, w, t: 1 * x),
    "flatten": one(Flatten, (3, 4, 2), (24,), lambda x, w, t: x.flatten(1)),
    "reshape": one(lambda: Reshape((2, -1, 3)), (4, 3), (2, 2, 3), lambda x, w, t: x.reshape(-1, 2, 2, 3)),
    "permute": one(lambda: Permute((2, 3, 1)), (3, 4, 2), (4, 2, 3), lambda x, w, t: x.permute(0, 2, 3, 1)),
    "transpose": one(lambda: Transpose((2, 1)), (3, 4), (4, 3), lambda x, w, t: x.transpose(1, 2)),
    "repeat vector": one(lambda: RepeatVector(3), (4,), (3, 4), lambda x, w, t: x[:, None].repeat(1, 3, 1)),
    "rescaling": one(lambda: Rescaling(1 / 255, -0.5), (4, 2), (4, 2), lambda x, w, t: x / 255 - 0.5),
    "power": one(lambda: Power(3), (4, 2), (4, 2), lambda x, w, t: x**3),
    # ── several inputs ──
    "add": merged(Add, lambda *xs: functools.reduce(torch.add, xs), [(3, 4)] * 3, (3, 4)),
    "add, fewer axes": merged(Add, lambda a, b: a + b[:, None], [(3, 4), (4,)], (3, 4)),
    "subtract": merged(Subtract, torch.sub, PAIR, (3, 4)),
    "multiply": merged(Multiply, torch.mul, [(3, 4, 2), (3, 1, 1)], (3, 4, 2)),
    "division": merged(Division, torch.div, PAIR, (3, 4)),
    "average": merged(Average, lambda *xs: sum(xs) / 3, [(3, 4)] * 3, (3, 4)),
    "maximum": merged(Maximum, torch.maximum, PAIR, (3, 4)),
    "minimum": merged(Minimum, torch.minimum, PAIR, (3, 4)),
    "concatenate": merged(Concatenate, lambda *xs: torch.cat(xs, -1), [(3, 4), (3, 1), (3, 2)], (3, 7)),
    "concat of channels": merged(
        lambda: Concat(axis=1), lambda *xs: torch.cat(xs, 1), [(2, 3, 4), (1, 3, 4)], (3, 3, 4)
    ),
    "dot of rows": merged(Dot, lambda a, b: (a * b).sum(1, keepdim=True), [(4,), (4,)], (1,)),
    "dot of series": merged(
        lambda: Dot((1, 2)), lambda a, b: torch.einsum("nij,nki->njk", a, b), [(3, 4), (5, 3)], (4, 5)
    ),
    "dot, cosines": merged(
        lambda: Dot(2, normalize=True),
        lambda a, b: F.cosine_similarity(a[:, :, None], b[:, None], -1),
        [(3, 4), (2, 4)],
        (3, 2),
    ),
    # ── random in training ──
    "dropout": still(lambda: Dropout(0.4), (6,)),
    "dropout of nothing": one(lambda: Dropout(0), (6,), (6,), lambda x, w, t: 1 * x),
    "spatial dropout 1d": still(SpatialDropout1D, (3, 6)),
    "spatial dropout 2d": still(SpatialDropout2D, (6, 3, 2)),
    "spatial dropout 3d": still(SpatialDropout3D, (6, 3, 2, 2)),
    "gaussian noise": still(lambda: GaussianNoise(0.3), (6,)),
    "gaussian dropout": still(GaussianDropout, (6,)),
    "alpha dropout": still(AlphaDropout, (6,)),
    # ── tables ──
    "embedding": one(
        lambda: Embedding(9, 4), (3,), (3, 4), lambda x, w, t: F.embedding(x, w["W"]), integers=9
    ),
    "positions": one(PositionalEmbedding, (3, 4), (3, 4), lambda x, w, t: x + w["W"]),
    "positions of a longer table": one(
        lambda: PositionalEmbedding(5), (3, 4), (3, 4), lambda x, w, t: x + w["W"][:3]
    ),
    "waves": one(SinusoidalEmbedding, (6, 5), (6, 5), lambda x, w, t: waves(x)),
}  # fmt: skip
