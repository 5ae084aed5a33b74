"""How fast is this machine's engine: a short matmul and a short convolution, each through `ravop.engine`.

Runs in the worker process, like every other computation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import prod

import numpy as np

from provider.wire import Measured
from ravop.engine import Session
from ravop.graph.dtypes import FLOAT
from ravop.graph.graph import Graph
from ravop.graph.op import Op
from ravop.graph.serde import to_bytes

SECONDS = 0.4
"""Time for each of the two, after one run to warm up."""
_SIDE = 512
_IMAGES, _CHANNELS, _FILTERS, _WIDTH, _KERNEL = 16, 32, 64, 32, 3


def measure(threads: int) -> Measured:
    """GFLOP/s in float32 with so many engine threads. Raises `ComputeError` where the engine fails."""
    return Measured(matmul_gflops=_matmul(threads), conv_gflops=_convolution(threads))


def _matmul(threads: int) -> float:
    shape = (_SIDE, _SIDE)
    return _gflops(2 * _SIDE**3, threads, [shape, shape], lambda graph, ops: graph.apply("MatMul", ops)[0])


def _convolution(threads: int) -> float:
    images = (_IMAGES, _CHANNELS, _WIDTH, _WIDTH)
    kernels = (_FILTERS, _CHANNELS, _KERNEL, _KERNEL)
    flops = 2 * _IMAGES * _WIDTH**2 * prod(kernels)
    return _gflops(
        flops,
        threads,
        [images, kernels],
        lambda graph, ops: graph.apply("Conv", ops, {"pads": [_KERNEL // 2] * 4})[0],
    )


def _gflops(
    flops: int, threads: int, shapes: list[tuple[int, ...]], build: Callable[[Graph, list[Op]], Op]
) -> float:
    graph = Graph("benchmark")
    ops = [graph.placeholder(FLOAT, shape) for shape in shapes]
    graph.persist(build(graph, ops), "result")
    session = Session(to_bytes(graph.model()), threads=threads)
    inputs = {op.name: np.ones(shape, FLOAT) for op, shape in zip(ops, shapes, strict=True)}
    session.run(inputs)
    best = float("inf")
    end = time.perf_counter() + SECONDS
    while (start := time.perf_counter()) < end:
        session.run(inputs)
        best = min(best, time.perf_counter() - start)
    return flops / best / 1e9
