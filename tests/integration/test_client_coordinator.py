"""The client against a real coordinator without providers: storing, refusing, forgetting, and the command
line.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from processes import Lab

import ravop as R
from ravop.cli import main
from ravop.client import runs, uploads
from ravop.client import session as client_session
from ravop.client.api import session
from ravop.client.embedded import Cluster
from ravop.client.runs import activate
from ravop.client.session import Session
from ravop.client.uploads import pack
from ravop.errors import (
    ArgumentError,
    GraphCancelledError,
    GraphStateError,
    NotComputedError,
    RavenError,
    RoleError,
    TokenError,
    UnknownGraphError,
    UnknownNameError,
    UnreachableError,
)
from ravop.protocol.messages import Graphs, ListGraphs
from ravop.transport import ControlConnection


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One coordinator for this file; each test is a requester of its own."""
    lab = Lab(tmp_path_factory.mktemp("town"))
    lab.coordinator()
    yield lab
    lab.close()


@pytest.fixture
def token(town: Lab, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new requester's token; this process is connected with it."""
    token = town.token("requester", request.node.name[:60])
    R.initialize(token, url=town.url)
    yield token
    R.disconnect()


@pytest.fixture
def cli(town: Lab, token: str) -> Callable[..., Result]:
    """Run `ravop arguments…` as that requester."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(
            main, arguments, env={"RAVENVERSE_URL": town.url, "RAVENVERSE_TOKEN": token}
        )

    return run


def define(name: str = "small") -> R.Graph:
    graph = R.Graph(name=name, algorithm="test")
    large = R.t(np.arange(40_000, dtype=np.float32))  # too large for a message: a blob
    R.sum(large * 2).persist_op(name="out")
    return graph


def test_a_graph_is_activated_with_its_data_and_its_plan_is_printed(
    token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = define()
    R.activate()
    assert "subgraph" in capsys.readouterr().out
    assert graph.info.state == "active"
    assert [entry.name for entry in graph.info.persisted] == ["out"]
    package = pack(graph).blobs
    assert all(session().run(session().blobs.has(sha)) for sha in package)


def test_activating_again_is_refused_here_and_idempotent_there(token: str) -> None:
    graph = define()
    R.activate()
    with pytest.raises(GraphStateError, match="activated already"):
        R.activate()
    activate(session(), graph)  # as after an answer that was lost
    assert [info.graph_id for info in R.get_my_graphs()] == [graph.id]


def test_a_call_waits_for_a_coordinator_that_is_away_for_a_moment(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    async def away(url: str) -> None:
        tries.append(url)
        if len(tries) <= 3:
            raise UnreachableError("as while another coordinator takes over")

    monkeypatch.setattr(client_session, "_probe", away)
    line = session()._connection
    assert line is not None
    session().run(line.close())
    assert R.get_my_graphs() == []
    assert len(tries) == 4


def test_what_was_cleared_away_during_an_upload_is_sent_again(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []

    def upload(*args: Any) -> None:
        rounds.append(len(rounds))
        if len(rounds) > 1:
            uploads.upload(*args)

    monkeypatch.setattr(runs, "upload", upload)
    graph = define()
    R.activate()
    assert graph.info.state == "active"
    assert rounds == [0, 1]


def test_no_op_can_be_added_after_activate(token: str) -> None:
    define()
    R.activate()
    with pytest.raises(GraphStateError, match="no more ops"):
        R.t(1.0) + 1


def test_a_graph_that_persists_nothing_cannot_be_activated(token: str) -> None:
    R.Graph(name="silent")
    R.t([1.0]) + 1
    with pytest.raises(GraphStateError, match="persists nothing"):
        R.activate()


@pytest.mark.parametrize("name", [3, None, ""])
def test_what_is_no_name_cannot_be_fetched(token: str, name: object) -> None:
    define()
    R.activate()
    with pytest.raises(ArgumentError, match="test_client_coordinator"):
        R.fetch(name)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="no graph"):
        R.fetch("out", graph=3)  # type: ignore[arg-type]


def test_values_are_not_there_before_they_are_computed(token: str) -> None:
    define()
    R.activate()
    with pytest.raises(NotComputedError):
        R.fetch("out")
    with pytest.raises(UnknownNameError):
        R.fetch("something else")
    with pytest.raises(GraphStateError, match=r"ravop\.execute"):
        R.track_progress()


def test_a_script_without_a_graph_means_the_newest_one(token: str) -> None:
    with pytest.raises(UnknownGraphError):
        R.execute()
    define("older")
    R.activate()
    newest = define("newest")
    R.activate()
    newest.end()
    R.execute()
    states = {info.name: info.state for info in R.get_my_graphs()}
    assert states == {"older": "active", "newest": "executing"}
    assert next(iter(R.get_my_graphs())).name == "newest"


def test_the_list_of_graphs_reads_well_and_tells_what_is_persisted(token: str) -> None:
    graph = define("iris")
    R.activate()
    (entry,) = R.get_my_graphs()
    assert repr(entry) == f"<graph 'iris' ({graph.id}): active, 0%>"
    assert [(each.name, each.done) for each in entry.persisted] == [("out", False)]
    assert (entry.progress, entry.state, entry.algorithm) == (0.0, "active", "test")
    assert repr(copy.copy(entry)) == repr(entry)


def test_graphs_that_other_scripts_left_executing_are_named_at_the_start(
    town: Lab, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def join(*_: object) -> tuple[Cluster, Session]:
        return Cluster(tmp_path, stay=True), Session.open(town.url, token)

    define("idle")
    R.activate()
    monkeypatch.delenv("RAVENVERSE_URL", raising=False)
    monkeypatch.delenv("RAVENVERSE_TOKEN", raising=False)
    monkeypatch.setattr("ravop.client.api.start_or_join", join)
    R.initialize()
    assert "still executing" not in capsys.readouterr().out
    left = define("left")
    R.activate()
    R.execute()
    R.initialize()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == (
        f"still executing, from other scripts: 'left' ({left.id}, 0%); end one with: ravop cancel {left.id}"
    )


def test_flush_forgets_what_is_not_executing(token: str) -> None:
    executing = define("executing")
    R.activate()
    R.execute()
    define("idle")
    R.activate()
    R.flush()
    assert [info.graph_id for info in R.get_my_graphs()] == [executing.id]
    with pytest.raises(R.errors.NoGraphError):
        R.t([1.0])


def test_ops_report_their_state(token: str) -> None:
    graph = define()
    out = graph.get_ops_by_name("out")[0]
    R.activate()
    R.execute()
    assert out.get_status() == "pending"
    with pytest.raises(R.errors.WaitTimeoutError, match="not computed in time"):
        out.wait_till_computed(timeout=0.1)
    with pytest.raises(UnknownNameError, match="persist_op"):
        graph.ops[0].get_output()


def test_wrong_tokens_are_told_from_wrong_roles(town: Lab) -> None:
    with pytest.raises(TokenError):
        R.initialize("nonsense", url=town.url)
    with pytest.raises(RoleError):
        R.initialize(town.token("provider", "volunteer"), url=town.url)
    revoked = town.token("requester", "gone")
    town.ravsock("token", "revoke", "gone")
    with pytest.raises(TokenError):
        R.initialize(revoked, url=town.url)


def test_another_requesters_graph_is_unknown(town: Lab, token: str) -> None:
    graph = define()
    R.activate()
    R.initialize(town.token("requester", "somebody else"), url=town.url)
    with pytest.raises(UnknownGraphError):
        R.fetch("out", graph=graph.id)
    assert R.get_my_graphs() == []


def test_the_command_line_lists_shows_and_cancels(token: str, cli: Callable[..., Result]) -> None:
    graph = define("seen")
    R.activate()
    R.execute()
    assert "seen" in cli("graphs").output
    assert [entry["graph_id"] for entry in json.loads(cli("graphs", "--json").stdout)] == [graph.id]
    assert "executing" in cli("show", graph.id).output
    assert json.loads(cli("show", graph.id, "--json").stdout)["persisted"][0]["name"] == "out"
    assert json.loads(cli("cancel", graph.id, "--json").stdout)["state"] == "cancelled"
    with pytest.raises(GraphCancelledError):
        R.track_progress()
    watched = cli("watch", graph.id, "--json")
    assert json.loads(watched.stdout.splitlines()[-1])["state"] == "cancelled"
    assert cli("watch", graph.id).exit_code == 1


def test_errors_of_the_command_line_are_one_json_object_on_stderr(cli: Callable[..., Result]) -> None:
    result = cli("show", "nothing", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert json.loads(result.stderr)["code"] == "unknown_graph"
    assert "error:" in cli("show", "nothing").stderr


def test_show_folds_what_libraries_keep(token: str, cli: Callable[..., Result]) -> None:
    graph = define()
    graph.persist(R.t([1.0]) + 1, "Dense_1_W", inner=True)
    R.activate()
    shown = cli("show", graph.id).output
    assert "out" in shown
    assert "Dense_1_W" not in shown
    assert "… and 1 more: weights and optimizer memories (--all)" in shown
    assert "Dense_1_W" in cli("show", graph.id, "--all").output


def test_without_a_coordinator_the_command_line_names_what_to_set(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["graphs"], env={"RAVENVERSE_HOME": str(tmp_path)})
    assert ended.exit_code == 1
    assert "RAVENVERSE_URL and RAVENVERSE_TOKEN" in ended.stderr


def test_a_failure_of_an_embedded_coordinator_names_its_log(
    town: Lab, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RavenError("the coordinator failed on this request", hint="its log says why")

    monkeypatch.setattr(ControlConnection, "call", fail)
    log = str(tmp_path / "logs" / "coordinator.log")
    with (
        closing(Session.open(town.url, token, Cluster(tmp_path, stay=True))) as embedded,
        pytest.raises(RavenError, match=re.escape(log)),
    ):
        embedded.call(ListGraphs(), Graphs)


def test_watching_that_is_interrupted_says_that_the_graph_goes_on(
    cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object, graph_id: str) -> None:
        raise KeyboardInterrupt

    define()
    R.activate()
    (info,) = R.get_my_graphs()
    monkeypatch.setattr(Session, "watch", interrupt)
    ended = cli("watch", info.graph_id)
    assert ended.exit_code == 130
    assert f"Stopped watching; graph {info.graph_id} was not cancelled" in ended.stderr
