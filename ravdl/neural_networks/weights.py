"""Where a model's weights are: arrays here, ops of a graph being defined, or computed and kept by a graph.

All that training changes has one flat name each: weights (`Dense_1_W`), what the optimizer remembers of them
(`Dense_1_W_m`) and `training_step`. Only for the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import ravop as R
from ravop.errors import ArgumentError, GraphStateError, ShapeError
from ravop.graph import Graph, Op
from ravop.graph.dtypes import as_array
from ravop.protocol.tensors import Array

KEPT = "strategy."
"""What the names begin with of what one strategy alone remembers; another one's training makes it stale."""

Fetch = Callable[[str], Array]
"""From a persisted name to its value: the coordinator's, or `ravop.run_local().__getitem__`."""


@dataclass(frozen=True)
class Source:
    """The graph that computes the newest weights, and under what names it keeps them."""

    graph_id: str
    names: tuple[str, ...] = ()
    """Empty when it keeps none."""
    prefix: str = ""
    """What the persisted names begin with."""


@dataclass(frozen=True)
class _Live:
    graph: Graph
    ops: dict[str, Op]


class Weights:
    """The newest state of a model by flat names. Pickles without ops.

    `values` holds what is known here; with a `source`, newer ones are in that graph.
    """

    def __init__(self) -> None:
        self.values: dict[str, Array] = {}
        self.source: Source | None = None
        self._live: _Live | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"values": self.values, "source": self.source, "_live": None}

    def open(self, graph: Graph, fetch: Callable[[Source], Fetch]) -> None:
        """Be ready to give ops of `graph`: what another graph computed is fetched from it first.

        Raises what fetching raises, `GraphStateError` for weights that the other graph did not save.
        """
        if self._live is None or self._live.graph is not graph:
            if self.source is not None:
                self.fetch(fetch(self.source))
            self._live = _Live(graph, {})

    def op(self, name: str) -> Op | None:
        """The newest value of this name as an op of the opened graph; None when there is none yet."""
        assert self._live is not None
        if name not in self._live.ops and name in self.values:
            with self._live.graph.label(name):
                self._live.ops[name] = R.t(self.values[name])
        return self._live.ops.get(name)

    def known(self, name: str) -> Op:
        """As `op`, for a name that surely has a value."""
        found = self.op(name)
        assert found is not None
        return found

    def moved(self, ops: dict[str, Op], save: bool, prefix: str) -> None:
        """Remember new values, computed in the opened graph.

        With `save` all of the state is persisted there, under `prefix` and its names.
        """
        assert self._live is not None
        graph = self._live.graph
        self.values = {n: v for n, v in self.values.items() if n in ops or not n.startswith(KEPT)}
        everything = {name: op for name in self.values if (op := self.op(name)) is not None} | ops
        self._live = _Live(graph, everything)
        self.source = Source(graph.id, tuple(everything) if save else (), prefix)
        for name in self.source.names:
            graph.persist(everything[name], prefix + name, inner=True)

    def fetch(self, fetch: Fetch) -> None:
        """Make `values` the newest.

        Raises `GraphStateError` when the newest were not saved, and what `fetch` raises.
        """
        if self.source is None:
            return
        if not self.source.names:
            raise GraphStateError(
                "the trained weights were not kept",
                expected="a last training by fit(..., save_model=True)",
                received=f"training in graph {self.source.graph_id} without save_model",
                hint="call fit(..., save_model=True), or set_weights(...) to start from known ones",
            )
        self.values = {name: np.asarray(fetch(self.source.prefix + name)) for name in self.source.names}
        self.source = None

    def forget(self, names: set[str]) -> None:
        """Drop these weights, with what the optimizer remembers of them, and what a strategy remembers."""
        self.values = {
            name: value
            for name, value in self.values.items()
            if name not in names and name.rpartition("_")[0] not in names and not name.startswith(KEPT)
        }
        self._live = None

    def replace(self, names: Sequence[str], arrays: Sequence[object]) -> None:
        """Give the weights `names` new values; the optimizer's memory stays as last known.

        Raises `ArgumentError`, `ShapeError`.
        """
        if len(arrays) != len(names):
            raise ArgumentError(
                "the wrong number of weights",
                expected=f"{len(names)}: {', '.join(names)}",
                received=len(arrays),
            )
        given = {name: as_array(value, np.float32) for name, value in zip(names, arrays, strict=True)}
        for name, value in given.items():
            if value.shape != self.values[name].shape:
                raise ShapeError(
                    f"the weight {name} has another shape",
                    expected=self.values[name].shape,
                    received=value.shape,
                )
        self.values = self.values | given
        self.source = None
        self._live = None
