"""Cases of normalizations, and of layers that walk along series: recurrent ones, attention, wrappers."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from layer_cases import Case, Tensors, Torch, one

from ravdl.neural_networks.layers import (
    GRU,
    LSTM,
    AdditiveAttention,
    Attention,
    BatchNormalization,
    Bidirectional,
    Conv2D,
    Dense,
    GroupNormalization,
    InstanceNormalization,
    LayerNormalization,
    MultiHeadAttention,
    RMSNormalization,
    SimpleRNN,
    TimeDistributed,
    UnitNormalization,
)

ORDERS = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "RNN": (0,)}
"""PyTorch's gates by their places here."""
PACKED = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN": torch.rnn_tanh}


def normalised(momentum: float, epsilon: float) -> Torch:
    return lambda x, w, t: F.batch_norm(
        x, w["running_mean"], w["running_var"], w["gamma"], w["beta"], t, 1 - momentum, epsilon
    )


def swapped(twin: Torch) -> Torch:
    return lambda x, w, t: twin(x.transpose(1, 2), w, t).transpose(1, 2)


def walked(kind: str, x: torch.Tensor, w: Tensors, states: Any = None, prefix: str = "") -> Any:
    """PyTorch's recurrence with these weights. → (all states, last ones …)."""
    units, order = w[f"{prefix}U"].shape[0], ORDERS[kind]
    rows = torch.cat([torch.arange(gate * units, (gate + 1) * units) for gate in order])
    flat = [w[f"{prefix}{name}"].T[rows] for name in ("W", "U")]
    if f"{prefix}w0" in w:
        first = w[f"{prefix}w0"][rows]
        flat += [first, w[f"{prefix}u0"][rows] if f"{prefix}u0" in w else torch.zeros_like(first)]
    zeros = torch.zeros(1, x.shape[0], units)
    if states is None:
        states = (zeros, zeros) if kind == "LSTM" else zeros
    biased = len(flat) == 4
    return PACKED[kind](x, states, flat, biased, 1, 0.0, True, False, True)


def last(kind: str) -> Torch:
    return lambda x, w, t: walked(kind, x, w)[0][:, -1]


def both_ways(kind: str, x: torch.Tensor, w: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    forward = walked(kind, x, w, prefix="forward_")[0]
    return forward, walked(kind, x.flip(1), w, prefix="backward_")[0].flip(1)


def with_states(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, w: Tensors, t: bool) -> Any:
    series, last_h, last_c = walked("LSTM", x, w, (h[None], c[None]))
    return series, last_h[0], last_c[0]


def masked(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, root: float
) -> torch.Tensor:
    """Attention where the mask is above 0; where it is nowhere, the plain mean of the values."""
    scores = (q @ k.mT / root).masked_fill(mask <= 0, -torch.inf)
    shares = torch.softmax(scores, -1).nan_to_num(1 / k.shape[-2])
    return shares @ v


def heads(
    q: torch.Tensor, v: torch.Tensor, k: torch.Tensor, w: Tensors, n: int, causal: bool, mask: Any = None
) -> torch.Tensor:
    def split(x: torch.Tensor, name: str) -> torch.Tensor:
        y = x @ w[f"W_{name}"] + w.get(f"w0_{name}", torch.zeros(1))
        return y.reshape(*y.shape[:2], n, -1).transpose(1, 2)

    given = split(q, "query"), split(k, "key"), split(v, "value")
    if mask is None:
        found = F.scaled_dot_product_attention(*given, is_causal=causal)
    else:
        found = masked(*given, mask[:, None], math.sqrt(given[0].shape[-1]))
    return found.transpose(1, 2).flatten(2) @ w["W_output"] + w.get("w0_output", torch.zeros(1))


def packed_heads(x: torch.Tensor, w: Tensors) -> torch.Tensor:
    """PyTorch's own multi-head attention."""
    names = ("query", "key", "value")
    y, _ = F.multi_head_attention_forward(
        *[x.transpose(0, 1)] * 3, 4, 2, torch.cat([w[f"W_{n}"].T for n in names]),
        torch.cat([w[f"w0_{n}"] for n in names]), None, None, False, 0.0, w["W_output"].T, w["w0_output"],
    )  # fmt: skip
    return y.transpose(0, 1)


def attended(
    q: torch.Tensor, v: torch.Tensor, k: torch.Tensor, scale: Any, causal: bool = False
) -> torch.Tensor:
    root = math.sqrt(q.shape[-1])
    return F.scaled_dot_product_attention(q * root * scale, k, v, is_causal=causal)


def stepwise(x: torch.Tensor, w: Tensors, t: bool) -> torch.Tensor:
    y = F.conv2d(x.flatten(0, 1), w["W"], w["w0"], padding=1)
    return y.reshape(*x.shape[:2], *y.shape[1:])


def layer_normed(*sizes: int) -> Torch:
    return lambda x, w, t: F.layer_norm(x, sizes, w.get("gamma"), w.get("beta"), 1e-5)


WALK, STATE = (5, 3), (4,)

CASES: dict[str, Case] = {
    "batch norm of rows": one(lambda: BatchNormalization(0.8), (6,), (6,), normalised(0.8, 1e-5)),
    "batch norm of series": one(BatchNormalization, (5, 3), (5, 3), swapped(normalised(0.99, 1e-5))),
    "batch norm of images": one(
        lambda: BatchNormalization(0.9, 1e-3), (3, 4, 5), (3, 4, 5), normalised(0.9, 1e-3)
    ),
    "batch norm of volumes": one(BatchNormalization, (3, 2, 4, 2), (3, 2, 4, 2), normalised(0.99, 1e-5)),
    "layer norm": one(LayerNormalization, (3, 8), (3, 8), layer_normed(8)),
    "layer norm of images": one(lambda: LayerNormalization(1), (3, 4, 2), (3, 4, 2), layer_normed(3, 4, 2)),
    "layer norm, plain": one(
        lambda: LayerNormalization(center=False, scale=False), (8,), (8,), layer_normed(8)
    ),
    "rms norm": one(RMSNormalization, (3, 8), (3, 8), lambda x, w, t: F.rms_norm(x, (8,), w["gamma"], 1e-6)),
    "unit norm": one(UnitNormalization, (3, 8), (3, 8), lambda x, w, t: F.normalize(x, dim=-1)),
    "group norm": one(
        lambda: GroupNormalization(2), (6, 3, 2), (6, 3, 2),
        lambda x, w, t: F.group_norm(x, 2, w["gamma"], w["beta"]),
    ),
    "group norm of series": one(
        lambda: GroupNormalization(2), (5, 4), (5, 4),
        swapped(lambda x, w, t: F.group_norm(x, 2, w["gamma"], w["beta"])),
    ),
    "instance norm": one(
        InstanceNormalization, (3, 4, 2), (3, 4, 2),
        lambda x, w, t: F.instance_norm(x, weight=w["gamma"], bias=w["beta"]),
    ),
    "rnn": one(lambda: SimpleRNN(4), WALK, (4,), last("RNN")),
    "lstm": one(lambda: LSTM(4), WALK, (4,), last("LSTM")),
    "gru": one(lambda: GRU(4), WALK, (4,), last("GRU")),
    "lstm without bias": one(lambda: LSTM(4, use_bias=False), WALK, (4,), last("LSTM")),
    "rnn, relu, sequences": one(
        lambda: SimpleRNN(4, "tanh", return_sequences=True), WALK, (5, 4), lambda x, w, t: walked("RNN", x, w)[0]
    ),
    "gru backwards": one(
        lambda: GRU(4, return_sequences=True, go_backwards=True), WALK, (5, 4),
        lambda x, w, t: walked("GRU", x.flip(1), w)[0],
    ),
    "lstm with states": Case(
        lambda: LSTM(4, return_sequences=True, return_state=True), [WALK, STATE, STATE], [(5, 4), (4,), (4,)], with_states
    ),
    "bidirectional lstm": one(
        lambda: Bidirectional(LSTM(4, return_sequences=True)), WALK, (5, 8),
        lambda x, w, t: torch.cat(both_ways("LSTM", x, w), -1),
    ),
    "bidirectional gru, summed": one(
        lambda: Bidirectional(GRU(4), "sum"), WALK, (4,),
        lambda x, w, t: both_ways("GRU", x, w)[0][:, -1] + both_ways("GRU", x, w)[1][:, 0],
    ),
    "bidirectional, both": Case(
        lambda: Bidirectional(SimpleRNN(4, return_sequences=True), None), [WALK], [(5, 4), (5, 4)],
        lambda x, w, t: both_ways("RNN", x, w),
    ),
    "steps of dense": one(
        lambda: TimeDistributed(Dense(2)), (5, 3), (5, 2), lambda x, w, t: x @ w["W"] + w["w0"]
    ),
    "steps of convolution": one(lambda: TimeDistributed(Conv2D(2, 3)), (3, 2, 4, 4), (3, 2, 4, 4), stepwise),
    "steps of batch norm": one(
        lambda: TimeDistributed(BatchNormalization(0.8)), (3, 4), (3, 4), swapped(normalised(0.8, 1e-5))
    ),
    "self-attention": one(
        lambda: MultiHeadAttention(2, 2), (5, 4), (5, 4), lambda x, w, t: packed_heads(x, w)
    ),
    "causal attention of heads": one(
        lambda: MultiHeadAttention(2, 3, value_dim=2, n_units=6, causal=True, use_bias=False), (5, 4), (5, 6),
        lambda x, w, t: heads(x, x, x, w, 2, True),
    ),
    "attention of heads to others": Case(
        lambda: MultiHeadAttention(2, 3), [(5, 4), (3, 7)], [(5, 4)], lambda q, v, w, t: heads(q, v, v, w, 2, False)
    ),
    "attention of heads, three inputs": Case(
        lambda: MultiHeadAttention(2, 3), [(5, 4), (3, 7), (3, 2)], [(5, 4)],
        lambda q, v, k, w, t: heads(q, v, k, w, 2, False),
    ),
    "attention of heads, dropped": one(
        lambda: MultiHeadAttention(2, 2, p=0.3), (5, 4), (5, 4), lambda x, w, t: packed_heads(x, w), idle=False
    ),
    "attention of heads, masked": Case(
        lambda: MultiHeadAttention(2, 3), [(5, 4), (3, 7), (3, 2), (5, 3)], [(5, 4)],
        lambda q, v, k, m, w, t: heads(q, v, k, w, 2, False, m), fixed=1,
    ),
    "attention, masked": Case(
        Attention, [(5, 4), (3, 6), (3, 4), (3,)], [(5, 6)],
        lambda q, v, k, m, w, t: masked(q, k, v, m[:, None], 1), fixed=1,
    ),
    "additive attention": Case(
        AdditiveAttention, [(5, 4), (3, 4)], [(5, 4)],
        lambda q, v, w, t: torch.softmax((torch.tanh(q[:, :, None] + v[:, None]) * w["scale"]).sum(-1), -1) @ v,
    ),
    "additive attention without scale": Case(
        lambda: AdditiveAttention(False), [(5, 4), (3, 4)], [(5, 4)],
        lambda q, v, w, t: torch.softmax(torch.tanh(q[:, :, None] + v[:, None]).sum(-1), -1) @ v,
    ),
    "attention": Case(Attention, [(5, 4), (3, 4)], [(5, 4)], lambda q, v, w, t: attended(q, v, v, 1)),
    "attention, scaled and causal": Case(
        lambda: Attention(True, True), [(5, 4), (5, 6), (5, 4)], [(5, 6)],
        lambda q, v, k, w, t: attended(q, v, k, w["scale"], True),
    ),
}  # fmt: skip
