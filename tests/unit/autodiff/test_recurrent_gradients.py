"""LSTM, GRU and RNN nodes, values and gradients, against PyTorch."""

import numpy as np
import pytest
import torch

from ravop.autodiff import grad
from ravop.engine import Session
from ravop.errors import GradientError
from ravop.graph import Graph
from ravop.graph.dtypes import FLOAT
from ravop.graph.serde import to_bytes

STEPS, BATCH, FEATURES, HIDDEN = 5, 3, 4, 2
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TORCH_ORDER = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}
"""Which of ONNX's gates each of PyTorch's is."""


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape) * 0.8


def arrays(kind, directions):
    """x, w, r, b, h0 and for LSTM c0."""
    gates, states = GATES[kind] * HIDDEN, (directions, BATCH, HIDDEN)
    shapes = [
        (STEPS, BATCH, FEATURES),
        (directions, gates, FEATURES),
        (directions, gates, HIDDEN),
        (directions, 2 * gates),
    ]
    shapes += [states] * (2 if kind == "LSTM" else 1)
    return [values(*shape, seed=seed) for seed, shape in enumerate(shapes)]


def ours(kind, **attributes):
    """All outputs side by side, each times something else."""

    def run(x, w, r, b=None, *states):
        directions = w.static_shape[0]
        types = [(FLOAT, (STEPS, directions, BATCH, HIDDEN)), *[(FLOAT, (directions, BATCH, HIDDEN))] * 2]
        inputs = [x, w, r, b, None, *states]
        count = 3 if kind == "LSTM" else 2
        made = x.graph.apply(kind, inputs, {"hidden_size": HIDDEN, **attributes}, outputs=types[:count])
        return sum(
            (y.reshape(-1).concat(y.reshape(-1) ** 2).sum() * (i + 1.0) for i, y in enumerate(made)),
            start=0.0,
        )

    return run


def weights_for_torch(kind, w, r, b):
    found = []
    for direction in range(len(w)):
        order = TORCH_ORDER[kind]
        rows = [t[direction].reshape(GATES[kind], HIDDEN, -1)[order].reshape(-1, t.shape[2]) for t in (w, r)]
        biases = [half.reshape(-1, HIDDEN)[order].reshape(-1) for half in b[direction].chunk(2)]
        found += [*rows, *biases]
    return found


def theirs(kind, function, bidirectional=False, reverse=False):
    def run(x, w, r, b, *states):
        flat = weights_for_torch(kind, w, r, b)
        x = x.flip(0) if reverse else x
        start = states if kind == "LSTM" else states[0]
        y, *last = function(x, start, flat, True, 1, 0.0, True, bidirectional, False)
        y = y.flip(0) if reverse else y
        outputs = [y, *last]
        return sum((y.sum() + (y**2).sum()) * (i + 1.0) for i, y in enumerate(outputs))

    return run


KINDS = [
    ("LSTM", {}, torch._VF.lstm), ("GRU", {"linear_before_reset": 1}, torch._VF.gru), ("RNN", {}, torch._VF.rnn_tanh),
    ("RNN", {"activations": ["Relu"]}, torch._VF.rnn_relu),
]  # fmt: skip


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("kind", "attributes", "function"), KINDS, ids=["lstm", "gru", "rnn", "relu"])
def test_all_inputs_and_outputs(check_torch, kind, attributes, function, direction):
    both = direction == "bidirectional"
    if both and "activations" in attributes:
        attributes = {"activations": attributes["activations"] * 2}
    check_torch(
        ours(kind, direction=direction, **attributes), theirs(kind, function, both, direction == "reverse"),
        *arrays(kind, 1 + both), atol=1e-4,
    )  # fmt: skip


def test_gru_that_resets_before_the_product_without_biases_and_states(check_torch):
    """PyTorch has none, so it is written out; the gates are z, r, n."""

    def written_out(x, w, r):
        h, found = torch.zeros(BATCH, HIDDEN), []
        (wz, wr, wn), (rz, rr, rn) = (t[0].chunk(3) for t in (w, r))
        for step in x:
            z, reset = torch.sigmoid(step @ wz.T + h @ rz.T), torch.sigmoid(step @ wr.T + h @ rr.T)
            new = torch.tanh(step @ wn.T + (reset * h) @ rn.T)
            h = (1 - z) * new + z * h
            found.append(h)
        y = torch.stack(found)
        return y.sum() + (y**2).sum() + 2 * (h.sum() + (h**2).sum())

    check_torch(ours("GRU"), written_out, *arrays("GRU", 1)[:3])


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_only_the_last_state_matters(check_torch, kind):
    """As in a classifier of sequences: the gradient enters at the end alone."""
    function = {"LSTM": torch._VF.lstm, "GRU": torch._VF.gru, "RNN": torch._VF.rnn_tanh}[kind]
    x, w, r, b, *_ = arrays(kind, 1)

    def last(x, w, r, b):
        types = [(FLOAT, (STEPS, 1, BATCH, HIDDEN)), (FLOAT, (1, BATCH, HIDDEN))]
        attributes = {"hidden_size": HIDDEN} | ({"linear_before_reset": 1} if kind == "GRU" else {})
        return x.graph.apply(kind, [x, w, r, b], attributes, outputs=types)[1]

    def torch_last(x, w, r, b):
        zeros = torch.zeros(1, BATCH, HIDDEN)
        start = (zeros, zeros) if kind == "LSTM" else zeros
        return function(x, start, weights_for_torch(kind, w, r, b), True, 1, 0.0, True, False, False)[1]

    check_torch(last, torch_last, x, w, r, b)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_second_derivatives(check_torch, kind):
    """The gradient of the squared norm of the gradient by x."""
    function = {"LSTM": torch._VF.lstm, "GRU": torch._VF.gru}[kind]
    attributes = {"linear_before_reset": 1} if kind == "GRU" else {}

    def mine(*ops):
        g = grad(ours(kind, **attributes)(*ops), ops[0])
        return (g * g).sum()

    def torchs(*tensors):
        (g,) = torch.autograd.grad(theirs(kind, function)(*tensors), tensors[0], create_graph=True)
        return (g * g).sum()

    check_torch(mine, torchs, *arrays(kind, 1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("attributes", "more", "named"),
    [({"clip": 3.0}, [], "clip"), ({"activations": ["Sigmoid", "Relu", "Tanh"]}, [], "Relu"),
     ({"input_forget": 1}, [], "input_forget"), ({}, [None, np.array([5, 4, 3], np.int32)], "sequence_lens"),
     ({}, [None, None, None, None, np.ones((1, 3 * HIDDEN), np.float32)], "peepholes")],
    ids=["clip", "activations", "input_forget", "lengths", "peepholes"],
)  # fmt: skip
def test_other_cells_are_refused_by_name(attributes, more, named):
    graph = Graph()
    x, w, r = (graph.tensor(a, FLOAT) for a in arrays("LSTM", 1)[:3])
    inputs = [x, w, r, *(None if a is None else graph.tensor(a) for a in more)]
    types = [(FLOAT, (STEPS, 1, BATCH, HIDDEN))]
    (y,) = graph.apply("LSTM", inputs, {"hidden_size": HIDDEN, **attributes}, outputs=types)
    with pytest.raises(GradientError, match=rf"no gradient of LSTM: .*{named}"):
        grad(y.sum(), w)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_batches_as_the_first_axis(kind):
    """Which ONNX Runtime does not compute, so both layouts run on ONNX's evaluator and are compared."""
    x, w, r, b = arrays(kind, 1)[:4]
    graph = Graph()
    ops = [graph.placeholder(np.dtype(np.float64), a.shape) for a in (x, w, r, b)]
    for layout in (0, 1):
        first = ops[0].transpose((1, 0, 2)) if layout else ops[0]
        shape = (BATCH, STEPS, 1, HIDDEN) if layout else (STEPS, 1, BATCH, HIDDEN)
        (y,) = graph.apply(
            kind, [first, *ops[1:]], {"hidden_size": HIDDEN, "layout": layout}, outputs=[(first.dtype, shape)]
        )
        series = y.transpose((1, 2, 0, 3)) if layout else y
        for i, g in enumerate(grad((series * values(STEPS, 1, BATCH, HIDDEN, seed=9)).sum(), ops)):
            g.persist_op(f"{layout}_{i}")
    got = Session(to_bytes(graph.model()), engine="reference").run(
        {op.name: a for op, a in zip(ops, (x, w, r, b), strict=True)}
    )
    found = {name: got[entry.value] for name, entry in graph.persisted.items()}
    for i in range(len(ops)):
        np.testing.assert_allclose(found[f"1_{i}"], found[f"0_{i}"], rtol=1e-9, atol=1e-12)
