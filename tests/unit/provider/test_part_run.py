"""Parts of gangs as the worker computes them, ranks on threads: against NumPy."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import gang_parts as parts
import msgspec
import numpy as np
import pytest

from provider.engine.parts import PartRun
from ravop.engine import Session
from ravop.errors import ComputeError, MessageError
from ravop.protocol.parts import (
    Compute,
    Exchange,
    Part,
    PartCarry,
    PartSlice,
    PartStack,
    Repeat,
    Shared,
    Wire,
)
from ravop.protocol.tensors import DTYPES

SIDE, LENGTH = 8, 12
replace = msgspec.structs.replace


class Mail:
    """One rank's mail, through queues in this process."""

    def __init__(self, boxes: dict[tuple[int, int], queue.SimpleQueue[bytearray]], rank: int) -> None:
        self._boxes, self._rank = boxes, rank

    def send(self, ranks: Sequence[int], payload: Sequence[memoryview]) -> None:
        for rank in ranks:
            self._boxes[self._rank, rank].put(bytearray().join(payload))

    def receive(self, rank: int) -> bytearray:
        return self._boxes[rank, self._rank].get(timeout=10)


class Sends(Mail):
    """The mail of a rank whose only fellow has sent `payload` already."""

    def __init__(self, payload: bytes) -> None:
        boxes: dict[tuple[int, int], queue.SimpleQueue[bytearray]] = {
            (0, 1): queue.SimpleQueue(),
            (1, 0): queue.SimpleQueue(),
        }
        boxes[1, 0].put(bytearray(payload))
        super().__init__(boxes, 0)


def sessions(side: int = SIDE) -> Callable[[str], Session]:
    loaded = {sha: Session(data) for sha, data in parts.models(side).items()}
    return loaded.__getitem__


def run_alone(part: Part, inputs: parts.Values, payload: bytes = b"") -> parts.Values:
    return PartRun(part, sessions(), Sends(payload)).run(inputs)


def run_gang(start: int, stop: int) -> list[parts.Values]:
    values = parts.problem(SIDE, LENGTH)
    boxes: dict[tuple[int, int], queue.SimpleQueue[bytearray]] = {
        (a, 1 - a): queue.SimpleQueue() for a in (0, 1)
    }

    def rank(number: int) -> parts.Values:
        part = parts.part(number, SIDE, start, stop, LENGTH)
        return PartRun(part, sessions(), Mail(boxes, number)).run(parts.inputs_of(number, values))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(rank, (0, 1)))


@pytest.mark.parametrize(("start", "stop"), [(0, LENGTH), (5, 9), (11, 12)])
def test_two_ranks_give_what_numpy_gives(start: int, stop: int) -> None:
    values = parts.expected(parts.problem(SIDE, LENGTH), start, stop)
    for result in run_gang(start, stop):
        for name, found in result.items():
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, values[name], rtol=1e-4, atol=1e-6)


def test_all_ranks_hold_the_same_bits_of_what_all_compute() -> None:
    one, other = run_gang(0, LENGTH)
    np.testing.assert_array_equal(one["x"], other["x"])


def inner_part(length: int) -> Part:
    """Two iterations, in each of which a loop inside adds the row of the iteration and each of its elements to x."""
    update = list(parts.models(SIDE))[1]
    wires = (Wire("p", "u"), Wire("q", "row"), Wire("b", "piece"))
    inner = Repeat(
        length=length,
        carries=(PartCarry(init="xi", body_in="u", body_out="t", final="after"),),
        sliced=(PartSlice(source="pieces", body_in="piece"),),
        steps=(Compute(subgraph=update, inputs=wires, outputs=(Wire("y", "t"),)),),
    )
    loop = Repeat(
        length=2,
        carries=(PartCarry(init="x0", body_in="xi", body_out="after", final="x"),),
        sliced=(PartSlice(source="rows", body_in="row"), PartSlice(source="all", body_in="pieces")),
        stacked=(PartStack(body_out="after", stacked="states"),),
        steps=(inner,),
    )
    return Part(rank=0, ranks=2, start=0, stop=2, loop=loop)


@pytest.mark.parametrize("length", [3, 0])
def test_loops_inside_are_run_also_where_they_have_no_iteration(length: int) -> None:
    random = np.random.default_rng(1)
    inputs = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in {"x0": (SIDE,), "rows": (2, SIDE), "all": (2, length, SIDE)}.items()
    }
    result = run_alone(inner_part(length), inputs)
    x, states = inputs["x0"], []
    for row, pieces in zip(inputs["rows"], inputs["all"], strict=True):
        for piece in pieces:
            x = np.tanh(x + row + piece)
        states.append(x)
    np.testing.assert_allclose(result["x"], x, rtol=1e-4)
    np.testing.assert_allclose(result["states"], np.stack(states), rtol=1e-4)


def swap_part(shared: tuple[Shared, ...]) -> Part:
    """One iteration that sends nothing and stacks all that rank 1 sends."""
    loop = Repeat(
        length=1,
        stacked=tuple(PartStack(body_out=one.name, stacked=f"{one.name}s") for one in shared),
        steps=(Exchange(takes={1: shared}),),
    )
    return Part(rank=0, ranks=2, start=0, stop=1, loop=loop)


def test_values_of_every_dtype_and_shape_arrive_as_they_were_sent() -> None:
    random = np.random.default_rng(2)
    shapes: list[tuple[int, ...]] = [(), (3,), (0, 4), (1, 5)]
    sent = {
        f"v{number}": random.integers(0, 2, shapes[number % 4]).astype(dtype)
        for number, dtype in enumerate(sorted(DTYPES, key=str))
    }
    shared = tuple(
        Shared(name=name, dtype=str(value.dtype), shape=value.shape) for name, value in sent.items()
    )
    results = run_alone(swap_part(shared), {}, b"".join(value.tobytes() for value in sent.values()))
    for name, value in sent.items():
        assert results[f"{name}s"].dtype == value.dtype
        np.testing.assert_array_equal(results[f"{name}s"], value[np.newaxis])


@pytest.mark.parametrize("payload", [b"", bytes(SIDE * 4 - 1), bytes(SIDE * 4 + 1)])
def test_a_message_of_another_length_is_refused_with_the_rank_that_sent_it(payload: bytes) -> None:
    inputs = parts.inputs_of(0, parts.problem(SIDE, LENGTH))
    with pytest.raises(MessageError, match="rank 1"):
        run_alone(parts.part(0, SIDE, 0, LENGTH, LENGTH), inputs, payload)


def test_a_failing_node_is_told_with_its_model() -> None:
    inputs = parts.inputs_of(0, parts.problem(SIDE, LENGTH)) | {"columns": np.array([0, 1, 2, SIDE])}
    run = PartRun(parts.part(0, SIDE, 0, LENGTH, LENGTH), sessions(), Sends(b""))
    with pytest.raises(ComputeError) as caught:
        run.run(inputs)
    assert caught.value.problem.op == "n0"
    assert run.computing == next(iter(parts.models(SIDE)))


def test_a_value_that_is_not_what_the_others_wait_for_is_not_sent() -> None:
    part = parts.part(0, SIDE, 0, LENGTH, LENGTH)
    product, exchange, update = part.loop.steps
    assert isinstance(exchange, Exchange)
    wrong = replace(exchange, gives=(replace(exchange.gives[0], shape=(SIDE + 1,)),))
    bad = replace(part, loop=replace(part.loop, steps=(product, wrong, update)))
    with pytest.raises(ComputeError, match="promised"):
        run_alone(bad, parts.inputs_of(0, parts.problem(SIDE, LENGTH)))


def test_a_source_that_is_too_short_is_refused_before_the_first_iteration() -> None:
    inputs = parts.inputs_of(0, parts.problem(SIDE, LENGTH))
    with pytest.raises(ComputeError, match="'bs'"):
        run_alone(parts.part(0, SIDE, 0, 1, LENGTH), inputs | {"bs": inputs["bs"][:-1]})
