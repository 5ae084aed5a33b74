"""Parts of gangs that make no sense are refused before anything is computed."""

from __future__ import annotations

from typing import Any

import gang_parts as parts
import msgspec
import pytest

from ravop.errors import MessageError
from ravop.protocol.parts import (
    MAX_DEPTH,
    Compute,
    Exchange,
    Part,
    PartCarry,
    PartStack,
    Repeat,
    Shared,
    Wire,
    check_part,
    largest_messages,
)

INPUTS = ("x0", "bs", "a", "columns")
OUTPUTS = ("x", "norms")
replace = msgspec.structs.replace


def part() -> Part:
    return parts.part(1, side=4, start=2, stop=5, length=9)


def with_loop(**changes: Any) -> Part:
    return replace(part(), loop=replace(part().loop, **changes))


def with_step(place: int, **changes: Any) -> Part:
    steps = list(part().loop.steps)
    steps[place] = replace(steps[place], **changes)
    return with_loop(steps=tuple(steps))


def nested(depth: int) -> Repeat:
    return Repeat(length=1, steps=(nested(depth - 1),) if depth > 1 else ())


def test_a_part_that_makes_sense_is_taken_also_without_all_of_its_results() -> None:
    check_part(part(), INPUTS, OUTPUTS)
    check_part(part(), INPUTS, ())


def test_a_part_survives_the_wire() -> None:
    data = msgspec.msgpack.encode(part())
    assert msgspec.msgpack.decode(data, type=Part) == part()


def test_a_loop_inside_gives_its_results_to_the_steps_after_it() -> None:
    inner = Repeat(
        length=3,
        carries=(PartCarry(init="y", body_in="u", body_out="u", final="v"),),
        stacked=(PartStack(body_out="b", stacked="w"),),
        steps=(),
    )
    after = Compute(subgraph="0" * 64, inputs=(Wire("p", "v"), Wire("q", "w")), outputs=(Wire("r", "z"),))
    check_part(with_loop(steps=(*part().loop.steps, inner, after)), INPUTS, OUTPUTS)
    with pytest.raises(MessageError, match="'v'"):
        check_part(with_loop(steps=(*part().loop.steps, after, inner)), INPUTS, OUTPUTS)


def test_the_largest_messages_are_told_by_rank() -> None:
    assert largest_messages(part()) == (16, {0: 16})


SHARED = Shared(name="p0", dtype="float32", shape=(4,))
BAD = {
    "rank": replace(part(), rank=2),
    "no iteration": replace(part(), start=5),
    "past the end": replace(part(), stop=10),
    "unknown init": with_loop(carries=(PartCarry(init="nothing", body_in="xi", body_out="y", final="x"),)),
    "unknown body_out": with_loop(stacked=(PartStack(body_out="nothing", stacked="norms"),)),
    "read before it is made": with_loop(steps=tuple(reversed(part().loop.steps))),
    "made twice": with_loop(steps=(*part().loop.steps, part().loop.steps[0])),
    "an input made again": with_step(0, outputs=(Wire("p", "a"),)),
    "a port twice": with_step(0, inputs=(Wire("a", "a"), Wire("a", "xi"))),
    "a result twice": with_loop(stacked=(PartStack(body_out="norm", stacked="x"),)),
    "to itself": with_step(1, to=(1,)),
    "to a rank that is none": with_step(1, to=(0, 2)),
    "to a rank twice": with_step(1, to=(0, 0)),
    "of itself": with_step(1, takes={1: (SHARED,)}),
    "nothing of a rank": with_step(1, takes={0: ()}),
    "values for nobody": with_step(1, to=()),
    "dtype": with_step(1, takes={0: (replace(SHARED, dtype="object"),)}),
    "size": with_step(1, takes={0: (replace(SHARED, shape=(2**30,)),)}),
    "too deep": with_loop(steps=(*part().loop.steps, nested(MAX_DEPTH))),
    "too many steps": with_loop(steps=(*part().loop.steps, *[Exchange()] * 10_000)),
    "a stack of nothing": with_loop(
        steps=(
            *part().loop.steps,
            Repeat(length=0, stacked=(PartStack(body_out="y", stacked="w"),), steps=()),
        )
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_part_that_makes_no_sense_is_refused(bad: Part) -> None:
    with pytest.raises(MessageError):
        check_part(bad, INPUTS, OUTPUTS)


def test_inputs_and_outputs_are_those_of_the_task() -> None:
    with pytest.raises(MessageError, match="'columns'"):
        check_part(part(), INPUTS[:3], OUTPUTS)
    with pytest.raises(MessageError, match="loss"):
        check_part(part(), INPUTS, (*OUTPUTS, "loss"))
