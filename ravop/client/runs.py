"""A graph that was sent away: activate, execute, track, and what its ops report back (`RunState`).

Everything acts on a `Session` and a graph id, so that a graph defined by another script can be run just as
well. Which graph is meant when a script does not say is decided in `api`.
"""

from __future__ import annotations

import time
from typing import Any

from ravop import tracing
from ravop.client.display import ProgressDisplay, UploadDisplay, duration, elapsed, say, show_plan
from ravop.client.session import Lost, Session
from ravop.client.uploads import Package, pack, upload
from ravop.client.values import fetch
from ravop.errors import (
    BlobError,
    ForbiddenBlobError,
    GraphCancelledError,
    GraphFailedError,
    GraphStateError,
    Problem,
    UnknownNameError,
    WaitTimeoutError,
)
from ravop.graph.graph import Graph, GraphState
from ravop.graph.op import Op
from ravop.graph.source import describe, user_line
from ravop.protocol.messages import (
    Activate,
    Activated,
    Cancel,
    Done,
    Execute,
    GetGraph,
    GraphInfo,
    PersistedInfo,
    PlanSummary,
)

PLANNING_SECONDS = 300.0
"""Checking and planning a large graph takes the coordinator longer than an ordinary call."""


class Run:
    """One graph at one coordinator; `graph` is its definition, where this script has it."""

    def __init__(self, session: Session, graph_id: str, graph: Graph | None = None) -> None:
        self.session = session
        self.graph_id = graph_id
        self._graph = graph

    def info(self) -> GraphInfo:
        """The graph's present state and progress. Raises `UnknownGraphError`."""
        return self._seen(self.session.call(GetGraph(graph_id=self.graph_id), GraphInfo))

    def execute(self) -> None:
        """Start the graph, or start a failed one again from what it has."""
        with tracing.span("execute", graph=self.graph_id, source=describe(user_line())):
            self.session.traces[self.graph_id] = trace = tracing.current()
            self.session.call(Execute(graph_id=self.graph_id, trace=trace), Done)
        if self._graph is not None:
            self._graph.state = GraphState.EXECUTING

    def cancel(self) -> None:
        """Stop the graph; what is computed stays fetchable."""
        self.session.call(Cancel(graph_id=self.graph_id), Done)

    def track(self) -> GraphInfo:
        """Show the progress until the graph is done. → how it ended.

        A coordinator that goes away meanwhile is waited for, which the display says. Ctrl-C ends the
        display, not the graph: the `KeyboardInterrupt` says so. Raises `GraphStateError` before `execute`,
        `GraphFailedError` with the provider's error, the op and the user's line, `GraphCancelledError`.
        """
        source = describe(user_line())
        try:
            with tracing.span("track", self._trace, graph=self.graph_id, source=source):
                info = self._show()
        except KeyboardInterrupt:
            # a new one, without the frames where it came in: the last line that Python shows is this text
            more = (
                "It goes on when a script starts the cluster again; R.initialize(stay=True) keeps it running."
                if self.session.ends
                else f"To see it again: `ravop watch {self.graph_id}`, or track_progress() in a later script."
            )
            raise KeyboardInterrupt(
                f"Stopped watching; graph {self.graph_id} was not cancelled. {more}"
            ) from None
        raise_if_unsuccessful(info)
        took = elapsed(info)
        say(f"{info.name}: done" + (f" in {duration(took)}" if took is not None else ""))
        return info

    def fetch(self, op: Op) -> Any:
        """`RunState`: the persisted op's value as int, float or list."""
        name = self._persisted_name(op)
        return fetch(self.session, self.graph_id, [name])[name].tolist()

    @property
    def _trace(self) -> str | None:
        """The span in which this script executed the graph, if it did."""
        return self.session.traces.get(self.graph_id)

    def status(self, op: Op) -> str:
        """`RunState`: `computed`, `failed` (as the graph is), or `pending`."""
        info = self.info()
        if self._persisted(info, op).done:
            return "computed"
        return "failed" if info.state in ("failed", "cancelled") else "pending"

    def wait(self, op: Op, timeout: float | None) -> None:
        """`RunState`: return when the persisted op is computed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in self.session.watch(self.graph_id, deadline):
            info = self.info()
            if self._persisted(info, op).done:
                return
            raise_if_unsuccessful(info)
        raise WaitTimeoutError(
            "the op was not computed in time",
            expected=f"within {timeout:g} s",
            received="not computed yet",
            op=self._persisted_name(op),
            source=op.source,
        )

    def _show(self) -> GraphInfo:
        with ProgressDisplay() as display:
            for news in self.session.watch(self.graph_id):
                if isinstance(news, Lost):
                    display.lost(news.reason)
                    continue
                info = self._seen(news)
                if info.state == "active":
                    raise GraphStateError(
                        "the graph is not executing",
                        expected="a graph that was executed",
                        received=f"graph {info.name!r}, active",
                        hint="call ravop.execute() first",
                    )
                display.info(info)
        return info

    def _seen(self, info: GraphInfo) -> GraphInfo:
        if self._graph is not None:
            self._graph.state = GraphState(info.state)
        return info

    def _persisted(self, info: GraphInfo, op: Op) -> PersistedInfo:
        name = self._persisted_name(op)
        return next(entry for entry in info.persisted if entry.name == name)

    def _persisted_name(self, op: Op) -> str:
        """The name under which the op, or a copy of it that persisting made of an input, is persisted."""
        values = {op.name} | {
            use.node.outputs[0].name for use in op.value.uses() if use.node.op_type == "Identity"
        }
        for persisted in op.graph.persisted.values():
            if persisted.value in values:
                return persisted.name
        raise UnknownNameError(
            "only persisted ops can be fetched",
            op=op.name,
            source=op.source,
            hint="call .persist_op(name=...) on it before ravop.activate()",
        )


def activate(session: Session, graph: Graph) -> PlanSummary:
    """Store the graph and its inputs at the coordinator, have it planned, and show the plan. → the plan.

    From here on the graph takes no more ops. Raises `GraphStateError` for a graph that persists nothing,
    `InvalidModelError`, `StorageFullError`, `UnreachableError`.
    """
    with tracing.span("activate", graph=graph.id, source=describe(user_line())):
        package = pack(graph)
        try:
            activated = _sent(session, graph, package)
        except (BlobError, ForbiddenBlobError):  # what came first was cleared away meanwhile
            activated = _sent(session, graph, package)
    graph.state = GraphState.ACTIVE
    graph.attach(Run(session, graph.id, graph))
    show_plan(graph.name, graph.id, activated.plan, graph.notes)
    return activated.plan


def _sent(session: Session, graph: Graph, package: Package) -> Activated:
    with UploadDisplay(package.size) as display:
        upload(session, package, display.sent)
    message = Activate(
        graph_id=graph.id, model=package.model, manifest=package.manifest, trace=tracing.current()
    )
    return session.call(message, Activated, PLANNING_SECONDS)


def raise_if_unsuccessful(info: GraphInfo) -> None:
    """Raises `GraphFailedError` or `GraphCancelledError` for a graph that ended so."""
    if info.state == "cancelled":
        raise GraphCancelledError(
            "the graph was cancelled", received=f"graph {info.name!r} ({info.graph_id})"
        )
    if info.state != "failed":
        return
    problem = info.problem or Problem(code="graph_failed", message="the coordinator gives no reason")
    raise GraphFailedError(
        f"graph {info.name!r} failed: {problem.message}",
        expected=problem.expected,
        received=problem.received,
        hint=problem.hint or "mend the cause; ravop.execute() starts the graph again from what is computed",
        op=problem.op,
        source=problem.source,
    )
