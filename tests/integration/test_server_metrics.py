"""What a coordinator tells Prometheus, read by Prometheus' own parser; who may read it; and docs that list all of it."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from coordinators import Served, branches, serving
from prometheus_client.parser import text_string_to_metric_families

from ravop.errors import ComputeError, RoleError
from ravop.protocol.messages import Cancel
from ravop.protocol.tensors import encode_tensor, sha256

DOCS = Path(__file__).resolve().parents[2] / "docs" / "observability.md"


async def scrape(served: Served, token: str | None, status: int = 200) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(served.url, headers=headers) as http, http.get("/metrics") as response:
        assert response.status == status
        return await response.text()


def values(page: str) -> dict[str, float]:
    """Samples by name and labels, as they are written."""
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


async def test_a_run_is_counted(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as served,
        served.requester() as requester,
        served.provider("one") as provider,
    ):
        graph = branches(2)
        await requester.run(graph)
        first = await provider.take()
        admin = served.token("admin")
        before = values(await scrape(served, admin))
        assert before["ravenverse_tasks{state=leased}"] >= 1
        assert before["ravenverse_graphs{state=executing}"] == 1
        assert before["ravenverse_oldest_lease_seconds"] >= 0
        assert before["ravenverse_batches"] == 1
        await provider.fail(first, ComputeError("no").problem)
        provider.keep_working()
        await requester.until_state(graph.id, "done")
        with pytest.raises(RoleError):
            await provider.connection.call(Cancel(graph_id=graph.id))
        data = encode_tensor(np.arange(100_000.0))
        await requester.blobs.put(data, sha256(data))
        served.coordinator._routes["/metrics"]._counted = 0.0  # type: ignore[attr-defined]  # which waits for seconds
        after = values(await scrape(served, admin))
        assert "--role admin" in await scrape(served, None, 401)
        await scrape(served, served.token("requester"), 403)
    assert after["ravenverse_tasks{state=leased}"] == 0
    assert after["ravenverse_graphs{state=done}"] == 1
    assert after["ravenverse_attempts_total{outcome=accepted}"] >= 2
    assert after["ravenverse_attempts_total{outcome=failed}"] == 1
    assert after["ravenverse_task_failures_total{code=compute}"] == 1
    assert after["ravenverse_errors_total{code=role}"] >= 1
    assert after["ravenverse_messages_total{type=Report}"] >= 2
    assert after["ravenverse_blob_bytes_total{direction=in}"] >= len(data)
    assert after["ravenverse_http_requests_total{method=PUT,plane=blobs,status=201}"] >= 1
    assert after["ravenverse_dispatch_seconds_count"] >= 2
    assert after["ravenverse_lease_seconds_count"] >= 2
    assert after["ravenverse_commit_seconds_count"] >= 1
    assert after["ravenverse_changes_total"] >= after["ravenverse_commit_seconds_count"]
    assert after["ravenverse_connections{role=requester}"] == 1
    assert (after["ravenverse_providers"], after["ravenverse_slots"]) == (1, 1)
    assert after["ravenverse_healthy"] == 1


async def test_docs_list_all_metrics(tmp_path: Path) -> None:
    table = dict(re.findall(r"^\| `(ravenverse_\w+)`[^|]*\| (\w+) \|", DOCS.read_text("utf-8"), re.MULTILINE))
    async with serving(tmp_path) as served:
        families = list(text_string_to_metric_families(await scrape(served, served.token("admin"))))
    told = {f.name: f.type for f in families if f.name.startswith("ravenverse_")}
    names = {name + "_total" if kind == "counter" else name: kind for name, kind in told.items()}
    assert {
        name: "gauge" if name == "ravenverse_build_info" else kind for name, kind in names.items()
    } == table


async def test_strangers_cannot_make_series(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, aiohttp.ClientSession(served.url) as http:
        for path in ("/made-up", "/api/x", "/blobs/none"):
            async with http.request("MADEUP", path) as response:
                assert response.status >= 400
        page = await scrape(served, served.token("admin"))
    assert "made-up" not in page.lower()
    assert "MADEUP" not in page
