"""What a script calls: `initialize`, `activate`, `execute`, `track_progress`, `fetch`, …

Here is the one piece of global state of the client, the connection that `initialize` made, and the rule
which graph is meant: the current graph; in a script that defines none, the newest graph of the token.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ravop import tracing
from ravop.client.display import say, still_executing
from ravop.client.embedded import Cluster, start_or_join
from ravop.client.endpoint import data_folder, named
from ravop.client.graphs import GraphEntry
from ravop.client.runs import Run
from ravop.client.runs import activate as activate_graph
from ravop.client.session import Session
from ravop.client.values import fetch as fetch_values
from ravop.errors import (
    ArgumentError,
    GraphStateError,
    NoGraphError,
    NotConnectedError,
    UnknownGraphError,
    UnreachableError,
)
from ravop.graph.graph import Graph, GraphState, current_graph_or_none, set_current_graph
from ravop.protocol.messages import (
    Flush,
    Graphs,
    ListGraphs,
    ListProviders,
    ProviderInfo,
    Providers,
)
from ravop.protocol.tensors import Array


@dataclass(frozen=True)
class _Connected:
    session: Session
    cluster: Cluster | None


_connected: _Connected | None = None


def initialize(
    token: str | None = None, url: str | None = None, providers: int | None = None, stay: bool = False
) -> None:
    """Connect this script to a coordinator.

    With a token: to the coordinator at `url`, else at $RAVENVERSE_URL, else at http://127.0.0.1:9999.
    $RAVENVERSE_TOKEN stands in for `token`. With neither token nor URL: to the embedded cluster, a
    coordinator and `providers` providers (2 unless given) as processes of this machine, whose data is kept
    in $RAVENVERSE_HOME or the user's data folder; one that runs already is joined. It ends with the script
    that started it, unless `stay`.

    Raises:
        UnreachableError: nobody answers there; at once, not after a minute.
        TokenError, RoleError: the token is missing, unknown, revoked or no requester's.
        VersionError: the coordinator is of another release.
    """
    global _connected
    place = named(token, url)
    if place is not None and (providers is not None or stay):
        raise ArgumentError(
            "`providers` and `stay` are for the embedded cluster",
            expected="neither token nor URL beside them",
            received=f"a coordinator at {place[0]}",
        )
    if providers is not None and providers < 1:
        raise ArgumentError("too few providers", expected="at least 1", received=providers)
    disconnect()
    tracing.configure("ravop")
    if place is None:
        cluster, session = start_or_join(data_folder(), providers, stay)
        _connected = _Connected(session, cluster)
        verb = "started" if cluster.started else "joined"
        say(f"{verb} the embedded cluster: coordinator at {session.url}, data and logs in {cluster.folder}")
        note = still_executing(session.call(ListGraphs(state="executing"), Graphs).graphs)
        if note:
            say(note)
    else:
        session = Session.open(*place)
        _connected = _Connected(session, None)
        say(f"connected to the coordinator at {session.url}")


def disconnect() -> None:
    """Undo `initialize`: end the connection, and the embedded cluster if this script started it. Also
    called at exit.
    """
    global _connected
    connected, _connected = _connected, None
    if connected is not None:
        connected.session.close()
        if connected.cluster is not None:
            connected.cluster.end()


atexit.register(disconnect)


def session() -> Session:
    """The connection that `initialize` made. Raises `NotConnectedError` before."""
    if _connected is None:
        raise NotConnectedError(
            "not connected to a coordinator",
            hint="call ravop.initialize() for an embedded cluster, or ravop.initialize(token, url=...)",
        )
    return _connected.session


def connected() -> bool:
    """Whether `initialize` was called."""
    return _connected is not None


@dataclass(frozen=True)
class Fleet:
    """Who computes for the coordinator at present; `local` when it is the embedded cluster of this machine."""

    providers: tuple[ProviderInfo, ...]
    local: bool
    round_trip: float
    """Seconds from here to the coordinator and back; what lies between it and the providers is not known here."""


def fleet() -> Fleet:
    """The connected providers; those that the embedded cluster is starting are waited for. None are found where
    the coordinator does not answer: who asks can do without them.
    """
    connection, cluster = session(), _connected.cluster if _connected is not None else None
    try:
        if cluster is not None:
            cluster.await_providers(connection)
        connection.call(ListProviders(), Providers)  # so that the next answer comes over a line that is open
        start = time.perf_counter()
        known = connection.call(ListProviders(), Providers).providers
        taken = time.perf_counter() - start
    except UnreachableError:
        known, taken = (), 0.0
    return Fleet(tuple(provider for provider in known if provider.connected), cluster is not None, taken)


def flush() -> None:
    """Forget the current graph, and delete this token's graphs that are not executing, with their results."""
    session().call(Flush(), Graphs)
    set_current_graph(None)


def activate() -> None:
    """Send the current graph to the coordinator and print its plan. It takes no more ops then.

    Raises `NoGraphError`, `GraphStateError` for a graph that is activated already or persists nothing,
    `InvalidModelError`, `StorageFullError`.
    """
    graph = current_graph_or_none()
    if graph is None:
        raise NoGraphError("there is no graph to activate", hint="create one first: ravop.Graph(name=...)")
    if graph.state is not GraphState.DEFINING:
        raise GraphStateError(
            "the graph is activated already",
            expected="a graph being defined",
            received=f"graph {graph.name!r}, {graph.state.value}",
        )
    connection = session()
    if _connected is not None and _connected.cluster is not None:
        _connected.cluster.await_providers(connection)
    activate_graph(connection, graph)


def execute() -> None:
    """Start the computation. Returns at once; see `track_progress`. A failed graph starts again from what
    it has.
    """
    _run().execute()


def track_progress() -> None:
    """Show the progress until the graph is done. Ctrl-C ends the display, not the graph, with a
    `KeyboardInterrupt` that says so.

    Raises `GraphFailedError` with the provider's error, the op and the line of the script that made it,
    `GraphCancelledError`, `GraphStateError` before `execute`.
    """
    _run().track()


def fetch(name: str, graph: Graph | str | None = None) -> Array:
    """The value persisted under `name`, as an array. Possible as soon as it is computed, while the rest
    still runs.

    A series' element is fetched by its own name (`training_loss_epoch_1_batch_1`). `graph` is a graph or
    the id of one, for another than the current one. Raises `UnknownNameError`, `NotComputedError`,
    `GraphFailedError`.
    """
    return fetch_many([name], graph)[name]


def fetch_many(names: Iterable[str], graph: Graph | str | None = None) -> dict[str, Array]:
    """As `fetch`, for several names in one go."""
    run = _run(graph)
    return fetch_values(run.session, run.graph_id, list(names))


def fetch_persisting_op(op_name: str) -> Any:
    """As `fetch`, but an int, a float or a (nested) list of them."""
    return fetch(op_name).tolist()


def get_my_graphs() -> list[GraphEntry]:
    """All graphs of this token, newest first; printed as name, id, state and progress."""
    asked = session()
    return [GraphEntry(info, asked) for info in asked.call(ListGraphs(), Graphs).graphs]


def _run(graph: Graph | str | None = None) -> Run:
    """The run of `graph`, of the current graph, or of the token's newest one."""
    if graph is not None and not isinstance(graph, Graph | str):
        raise ArgumentError("this is no graph", expected="a Graph or the id of one", received=repr(graph))
    current = current_graph_or_none()
    if isinstance(graph, str) and (current is None or current.id != graph):
        return Run(session(), graph)
    graph = graph if isinstance(graph, Graph) else current
    if graph is None:
        graphs = get_my_graphs()
        if not graphs:
            raise UnknownGraphError("this token has no graph", hint="define one and call ravop.activate()")
        return Run(session(), graphs[0].graph_id)
    if graph.state is GraphState.DEFINING:
        raise GraphStateError(
            "the graph is not activated",
            expected="an activated graph",
            received=f"graph {graph.name!r}, being defined",
            hint="call ravop.activate() first",
        )
    return Run(session(), graph.id, graph)
