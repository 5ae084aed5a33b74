"""A loop that two ranks compute together, written by hand: x ← tanh(A x + bᵢ), each rank with half of A's columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from subgraphs import FLOAT, INT, model, node

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
from ravop.protocol.tensors import Array, sha256

Values = dict[str, Array]


def product_model(side: int) -> bytes:
    """`p = a @ x[columns]`. Its node `n0` fails for a column that is none."""
    nodes = [node("Gather", ["x", "columns"], ["half"], "n0"), node("MatMul", ["a", "half"], ["p"], "n1")]
    ports: Any = {"a": (FLOAT, [side, side // 2]), "x": (FLOAT, [side]), "columns": (INT, [side // 2])}
    return model(nodes, ports, {"p": (FLOAT, [side])}).SerializeToString()


def update_model(side: int) -> bytes:
    """`y = tanh(p + q + b)` and `norm = y · y`."""
    nodes = [
        node("Add", ["p", "q"], ["sum"], "n0"),
        node("Add", ["sum", "b"], ["biased"], "n1"),
        node("Tanh", ["biased"], ["y"], "n2"),
        node("ReduceSumSquare", ["y"], ["norm"], "n3", keepdims=0),
    ]
    ports: Any = {name: (FLOAT, [side]) for name in "pqb"}
    return model(nodes, ports, {"y": (FLOAT, [side]), "norm": (FLOAT, [])}).SerializeToString()


def models(side: int) -> dict[str, bytes]:
    return {sha256(data): data for data in (product_model(side), update_model(side))}


def part(rank: int, side: int, start: int, stop: int, length: int) -> Part:
    """Its task has the inputs `x0`, `bs`, `a`, `columns` and the outputs `x`, `norms`."""
    product, update = models(side)
    mine, its = f"p{rank}", f"p{1 - rank}"
    sums = Compute(
        subgraph=update,
        inputs=(Wire("p", "p0"), Wire("q", "p1"), Wire("b", "b")),
        outputs=(Wire("y", "y"), Wire("norm", "norm")),
    )
    loop = Repeat(
        length=length,
        carries=(PartCarry(init="x0", body_in="xi", body_out="y", final="x"),),
        sliced=(PartSlice(source="bs", body_in="b"),),
        stacked=(PartStack(body_out="norm", stacked="norms"),),
        steps=(
            Compute(
                subgraph=product,
                inputs=(Wire("a", "a"), Wire("x", "xi"), Wire("columns", "columns")),
                outputs=(Wire("p", mine),),
            ),
            Exchange(
                gives=(Shared(name=mine, dtype="float32", shape=(side,)),),
                to=(1 - rank,),
                takes={1 - rank: (Shared(name=its, dtype="float32", shape=(side,)),)},
            ),
            sums,
        ),
    )
    return Part(rank=rank, ranks=2, start=start, stop=stop, loop=loop)


def problem(side: int, length: int) -> Values:
    random = np.random.default_rng(5)
    return {
        "x0": random.standard_normal(side).astype(np.float32),
        "bs": random.standard_normal((length, side)).astype(np.float32),
        "whole": (random.standard_normal((side, side)) / side**0.5).astype(np.float32),
    }


def inputs_of(rank: int, values: Values) -> Values:
    """What rank `rank` needs of the problem."""
    half = len(values["x0"]) // 2
    columns = np.arange(rank * half, (rank + 1) * half)
    return {
        "x0": values["x0"],
        "bs": values["bs"],
        "a": np.ascontiguousarray(values["whole"][:, columns]),
        "columns": columns,
    }


def expected(values: Values, start: int, stop: int) -> Values:
    """What NumPy makes of it, with eight bytes a number."""
    x = values["x0"].astype(np.float64)
    norms = []
    for b in values["bs"][start:stop]:
        x = np.tanh(values["whole"].astype(np.float64) @ x + b)
        norms.append(x @ x)
    return {"x": x, "norms": np.array(norms)}
