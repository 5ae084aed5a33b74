"""Who may connect and say what; messages that are malformed; and the REST API over the same graphs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
import older_protocol as old
import pytest
import socketio
from coordinators import FakeProvider, Requester, Served, branches, expected, serving

from ravop.errors import GraphStateError, MessageError, Problem, RavenError, RoleError, TokenError
from ravop.protocol import messages as m
from ravop.protocol.messages import EVENT, decode, encode
from ravop.release import software
from ravop.transport import ControlConnection


async def connect(served: Served, **hello: Any) -> ControlConnection:
    async def ignore(message: m.Message) -> m.Message:
        return m.Done()

    connection = ControlConnection(
        served.url, m.Hello(**{"role": "requester", **hello}), ignore, m.ToRequester | m.ToProvider
    )
    await connection.connect()
    return connection


@pytest.mark.parametrize(
    ("hello", "error"),
    [
        ({"token": "nonsense"}, TokenError),
        ({"token": ""}, TokenError),
        ({"token": "PROVIDER"}, RoleError),
        ({"token": "REQUESTER", "role": "provider"}, RoleError),
        ({"token": "x" * 500}, MessageError),
        ({"token": "REQUESTER", "role": "admin"}, MessageError),
    ],
)
async def test_connections_that_are_refused(
    tmp_path: Path, hello: dict[str, Any], error: type[RavenError]
) -> None:
    async with serving(tmp_path) as served:
        tokens = {role.upper(): served.token(role) for role in ("requester", "provider")}
        hello = {**hello, "token": tokens.get(hello["token"], hello["token"])}
        with pytest.raises(error):
            await connect(served, **hello)


async def test_a_revoked_token_is_refused_even_on_an_open_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        token = served.token("requester", "old")
        connection = await connect(served, token=token)
        await connection.call(m.ListGraphs())
        served.store.revoke_token("old", 0.0)
        served.coordinator._auth._known.clear()  # which forgets by itself after seconds
        with pytest.raises(TokenError, match="revoked"):
            await connection.call(m.ListGraphs())
        await connection.close()
        with pytest.raises(TokenError, match="revoked"):
            await connect(served, token=token)


async def test_an_admin_may_be_both_and_sees_all_graphs(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        graph = branches(1)
        await alice.call(await alice.upload(graph))
        admin = await connect(served, token=served.token("admin"))
        assert [g.graph_id for g in (await admin.call(m.ListGraphs())).graphs] == [graph.id]
        await admin.close()


async def test_each_role_may_send_only_its_own_messages(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        requester = await connect(served, token=served.token("requester"))
        provider = await connect(served, token=served.token("provider"), role="provider")
        for connection, message in (
            (requester, m.Beat()),
            (requester, m.Report()),
            (provider, m.ListGraphs()),
            (provider, m.Cancel(graph_id="x")),
        ):
            with pytest.raises(RoleError):
                await connection.call(message)
        with pytest.raises(GraphStateError, match="register first"):
            await provider.call(m.Beat())
        assert await provider.call(m.JoinableGraphs()) == m.Graphs(graphs=())
        await requester.close()
        await provider.close()


async def test_a_provider_id_belongs_to_the_token_that_used_it_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        async with served.provider("one"):
            pass
        with pytest.raises(RoleError):
            async with served.provider("one"):
                pass


HELLO = {"role": "requester", "protocol": m.VERSION, "software": "ravenverse 9"}


@asynccontextmanager
async def raw(served: Served, **hello: Any) -> AsyncIterator[Any]:
    """A client that says what the test says."""
    async with aiohttp.ClientSession() as http:
        client = socketio.AsyncClient(reconnection=False, http_session=http)
        await client.connect(served.url, auth=hello, transports=["websocket"])
        yield client
        await client.disconnect()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (b"", "message"),
        (b"\x93rubbish", "message"),
        ("text", "message"),
        ({"t": "ListGraphs"}, "message"),
        ((encode(m.ListGraphs()), b"more"), "message"),
        (msgspec.msgpack.encode((m.VERSION, {"t": "Unknown"})), "message"),
        (msgspec.msgpack.encode((m.VERSION, {"t": "Execute"})), "message"),
        (msgspec.msgpack.encode((m.VERSION, {"t": "Execute", "graph_id": "a b"})), "message"),
        (msgspec.msgpack.encode((m.VERSION, {"t": "Execute", "graph_id": "x", "more": 1})), "message"),
        (msgspec.msgpack.encode((99, {"t": "ListGraphs"})), "version"),
    ],
)
async def test_malformed_messages_are_refused_and_the_connection_goes_on(
    tmp_path: Path, arguments: Any, code: str
) -> None:
    async with serving(tmp_path) as served, raw(served, **HELLO, token=served.token("requester")) as client:
        answer = await client.call(EVENT, arguments)
        assert decode(answer, m.Refused).problem.code == code
        assert decode(await client.call(EVENT, encode(m.ListGraphs())), m.Graphs) == m.Graphs(graphs=())


@pytest.mark.parametrize(
    ("protocol", "what_to_do"), [(1, "a later one"), (4, "be upgraded"), ("3", "install")]
)
async def test_a_client_of_no_common_version_is_told_what_to_install(
    tmp_path: Path, protocol: Any, what_to_do: str
) -> None:
    told: list[Problem] = []
    async with serving(tmp_path) as served, aiohttp.ClientSession() as http:
        client = socketio.AsyncClient(reconnection=False, http_session=http)
        client.on("connect_error", lambda data: told.append(msgspec.convert(data["data"], Problem)))
        with pytest.raises(socketio.exceptions.ConnectionError):
            await client.connect(
                served.url, auth=HELLO | {"token": "", "protocol": protocol}, transports=["websocket"]
            )
    (problem,) = told
    assert (problem.code, problem.expected) == ("version", f"version 2 to 3, as {software()} does")
    assert problem.received == f"version {protocol}, of ravenverse 9"
    assert f"install {software()} in place of ravenverse 9" in problem.hint
    assert what_to_do in problem.hint


async def test_clients_of_version_2_run_graphs(tmp_path: Path) -> None:
    """They are strict, as that release was: a field that it did not know is an error."""
    assigned: asyncio.Queue[Any] = asyncio.Queue()
    done = asyncio.Event()

    def assign(data: bytes) -> bytes:
        assigned.put_nowait(old.unpacked(data)["tasks"])
        return old.packed("Done")

    def inform(data: bytes) -> bytes:
        if old.unpacked(data)["state"] == "done":
            done.set()
        return old.packed("Done")

    async def call(client: Any, kind: str, **fields: Any) -> dict[str, Any]:
        return old.unpacked(await client.call(EVENT, old.packed(kind, **fields)))

    async with serving(tmp_path) as served:
        tokens = {role: served.token(role) for role in ("requester", "provider")}
        uploads = Requester(served.url, tokens["requester"])
        engine = FakeProvider(served.url, tokens["provider"], "old")
        async with (
            raw(served, **HELLO | {"token": tokens["requester"], "protocol": 2}) as requester,
            raw(
                served, **HELLO | {"token": tokens["provider"], "protocol": 2, "role": "provider"}
            ) as provider,
            uploads.blobs,
            engine.blobs,
        ):
            provider.on(EVENT, assign)
            requester.on(EVENT, inform)
            profile = msgspec.to_builtins(engine.profile)
            assert (await call(provider, "Register", provider_id="old", profile=profile))["t"] == "Registered"
            activate = await uploads.upload(branches(1))
            named = {"graph_id": activate.graph_id}
            await call(requester, "Activate", model=activate.model, manifest=activate.manifest, **named)
            await call(requester, "Watch", **named)
            assert await call(requester, "Execute", **named) == {"t": "Done"}
            async with served.requester(
                tokens["requester"]
            ) as modern:  # which has something to say of traces
                await modern.call(m.Execute(trace=f"00-{'a' * 32}-{'b' * 16}-01", **named))
            (task,) = await asyncio.wait_for(assigned.get(), 20)
            outputs = await engine.compute(msgspec.convert(task, m.Task))
            result = {"outputs": msgspec.to_builtins(outputs, builtin_types=(bytes,)), "seconds": 0.1}
            held = {"task_id": task["task_id"], "attempt": task["attempt"]}
            assert (await call(provider, "Report", done=[result | held]))["accepted"] == 1
            await asyncio.wait_for(done.wait(), 20)


async def test_a_failure_inside_is_told_without_its_details(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        monkeypatch.setattr(served.store, "graphs", lambda *_: 1 / 0)
        with pytest.raises(RavenError, match="its log says why") as caught:
            await alice.call(m.ListGraphs())
        assert caught.value.problem.code == "error"
        assert "division" not in str(caught.value)


async def test_a_second_connection_of_a_provider_replaces_the_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        token = served.token("provider")
        async with served.provider("one", token) as first:
            await alice.run(branches(1))
            task = await first.take()
            held = m.HeldTask(task_id=task.task_id, attempt=task.attempt)
            async with served.provider("one", token) as second:
                await asyncio.wait_for(first.connection.closed.wait(), 10)
                again = await second.take()
                assert (again.task_id, again.attempt) == (held.task_id, held.attempt + 1)


@asynccontextmanager
async def people(served: Served, token: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(served.url, headers={"Authorization": f"Bearer {token}"}) as http:
        yield http


async def get(http: aiohttp.ClientSession, path: str, status: int = 200) -> Any:
    async with http.get(path) as response:
        assert response.status == status, await response.text()
        assert response.content_type == "application/json"
        return await response.json()


async def test_the_rest_api_shows_the_same_graphs(tmp_path: Path) -> None:
    token = ""
    async with serving(tmp_path) as served:
        token = served.token("requester")
        async with (
            served.requester(token) as alice,
            served.provider() as provider,
            people(served, token) as http,
        ):
            provider.keep_working()
            graph_id = await alice.run(branches(1))
            await alice.until_state(graph_id, "done")
            (listed,) = await get(http, "/api/graphs")
            assert (listed["graph_id"], listed["state"]) == (graph_id, "done")
            shown = await get(http, f"/api/graphs/{graph_id}")
            assert [p["name"] for p in shown["persisted"]] == ["branch_0"]
            value = await get(http, f"/api/graphs/{graph_id}/results/branch_0")
            assert (value["dtype"], value["shape"]) == ("float32", [8, 8])
            np.testing.assert_allclose(value["value"], expected(0), rtol=1e-5)
            (one,) = await get(http, "/api/providers")
            assert (one["name"], one["connected"], one["tasks_done"] > 0) == ("one", True, True)


async def test_the_rest_api_refuses_as_the_sockets_do(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.requester() as alice:
        graph = branches(1)
        await alice.call(await alice.upload(graph))
        async with people(served, served.token("requester")) as bob, people(served, "nonsense") as nobody:
            assert (await get(bob, f"/api/graphs/{graph.id}", 404))["code"] == "unknown_graph"
            assert (await get(nobody, "/api/graphs", 401))["code"] == "token"
            assert (await get(nobody, "/api/nothing", 404))["code"] == "message"
            assert await get(nobody, "/api/health") == {"status": "ok"}
        async with people(served, served.token("provider")) as provider:
            assert (await get(provider, "/api/graphs", 403))["code"] == "role"


async def test_a_graph_is_cancelled_by_rest(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        token = served.token("requester")
        async with served.requester(token) as alice, people(served, token) as http:
            graph_id = await alice.run(branches(1))
            assert (await get(http, f"/api/graphs/{graph_id}/results/branch_0", 409))[
                "code"
            ] == "not_computed"
            assert (await get(http, f"/api/graphs/{graph_id}/results/other", 404))["code"] == "unknown_name"
            async with http.post(f"/api/graphs/{graph_id}/cancel") as response:
                assert (response.status, (await response.json())["state"]) == (200, "cancelled")
            await alice.until_state(graph_id, "cancelled")
