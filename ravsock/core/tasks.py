"""What a task needs and gives, from the plan: inputs, expected outputs, what it is called; and is a result
what was asked?

Pure; used by the store when a task is leased and when its result comes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from ravop.errors import ComputeError, MessageError, Problem
from ravop.protocol.messages import Output, OutputSpec
from ravop.protocol.tensors import INLINE_LIMIT, Blob, Inline, TensorRef, tensor_header
from ravsock.core.plan import START, STOP, Cost, Gang, Loop, Port, Subgraph, ValueType
from ravsock.core.program import Place, Program, iteration_of, key_of

HEADER = 256
"""Bytes of an `.npy` header, at most, for a tensor of few axes."""


class Need(msgspec.Struct, frozen=True):
    """An input of the shipped model: the value at `place`, or the number of an iteration."""

    name: str
    place: Place | None = None
    number: int = 0


def model_of(program: Program, path: str, unit: int) -> Subgraph:
    """The subgraph that is shipped for the unit, which is no opened loop."""
    found = program.unit(path, unit)
    subgraph = found.chunk if isinstance(found, Loop) else found
    assert subgraph is not None, "an opened loop is not shipped"
    return subgraph


def cost_of(program: Program, path: str, unit: int) -> Cost:
    return program.unit(path, unit).cost


def length_of(program: Program, path: str, unit: int) -> int | None:
    """Iterations of a chunked loop; None for a subgraph."""
    found = program.unit(path, unit)
    return found.length if isinstance(found, Loop) else None


def gangs_of(program: Program, path: str, unit: int) -> tuple[Gang, ...]:
    """Ways to run a chunked loop on several providers at once."""
    found = program.unit(path, unit)
    return found.gangs if isinstance(found, Loop) else ()


def models_of(program: Program, path: str, unit: int) -> set[str]:
    """The hashes of all models that may be shipped for the unit: its own and those of its gangs."""
    gangs = gangs_of(program, path, unit)
    return {model_of(program, path, unit).model}.union(*(gang.nodes for gang in gangs))


def failed_model(program: Program, path: str, unit: int, subgraph: str | None) -> Subgraph:
    """The unit's model, or that of a gang's part which failed: with its nodes, for whoever names the line."""
    model = model_of(program, path, unit)
    nodes = (gang.nodes[subgraph] for gang in gangs_of(program, path, unit) if subgraph in gang.nodes)
    return msgspec.structs.replace(model, nodes=next(nodes, model.nodes))


def needs(program: Program, path: str, unit: int, start: int, stop: int) -> list[Need]:
    """Where each input of the task's model comes from."""
    found = program.unit(path, unit)
    ports = model_of(program, path, unit).inputs
    if not isinstance(found, Loop):
        return [Need(port.name, program.place(path, port.value)) for port in ports]
    listed = {port.value: port.name for port in ports}
    begin, end = found.first + start, found.first + stop
    ranged = [Need(listed.get(START, START), number=begin), Need(listed.get(STOP, STOP), number=end)]
    return (
        _chunk_values(program, path, found, [p for p in ports if p.value not in (START, STOP)], start)
        + ranged
    )


def large_inputs(program: Program, path: str, unit: int) -> tuple[list[str], bool]:
    """The inputs of the graph that the unit reads, which are blobs, and whether it reads results that may be: a
    result is one only where its type does not say that it is small."""
    read = [port.value for port in model_of(program, path, unit).inputs if port.value not in (START, STOP)]
    bound = [value for value in read if value in program.inputs]
    return bound, any(not _is_small(program.value_type(value)) for value in set(read) - set(bound))


def _is_small(kind: ValueType) -> bool:
    known = [size for size in kind.shape if size is not None]
    elements = math.prod(known) if len(known) == len(kind.shape) else INLINE_LIMIT
    return elements * np.dtype(kind.dtype).itemsize + HEADER <= INLINE_LIMIT


def _chunk_values(program: Program, path: str, loop: Loop, ports: list[Port], start: int) -> list[Need]:
    """Several carries may begin with one value; their ports come in the order of the carries, before other
    uses of it."""
    carries: dict[str, list[str]] = {}
    for carry in loop.carries:
        carries.setdefault(carry.init, []).append(carry.body_in)
    made = []
    for port in ports:
        states = carries.get(port.value)
        state = states.pop(0) if states else None
        running = state is not None and start > 0
        made.append(
            Need(port.name, Place(path, state) if running and state else program.place(path, port.value))
        )
    return made


def output_specs(program: Program, path: str, unit: int, start: int, stop: int) -> tuple[OutputSpec, ...]:
    """What the task's model must give."""
    found, key = program.unit(path, unit), (key_of(path), unit)
    if key in program.specs:
        return program.specs[key]
    stacked = {s.stacked for s in found.stacked} if isinstance(found, Loop) else set()
    specs = []
    for port in model_of(program, path, unit).outputs:
        value = program.value_type(port.value)
        shape = (stop - start, *value.shape[1:]) if port.value in stacked else value.shape
        specs.append(OutputSpec(name=port.name, dtype=value.dtype, shape=shape))
    if isinstance(found, Subgraph):
        program.specs[key] = tuple(specs)
    return tuple(specs)


def label_of(program: Program, path: str, unit: int, start: int, stop: int) -> str:
    """For people: `training loop 3 of 200, batches, iterations 40 to 60 of 200`."""
    around = []
    outer = path
    while outer:
        outer, index, number = iteration_of(outer)
        loop = program.loop(outer, index)
        around.append(f"{loop.label} {number + 1} of {loop.length}")
    found = program.unit(path, unit)
    here = [found.label]
    if isinstance(found, Loop):
        here.append(
            f"iterations {found.first + start + 1} to {found.first + stop} of {_total(program, found)}"
        )
    return ", ".join([*reversed(around), *here])


def _total(program: Program, loop: Loop) -> int:
    """Iterations of the whole loop, of which this unit may be a range."""
    stacked = [program.value_type(s.stacked).shape[0] for s in loop.stacked]
    return next((length for length in stacked if length is not None), loop.length)


def check_outputs(
    specs: Sequence[OutputSpec],
    outputs: Sequence[Output],
    head: Callable[[Blob], bytes] | None,
    sizes: Mapping[str, int],
) -> Problem | None:
    """What is wrong with a result, or None. `head` gives the first bytes of a blob (without it, only inline
    tensors are looked into), `sizes` how large the blobs are that are there."""
    expected, received = sorted(s.name for s in specs), sorted(o.name for o in outputs)
    if expected != received:
        return ComputeError(
            "the result has other outputs than asked", expected=expected, received=received
        ).problem
    given = {output.name: output.ref for output in outputs}
    checks = (_check_output(spec, given[spec.name], head, sizes) for spec in specs)
    return next((problem for problem in checks if problem), None)


def _check_output(
    spec: OutputSpec, ref: TensorRef, head: Callable[[Blob], bytes] | None, sizes: Mapping[str, int]
) -> Problem | None:
    match ref:
        case Inline(data):
            return _check_tensor(spec, data, len(data))
        case Blob(sha, size) if sizes.get(sha) != size:
            return ComputeError(
                f"output {spec.name} is a blob of another size",
                expected=f"{size:,} bytes",
                received=f"{sizes.get(sha, 0):,} bytes",
            ).problem
        case Blob():
            return _check_tensor(spec, head(ref), ref.size) if head else None
        case _:
            return ComputeError(
                f"output {spec.name} is not a tensor",
                expected="inline bytes or a blob",
                received=type(ref).__name__,
            ).problem


def _check_tensor(spec: OutputSpec, head: bytes, size: int) -> Problem | None:
    try:
        header = tensor_header(head)
    except MessageError as error:
        return error.problem
    fits = len(header.shape) == len(spec.shape) and all(
        want in (None, got) for want, got in zip(spec.shape, header.shape, strict=True)
    )
    if header.dtype != spec.dtype or not fits:
        return ComputeError(
            f"output {spec.name} is of another type than asked",
            expected=f"{spec.dtype} {spec.shape}",
            received=f"{header.dtype} {header.shape}",
        ).problem
    if size != header.total:
        return ComputeError(
            f"output {spec.name} is cut short", expected=f"{header.total:,} bytes", received=f"{size:,} bytes"
        ).problem
    return None
