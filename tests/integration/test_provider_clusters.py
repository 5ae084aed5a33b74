"""Clusters that cannot be used: what the volunteer is told. Those that can are in `tests/e2e/test_clusters.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from processes import free_port
from rich.console import Console

from provider.cli import main
from provider.core.exits import Exit
from provider.display import Display
from provider.executors import clusters, on_dask
from provider.executors.jobs import Introduce, Reply, Terms, Unable, pack, unpack
from provider.executors.site import answer
from provider.home import Home
from provider.launch import serve
from provider.settings import ClusterSettings, Settings


async def test_a_scheduler_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_dask, "CONNECT_SECONDS", 0.5)
    address = f"tcp://127.0.0.1:{free_port()}"
    settings = Settings(
        url="http://127.0.0.1:1", token="token", name="gateway", max_memory=0, max_cache=2**20,
        cluster=ClusterSettings(engine="dask", address=address),
    )  # fmt: skip
    home = Home(tmp_path, "gateway")
    with home.lock():
        quit = await serve(settings, home, Display(Console(quiet=True)))
    assert quit.code == Exit.CLUSTER
    assert quit.problem is not None
    assert address in quit.problem.expected
    assert "dask scheduler" in quit.problem.hint


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clusters.ENGINES, "dask", ("no_such_package", "on_dask"))
    with pytest.raises(clusters.ArgumentError, match=r"pip install 'ravenverse\[dask\]'"):
        clusters.connect(ClusterSettings(engine="dask", address="tcp://127.0.0.1:1"), threads=1)


def test_a_worker_of_another_release_says_so() -> None:
    terms = Terms(
        url="http://127.0.0.1:1", token="token", threads=1, memory=1, max_cache=1, software="ravenverse 0.0.1"
    )
    said = unpack(answer(pack(Introduce(terms=terms))), Reply)
    assert isinstance(said, Unable)
    assert said.problem.code == "version"
    assert "ravenverse 0.0.1" in said.problem.expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--executor", "ray"), "needs --ray-address"),
        (("--executor", "ray", "--dask-scheduler", "tcp://a:1"), "contradict"),
        (("--ray-address", "a:1", "--dask-scheduler", "tcp://a:1"), "choose one"),
    ],
)
def test_options_that_name_no_cluster_or_two(options: tuple[str, ...], said: str) -> None:
    ended = CliRunner().invoke(main, ["start", "--token", "t", *options])
    assert ended.exit_code == 2
    assert said in ended.output
