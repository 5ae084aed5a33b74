"""What `strategy="auto"` chooses for which machines and lines, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ravop as R
from ravdl.neural_networks import NeuralNetwork
from ravdl.neural_networks.layers import Activation, Conv2D, Dense, Flatten, Layer
from ravdl.neural_networks.loss_functions import CrossEntropy
from ravdl.neural_networks.optimizers import Adam
from ravdl.strategies import DataParallel, LocalSGD, Sequential, run
from ravdl.strategies.choice import Machine, Step, alone, by_workers, chosen, in_shards, step_cost, told
from ravop.client.api import Fleet
from ravop.client.display import show_plan
from ravop.graph.graph import current_graph_or_none
from ravop.graph.manifest import MAX_NOTE, MAX_NOTES, decode_manifest, encode_manifest
from ravop.graph.serde import to_bytes
from ravop.protocol.messages import PlanSummary, ProviderInfo

FAST_LINE, SLOW_LINE = 300e6, 2.5e6


def network(*layers: Layer) -> NeuralNetwork:
    made = NeuralNetwork(Adam(), CrossEntropy)
    for layer in (*layers, Activation("softmax")):
        made.add(layer)
    return made


def large() -> NeuralNetwork:
    """Much to compute and little to exchange."""
    return network(
        Conv2D(32, 3, input_shape=(3, 32, 32)),
        Activation("relu"),
        Conv2D(8, 3, stride=4),
        Flatten(),
        Dense(10),
    )


def small() -> NeuralNetwork:
    return network(Dense(16, input_shape=(8,)), Activation("relu"), Dense(10))


def data(made: NeuralNetwork, samples: int = 256) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((samples, *made.input_shape), np.float32), np.zeros(samples, np.int64)


def step_of(made: NeuralNetwork, size: int = 128) -> Step:
    return step_cost(made._recipe(), made._samples(*data(made)), size)


def machines(count: int, link: float, gflops: float = 20.0) -> list[Machine]:
    return [Machine(gflops, link)] * count


# ── the choice ──────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("count", [2, 4])
def test_batches_are_shared_where_that_pays(count: int) -> None:
    step = step_of(large())
    choice = chosen(step, machines(count, FAST_LINE), [])
    assert choice.strategy == DataParallel(count)
    assert f"DataParallel({count}) on {count} providers" in choice.note
    assert (
        in_shards(step, machines(count, FAST_LINE), count).total
        < alone(step, machines(1, 0)).total / count * 1.3
    )


def test_a_slow_line_is_told_about_local_sgd() -> None:
    choice = chosen(step_of(large()), machines(4, SLOW_LINE / 100), [])
    assert choice.strategy == Sequential()
    assert "one machine alone is faster" in choice.note
    assert "LocalSGD(workers=" in choice.note


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        ([], "no provider was connected"),
        (machines(1, FAST_LINE), "one provider was connected"),
        (machines(3, 0), "not measured yet"),
        ([Machine(20, FAST_LINE), Machine(1, FAST_LINE)], "one machine alone is faster"),
    ],
)
def test_where_sharing_does_not_pay_nothing_is_shared(there: list[Machine], reason: str) -> None:
    choice = chosen(step_of(large()), there, [])
    assert choice.strategy == Sequential()
    assert reason in choice.note


def test_slow_machines_are_left_out() -> None:
    there = [*machines(3, FAST_LINE), *machines(3, FAST_LINE, gflops=1.0)]
    assert chosen(step_of(large()), there, []).strategy == DataParallel(3)


class Mixing(Layer):
    mixes_examples = True

    def call(self, x: R.Op, weights: Any) -> R.Op:
        return x


def test_layers_that_need_whole_batches_get_them() -> None:
    made = network(Mixing(input_shape=(3, 32, 32)), *large_layers())
    choice = chosen(step_of(made), machines(2, FAST_LINE), made.layers)
    assert choice.strategy == Sequential()
    assert "Mixing_1 needs whole batches" in choice.note


def large_layers() -> list[Layer]:
    return [Conv2D(32, 3), Activation("relu"), Conv2D(8, 3, stride=4), Flatten(), Dense(10)]


def test_the_estimate_goes_by_examples_bytes_and_rounds() -> None:
    step, there = step_of(large()), machines(4, SLOW_LINE)
    assert step.seconds(64, 20) == pytest.approx(step.seconds(128, 20) / 2, rel=0.1)
    weights = sum(array.nbytes for array in large().get_weights())
    assert step.weights == weights
    assert in_shards(step, there, 2).exchanging == pytest.approx(weights / SLOW_LINE, rel=0.2)
    whole, bytes_ = (by_workers(step, there, LocalSGD(4, 100, transfer=t)) for t in ("float32", "int8"))
    assert bytes_.exchanging < whole.exchanging < in_shards(step, there, 4).exchanging / 100
    assert bytes_.computing == pytest.approx(alone(step, there).total / 4)


def test_far_machines_meet_slowly() -> None:
    step = step_of(large())
    near, far = (in_shards(step, [Machine(20, FAST_LINE, t)] * 2, 2) for t in (0.0, 0.2))
    assert far.exchanging - near.exchanging == pytest.approx(0.2, rel=0.05)


def test_what_was_asked_for_is_estimated_too() -> None:
    step, there = step_of(large()), machines(2, SLOW_LINE / 100)
    assert "one machine alone would be faster" in told(DataParallel(2), step, there)
    assert "faster: Sequential()" not in told(DataParallel(2), step, machines(2, FAST_LINE))
    assert "LocalSGD(2) on 2 providers" in told(LocalSGD(2, 50), step, there)
    assert told(Sequential(), step, there) == ""


# ── in fit ──────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Connect so many providers with lines of that speed; what it gives grows with each question for them."""

    def connect(count: int, link: float, local: bool = False) -> list[int]:
        asked: list[int] = []
        found = tuple(
            ProviderInfo(
                provider_id=f"p{n}", name=f"p{n}", connected=True, slots=1, gflops=20.0, busy=0, link=link,
                resting="it failed" if n == 0 else "",
            )
            for n in range(count + 1)
        )  # fmt: skip
        monkeypatch.setattr(run, "connected", lambda: True)
        monkeypatch.setattr(run, "fleet", lambda: asked.append(1) or Fleet(found, local, 0.0))
        return asked

    return connect


def test_fit_asks_who_is_connected(graph: R.Graph, connect: Callable[..., list[int]]) -> None:
    made = large()
    x, y = data(made)
    connect(2, FAST_LINE)
    history = made.fit(x, y, 1, 128, save_model=True)
    assert current_graph_or_none() is graph
    (note,) = graph.notes
    assert note.startswith("fit: chose DataParallel(2) on 2 providers: about ")
    made.fit(x, y, 1, 128, save_model=True, strategy=DataParallel(4))
    assert graph.notes[1].startswith("fit_2: as asked, DataParallel(4) on 2 providers")
    made.fit(x, y, 1, 32, save_model=True, strategy=LocalSGD(2, 10))
    assert graph.notes[2].startswith("fit_3: as asked, LocalSGD(2) on 2 providers")
    assert graph.notes[2].endswith("Workers meet after each epoch, that is every 4 steps")
    results = R.run_local()
    assert history.read_from(results.__getitem__).by_batch().shape == (1, 2)


def test_lines_of_this_machine_need_not_be_measured(
    graph: R.Graph, connect: Callable[..., list[int]]
) -> None:
    made = large()
    connect(2, 0.0, local=True)
    made.fit(*data(made), 1, 128)
    assert graph.notes[0].startswith("fit: chose DataParallel(2)")


def test_a_trifle_stays_as_it_is(connect: Callable[..., list[int]]) -> None:
    """Small models: nobody is asked, and the graph is that of `Sequential`, byte for byte."""

    def made_by(strategy: Any) -> bytes:
        graph = R.Graph()
        made = small()
        made.fit(*data(made), 2, 32, shuffle=True, save_model=True, strategy=strategy)
        assert [note for note in graph.notes if "too little to share" not in note] == []
        return to_bytes(graph.model())

    asked = connect(4, FAST_LINE)
    assert made_by("auto") == made_by(Sequential())
    assert asked == []


def test_without_a_coordinator_nothing_is_shared(graph: R.Graph) -> None:
    made = large()
    made.fit(*data(made), 1, 128, save_model=True)
    assert graph.notes == ["fit: Sequential(): no coordinator was connected when fit was called"]


# ── notes ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_notes_are_shown_with_the_plan(graph: R.Graph, capsys: pytest.CaptureFixture[str]) -> None:
    graph.note("chose this")
    graph.note("chose this")
    plan = PlanSummary(
        units=(),
        flops=0.0,
        steps=0,
        useful_providers=1,
        fleet_seconds=None,
        single_seconds=None,
        notes=("planned that",),
    )
    show_plan("name", "id", plan, graph.notes)
    text = capsys.readouterr().out
    assert text.count("note: chose this") == text.count("note: planned that") == 1


def test_notes_are_bounded_and_travel_in_the_manifest(graph: R.Graph) -> None:
    for number in range(MAX_NOTES + 5):
        graph.note(f"{number}" + "x" * 2 * MAX_NOTE)
    sent = decode_manifest(encode_manifest(graph.manifest([])))
    assert list(sent.notes) == graph.notes
    assert len(sent.notes) == MAX_NOTES
    assert {len(note) for note in sent.notes} == {MAX_NOTE}
