"""`ravop.Graph`: the graph of the language, with what it can tell about itself once it was sent away; and `GraphEntry`, one
of a list of graphs.
"""

from __future__ import annotations

from typing import Any

from ravop.client.runs import Run
from ravop.client.session import Session
from ravop.errors import GraphStateError
from ravop.graph.graph import Graph as LocalGraph
from ravop.protocol.messages import GraphInfo, PersistedInfo


class Graph(LocalGraph):
    """A graph being defined; the newest one is the current graph, to which operators add.

    Args:
        name: any text, shown by the tools.
        algorithm: any text.
        approach: `"distributed"` or `"federated"`.
        rules: wishes to the planner, see `ravop.graph.manifest.Manifest.rules`.
        seed: of all random ops; the same seed gives the same values everywhere.
    """

    def __repr__(self) -> str:
        return f"<Graph {self.name!r} ({self.id}), {self.state.value}>"

    @property
    def info(self) -> GraphInfo:
        """State, progress and metrics at the coordinator. Raises `GraphStateError` before
        `ravop.activate()`.
        """
        run = self.run_state()
        if not isinstance(run, Run):
            raise GraphStateError("the graph is not at a coordinator", hint="call ravop.activate() first")
        return run.info()

    @property
    def progress(self) -> float:
        """How much of the estimated work is done, in percent."""
        return 100 * self.info.fraction

    def get_op_stats(self) -> dict[str, int]:
        """How many subgraphs, the unit in which ops are computed, are in which state."""
        info = self.info
        failed = int(info.state == "failed")
        return {
            "total_ops": info.tasks_done + info.tasks_running + info.tasks_queued + failed,
            "pending_ops": info.tasks_queued,
            "computing_ops": info.tasks_running,
            "computed_ops": info.tasks_done,
            "failed_ops": failed,
        }


class GraphEntry:
    """One of `ravop.get_my_graphs()`: what `GraphInfo` tells (`graph_id`, `name`, `state`, `fraction`, `created`, …) as it was
    when the list was made.
    """

    def __init__(self, info: GraphInfo, session: Session) -> None:
        self._info = info
        self._session = session

    def __repr__(self) -> str:
        return f"<graph {self._info.name!r} ({self._info.graph_id}): {self._info.state}, {self._info.fraction:.0%}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a copy in the making has no _info yet
            raise AttributeError(name)
        return getattr(self._info, name)

    @property
    def progress(self) -> float:
        """How much of the estimated work is done, in percent."""
        return 100 * self._info.fraction

    @property
    def persisted(self) -> tuple[PersistedInfo, ...]:
        """What the graph persists and how much of it is there; asked when it is read, because a list of many graphs would be
        long with it. Raises `UnknownGraphError` for a graph deleted meanwhile.
        """
        return Run(self._session, self._info.graph_id).info().persisted
