"""A gradient step of eight networks that PyTorch exported, against PyTorch eager. `python -m benchmarks networks`.

The networks are those that the tests import (`tests/support/networks.py`). Ours is the exported file, read by
`ravop.importing`, its gradient by `ravop.grad`, and SGD, in one `Scan` over the batches, as training runs it; theirs is a
Python loop with fused SGD. "Without optimizer" is a call of a session for each batch, which gives the loss and all
gradients, and in PyTorch the same up to `backward`. One thread each; both are measured in turn.
"""

from __future__ import annotations

import io
import logging
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click
import numpy as np
import onnx
import torch
from networks import CASES, Case, Decoder  # type: ignore[import-not-found]

import ravop as R
from benchmarks.report import Row, paired, ratio, table
from ravop.engine import Session
from ravop.graph.serde import to_bytes
from ravop.importing import OnnxModel, read_model
from ravop.ops.catalogue import node
from ravop.protocol.tensors import Array

ROUNDS = 15
SECONDS = 0.25
"""About how long one measurement takes."""
RATE = 0.001
GOAL, LEAST = 1.0, 0.7
"""Of the geometric mean, and of each network."""

Run = Callable[[], object]


@dataclass(frozen=True)
class Compared:
    """Seconds of a step in each round."""

    theirs: list[float]
    ours: list[float]


def exported(case: Case) -> bytes:
    """The network as PyTorch's exporter writes it, with names of its parameters and nothing folded."""
    x, _ = case.batch(False, 0)
    batch = ({0: torch.export.Dim.DYNAMIC},)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, and says so
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            case.module(False).train(), (torch.from_numpy(x),), dynamo=True, optimize=False, dynamic_shapes=batch,
            verbose=False,
        )  # fmt: skip
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data


def _gradients(
    model: OnnxModel, x: R.Op, y: R.Op, parameters: dict[str, R.Op]
) -> tuple[R.Op, dict[str, R.Op], dict[str, R.Op]]:
    """The loss, its gradients, and the new running statistics."""
    (logits,), moved = model.apply([x], parameters, training=True)
    loss = node("SoftmaxCrossEntropyLoss", [logits, y])
    names = [name for name in parameters if name not in model.statistics]
    found = R.grad(loss, [parameters[name] for name in names])
    return loss, dict(zip(names, found, strict=True)), moved


def in_scan(model: OnnxModel, xs: Array, ys: Array) -> tuple[Session, dict[str, Array]]:
    """All steps in one session's run, which gives the losses and the parameters in the end."""
    graph = R.Graph("networks")
    start = {name: graph.variable(array) for name, array in model.parameters.items()}

    def step(parameters: dict[str, R.Op], batch: tuple[R.Op, R.Op]) -> tuple[dict[str, R.Op], R.Op]:
        loss, gradients, moved = _gradients(model, *batch, parameters)
        stepped = {name: parameters[name] - g * RATE for name, g in gradients.items()}
        return parameters | stepped | moved, loss

    end, losses = R.scan(step, start, (R.t(xs), R.t(ys)))
    losses.persist_op("losses")
    for name, op in end.items():
        op.persist_op(f"end/{name}")
    return Session(to_bytes(graph.model())), graph.inputs


def single(model: OnnxModel, x: Array, y: Array) -> tuple[Session, dict[str, Array]]:
    """One step's loss and gradients; everything is an input, so that the engine computes nothing ahead."""
    graph = R.Graph("networks")
    parameters = {name: graph.input(array) for name, array in model.parameters.items()}
    loss, gradients, _ = _gradients(model, graph.input(x), graph.input(y), parameters)
    loss.persist_op("loss")
    for name, op in gradients.items():
        op.persist_op(f"grad/{name}")
    return Session(to_bytes(graph.model())), graph.inputs


class Theirs:
    """The same steps in PyTorch."""

    def __init__(self, case: Case, model: OnnxModel) -> None:
        self.module = case.module(False).train()
        self.module.load_state_dict(
            {n: torch.from_numpy(a.copy()) for n, a in model.parameters.items()}, strict=False
        )
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=RATE, fused=True)

    def gradients(self, x: torch.Tensor, y: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self.module(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def steps(self, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[float]:
        found = []
        for batch in batches:
            found.append(self.gradients(*batch))
            self.optimizer.step()
        return found


def _timed(run: Run, count: int) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / count


def compare(case: Case, rounds: int) -> tuple[Compared, Compared]:
    """Steps with the optimizer in a `Scan`, and steps without, one by one."""
    model = read_model(exported(case))
    theirs = Theirs(case, model)
    x, y = case.batch(False, 0)
    first = torch.from_numpy(x), torch.from_numpy(y)
    theirs.gradients(*first)
    count = max(2, min(200, int(SECONDS / _timed(lambda: theirs.gradients(*first), 1))))
    data = [case.batch(False, number) for number in range(count)]
    xs, ys = (np.stack(arrays) for arrays in zip(*data, strict=True))
    batches = [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in data]

    session, inputs = in_scan(model, xs, ys)
    np.testing.assert_allclose(session.run(inputs)[session.outputs[0]], theirs.steps(batches), rtol=1e-3)
    trained = paired(
        lambda: _timed(lambda: theirs.steps(batches), count), lambda: _timed(lambda: session.run(inputs), count), rounds
    )  # fmt: skip
    alone, given = single(model, x, y)
    alone.run(given)

    def many(run: Run) -> Run:
        return lambda: [run() for _ in range(count)]

    stepped = paired(
        lambda: _timed(many(lambda: theirs.gradients(*first)), count),
        lambda: _timed(many(lambda: alone.run(given)), count),
        rounds,
    )
    return Compared(*trained), Compared(*stepped)


def _row(what: str, found: Compared) -> tuple[Row, float]:
    low, middle, high = ratio(found.theirs, found.ours)
    mine, torchs = (statistics.median(seconds) * 1e3 for seconds in (found.ours, found.theirs))
    note = f"{low:.2f} to {high:.2f}; a step {mine:,.2f} ms, PyTorch {torchs:,.2f} ms"
    return Row(what, f"{middle:.2f}× as fast", f"≥ {LEAST}×", note), middle


def _thousand() -> bytes:
    """A decoder of about 1,000 nodes, a third of them arithmetic on shapes, by PyTorch's older exporter."""
    file = io.BytesIO()
    words = torch.zeros((2, 16), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Decoder(64, 16, 32, 4, 8).train(), (words,), file, dynamo=False, opset_version=20, do_constant_folding=False,  # type: ignore[arg-type]
            training=torch.onnx.TrainingMode.TRAINING, input_names=["words"], dynamic_axes={"words": {0: "batch"}},
        )  # fmt: skip
    return file.getvalue()


def import_row(times: int = 5) -> Row:
    """From the bytes of a file to the gradients of all its parameters, as ops."""
    data, words = _thousand(), np.zeros((2, 16), dtype=np.int64)
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        graph = R.Graph("networks")
        model = read_model(data)
        parameters = {name: graph.variable(array) for name, array in model.parameters.items()}
        _gradients(model, graph.tensor(words), graph.tensor(words), parameters)
        seconds.append(time.perf_counter() - start)
    before, after = len(onnx.load_from_string(data).graph.node), len(graph.main.ir)
    note = f"{min(seconds):.2f} to {max(seconds):.2f} s; {after:,} nodes in the graph then"
    what = f"import and gradient of a model of {before:,} nodes"
    return Row(what, f"{statistics.median(seconds):.2f} s", "≤ 1 s", note)


def rows(names: Sequence[str] = (), rounds: int = ROUNDS) -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: list[Row] = []
    ratios: dict[str, list[float]] = {"in a loop with SGD": [], "without optimizer": []}
    for name in names or CASES:
        torch.manual_seed(0)
        for (kind, so_far), measured in zip(ratios.items(), compare(CASES[name], rounds), strict=True):
            row, middle = _row(f"{name}, {kind}", measured)
            found.append(row)
            so_far.append(middle)
    for kind, so_far in ratios.items():
        mean = math.exp(statistics.fmean(map(math.log, so_far)))
        found.append(
            Row(f"geometric mean, {kind}", f"{mean:.2f}× as fast", f"≥ {GOAL}×", f"{len(so_far)} networks")
        )
    torch.set_num_threads(threads)
    return [*found, import_row()]


@click.command()
@click.argument("names", nargs=-1)
@click.option("--rounds", default=ROUNDS, show_default=True, help="Measurements of each.")
def main(names: tuple[str, ...], rounds: int) -> None:
    """Compare the networks whose names hold one of NAMES, by default all."""
    chosen = [name for name in CASES if not names or any(part in name for part in names)]
    click.echo(table(rows(chosen, rounds)))


if __name__ == "__main__":
    main()
