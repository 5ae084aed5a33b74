"""How gradients are checked: against central differences in float64."""

import numpy as np
import pytest

from ravop.autodiff import grad
from ravop.engine import Session
from ravop.errors import ComputeError
from ravop.graph import Graph
from ravop.graph.serde import to_bytes

STEP = 1e-6


def load(graph):
    """A session of the graph, on the reference evaluator where ONNX Runtime has no float64 kernel."""
    data = to_bytes(graph.model())
    try:
        return Session(data)
    except ComputeError as error:
        if "NOT_IMPLEMENTED" not in str(error):
            raise
        return Session(data, engine="reference")


def differences(loss, arrays, position):
    """The central differences of `loss(arrays)` for each element of `arrays[position]`."""
    found = np.zeros_like(arrays[position])
    for index in np.ndindex(found.shape):
        values = []
        for step in (STEP, -STEP):
            moved = [a.copy() for a in arrays]
            moved[position][index] += step
            values.append(loss(moved))
        found[index] = (values[0] - values[1]) / (2 * STEP)
    return found


@pytest.fixture(scope="session")
def check_gradients():
    """`check(function, *arrays)`: the gradient of a weighted sum of `function(*ops)` with respect to every op, checked.

    `times=2` checks the gradient of that gradient too.
    """

    def check(function, *arrays, times=1, rtol=1e-4, atol=1e-6):
        arrays = [np.asarray(a, dtype=np.float64) for a in arrays]
        graph = Graph()
        ops = [graph.placeholder(a.dtype, a.shape) for a in arrays]
        rng = np.random.default_rng(7)
        out = function(*ops)
        loss = (out * rng.normal(size=out.static_shape)).sum()
        grads = grad(loss, ops)
        for _ in range(times - 1):
            loss = sum(((g * rng.normal(size=g.static_shape)).sum() for g in grads), start=0.0)
            grads = grad(loss, ops)
        assert [g.shape for g in grads] == [op.shape for op in ops]
        for name, op in {"loss": loss, **{f"grad_{i}": g for i, g in enumerate(grads)}}.items():
            op.persist_op(name)
        session = load(graph)
        outputs = [graph.persisted[name].value for name in ("loss", *(f"grad_{i}" for i in range(len(ops))))]

        def run(values):
            return session.run({op.name: v for op, v in zip(ops, values, strict=True)})

        got = run(arrays)
        for position in range(len(arrays)):
            expected = differences(lambda values: float(run(values)[outputs[0]].item()), arrays, position)
            np.testing.assert_allclose(
                got[outputs[1 + position]], expected, rtol=rtol, atol=atol, err_msg=f"input {position}"
            )

    return check


@pytest.fixture(scope="session")
def check_torch():
    """`check(ours, theirs, *arrays)`: outputs and gradients of a weighted sum, in float32, against PyTorch's.

    `times=2` checks the gradients of a weighted sum of those gradients too; then what is summed is squared.
    """
    import torch

    def check(ours, theirs, *arrays, rtol=1e-4, atol=1e-5, integers=(), times=1):
        rng = np.random.default_rng(11)
        arrays = [np.asarray(a, dtype=np.float32) for a in arrays]
        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        graph = Graph()
        ops = [graph.placeholder(a.dtype, a.shape) for a in arrays]
        out = theirs(*tensors, *(torch.tensor(i) for i in integers))
        result = ours(*ops, *(graph.tensor(i) for i in integers))
        named, expected = {"out": result}, {"out": out}
        weights = rng.normal(size=tuple(out.shape)).astype(np.float32)
        # Squared where it is differentiated twice, so that the second gradient is nowhere zero for certain.
        loss, their_loss = (result**times * weights).sum(), (out**times * torch.tensor(weights)).sum()
        for time in range(times):
            mine, found = (
                grad(loss, ops),
                torch.autograd.grad(their_loss, tensors, create_graph=True, materialize_grads=True),
            )
            named |= {f"{time} {i}": g for i, g in enumerate(mine)}
            expected |= {f"{time} {i}": g for i, g in enumerate(found)}
            draws = [rng.normal(size=a.shape).astype(np.float32) for a in arrays]
            loss = sum(((g * w).sum() for g, w in zip(mine, draws, strict=True)), start=0.0)
            their_loss = sum((g * torch.tensor(w)).sum() for g, w in zip(found, draws, strict=True))
        for name, op in named.items():
            op.persist_op(name)
        got = Session(to_bytes(graph.model())).run(
            graph.inputs | {op.name: a for op, a in zip(ops, arrays, strict=True)}
        )
        for name, tensor in expected.items():
            value = got[graph.persisted[name].value]
            np.testing.assert_allclose(value, tensor.detach().numpy(), rtol=rtol, atol=atol, err_msg=name)

    return check
