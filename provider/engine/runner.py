"""`Runner`: from the hash of a subgraph and its inputs to its outputs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ravop.engine import Session
from ravop.errors import ComputeError
from ravop.graph.check import Limits, check_model
from ravop.protocol.messages import OutputSpec
from ravop.protocol.tensors import Array

MAX_SESSIONS = 16


class Runner:
    """Runs subgraphs by hash; keeps the sessions used last.

    Args:
        model: gives the bytes of a subgraph's model.
        threads: of the engine.
        memory: bytes that a subgraph may be estimated to need.
    """

    def __init__(self, model: Callable[[str], bytes], threads: int, memory: int) -> None:
        self._model = model
        self._threads = threads
        self._limits = Limits(memory=memory)
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._slow: list[str] = []

    def run(self, subgraph: str, inputs: Mapping[str, Array], outputs: Sequence[OutputSpec]) -> list[Array]:
        """Outputs in the order of `outputs`.

        Raises `InvalidModelError` for a model that is refused, `OutOfMemoryError`, and `ComputeError` for
        everything else that goes wrong, also where an output is not of the dtype and shape that was promised.
        """
        session = self.session(subgraph)
        foreign = [spec.name for spec in outputs if spec.name not in session.outputs]
        if foreign:
            raise ComputeError(
                "the subgraph has no such output",
                expected=", ".join(session.outputs),
                received=", ".join(foreign),
            )
        results = session.run(inputs)
        return checked(results, outputs)

    def slow(self) -> tuple[str, ...]:
        """Why models that were loaded since the last call are computed by the reference evaluator."""
        reasons = tuple(dict.fromkeys(self._slow))
        self._slow.clear()
        return reasons

    def forget(self) -> None:
        """Let go of all sessions but the one used last: memory is short."""
        while len(self._sessions) > 1:
            self._sessions.popitem(last=False)

    def session(self, subgraph: str) -> Session:
        """The loaded model. Raises as `run`."""
        if subgraph not in self._sessions:
            data = self._model(subgraph)
            check_model(data, self._limits)
            session = self._sessions[subgraph] = Session(data, threads=self._threads)
            if session.fallback:
                self._slow.append(session.fallback)
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(subgraph)
        return self._sessions[subgraph]


def checked(results: Mapping[str, Array], outputs: Sequence[OutputSpec]) -> list[Array]:
    """The results that are asked for. Raises `ComputeError` where one is not of its dtype and shape."""
    return [_checked(results[spec.name], spec) for spec in outputs]


def _checked(array: Array, spec: OutputSpec) -> Array:
    same_shape = array.ndim == len(spec.shape) and all(
        size is None or size == length for size, length in zip(spec.shape, array.shape, strict=True)
    )
    if array.dtype != np.dtype(spec.dtype) or not same_shape:
        raise ComputeError(
            f"output {spec.name!r} of the subgraph is not what was promised",
            expected=f"{spec.dtype} {spec.shape}",
            received=f"{array.dtype} {array.shape}",
        )
    return array
