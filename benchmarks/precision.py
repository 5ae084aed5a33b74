"""Steps in narrow floats against float32, in the engine. `python -m benchmarks precision`.

A step is forward, backward and SGD. Weights are float32, cast when they are used; everything up to the logits, and back,
is in the narrow dtype. Where the engine has no kernel for it, a wider dtype lends its own (`ravop.engine.lending`).
Each is measured in a process of its own: CPU seconds, because nothing waits, and the process' peak of memory.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

import ravop as R
from benchmarks.report import Row
from ravop.engine import Session
from ravop.errors import RavenError
from ravop.graph.serde import to_bytes
from ravop.ops.catalogue import node

STEPS = 12
DTYPES = ("float32", "float16", "bfloat16")
Figures = dict[str, float | str]


class Builder:
    """Makes weights and inputs in the dtype that is measured."""

    def __init__(self, dtype: str) -> None:
        self.graph = R.Graph("precision")
        self.dtype = dtype
        self.weights: list[R.Op] = []
        self._rng = np.random.default_rng(0)

    def input(self, *shape: int) -> R.Op:
        cast: R.Op = self.graph.input(self._rng.normal(size=shape).astype(np.float32)).astype(self.dtype)
        return cast

    def weight(self, *shape: int) -> R.Op:
        width = shape[0] if len(shape) == 2 else np.prod(shape[1:])
        array = self._rng.normal(size=shape) / np.sqrt(width)
        master = self.graph.input(array.astype(np.float32))
        self.weights.append(master)
        cast: R.Op = master.astype(self.dtype)
        return cast

    def dense(self, x: R.Op, units: int) -> R.Op:
        return node("MatMul", [x, self.weight(x.static_shape[-1], units)])

    def convolution(self, x: R.Op, filters: int) -> R.Op:
        kernel = self.weight(filters, x.static_shape[1], 3, 3)
        y = R.relu(node("Conv", [x, kernel], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        return node("MaxPool", [y], kernel_shape=[2, 2], strides=[2, 2])

    def attention(self, x: R.Op, heads: int) -> R.Op:
        batch, steps, width = x.static_shape
        split = (batch, steps, heads, width // heads)
        q, k, v = (R.transpose(R.reshape(self.dense(x, width), split), (0, 2, 1, 3)) for _ in range(3))
        scores = node("MatMul", [q, R.transpose(k, (0, 1, 3, 2))]) * (width // heads) ** -0.5
        seen = node("MatMul", [node("Softmax", [scores], axis=-1), v])
        return self.dense(R.reshape(R.transpose(seen, (0, 2, 1, 3)), x.static_shape), width)


def _perceptron(b: Builder) -> R.Op:
    return b.dense(R.relu(b.dense(R.relu(b.dense(b.input(128, 784), 1024)), 1024)), 10)


def _images(b: Builder) -> R.Op:
    maps = b.convolution(b.convolution(b.input(64, 3, 32, 32), 32), 64)
    return b.dense(R.relu(b.dense(R.reshape(maps, (64, 4096)), 128)), 10)


def _transformer(b: Builder) -> R.Op:
    x = b.input(8, 64, 128)
    for _ in range(2):
        x = x + b.attention(x, 4)
        x = x + b.dense(R.tanh(b.dense(x, 512)), 128)
    return b.dense(x.mean(axis=1), 10)


NETWORKS: dict[str, Callable[[Builder], R.Op]] = {
    "MLP 784-1024-1024-10, batch 128": _perceptron,
    "CNN 3×32×32, batch 64": _images,
    "two Transformer blocks of 128, 8 × 64 tokens": _transformer,
}


def measure(name: str, dtype: str) -> Figures:
    """Milliseconds of a step and MiB more than before the model was loaded; or why it cannot be computed."""
    builder = Builder(dtype)
    try:
        logits = NETWORKS[name](builder).astype("float32")
        classes = np.random.default_rng(1).integers(0, 10, logits.static_shape[0])
        loss = R.softmax_cross_entropy(logits, R.t(classes))
        for number, (weight, g) in enumerate(
            zip(builder.weights, R.grad(loss, builder.weights), strict=True)
        ):
            (weight - g * 0.01).persist_op(f"weight {number}")
        before = _peak()
        session = Session(to_bytes(builder.graph.model()))
        session.run(builder.graph.inputs)
    except RavenError as error:
        return {"problem": error.problem.message}
    seconds = []
    for _ in range(STEPS):
        start = time.process_time()
        session.run(builder.graph.inputs)
        seconds.append(time.process_time() - start)
    lent = ", ".join(sorted(session.lent)) or "nothing"
    return {"ms": statistics.median(seconds) * 1e3, "mib": _peak() - before, "lent": lent}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _apart(name: str, dtype: str) -> Figures:
    code = f"import json; from benchmarks.precision import measure; print(json.dumps(measure({name!r}, {dtype!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def rows(rounds: int = 3) -> list[Row]:
    found = []
    for name in NETWORKS:
        measured = [{dtype: _apart(name, dtype) for dtype in DTYPES} for _ in range(rounds)]
        for dtype in DTYPES[1:]:
            problem = measured[0][dtype].get("problem")
            if problem:
                found.append(Row(f"{name}, {dtype}", "not computed", "report", str(problem)))
                continue
            ratios = [float(m["float32"]["ms"]) / float(m[dtype]["ms"]) for m in measured]
            ms, mib, ms32, mib32 = (
                statistics.median(float(m[d][key]) for m in measured) for d in (dtype, "float32") for key in ("ms", "mib")
            )  # fmt: skip
            note = f"{ms:.1f} ms, float32 {ms32:.1f}; {mib:.0f} MiB, float32 {mib32:.0f}"
            found.append(Row(f"{name}, {dtype}", f"{statistics.median(ratios):.2f}× as fast", "report", note))
    return found
