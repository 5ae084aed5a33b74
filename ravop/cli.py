"""`ravop graphs | show | watch | fetch | cancel`: a requester's graphs from the command line.

Each command prints for people, or JSON with `--json`. An error ends the program with exit code 1 and its
text, or its `Problem` as JSON, on standard error.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click
import msgspec
import numpy as np
from rich.table import Table

from ravop.client.display import console, duration, elapsed, progress_line, say
from ravop.client.embedded import join
from ravop.client.endpoint import HOME, TOKEN, URL, data_folder, named
from ravop.client.runs import Run
from ravop.client.session import Lost, Session
from ravop.client.values import fetch as fetch_values
from ravop.errors import NotConnectedError, RavenError
from ravop.protocol.messages import Graphs, ListGraphs, PersistedInfo

P = ParamSpec("P")
INTERRUPTED = 130


@click.group()
@click.version_option(package_name="ravenverse")
def main() -> None:
    """See and control the graphs of a requester."""


def command(function: Callable[Concatenate[Session, bool, P], None]) -> click.Command:
    """A sub-command: gets a connected session and whether to print JSON before its own parameters."""

    @main.command()
    @click.option("--url", envvar=URL, show_envvar=True, help="The coordinator's URL.")
    @click.option("--token", envvar=TOKEN, show_envvar=True, help="A requester's token.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @wraps(function)
    def run(url: str | None, token: str | None, as_json: bool, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with connected(url, token) as session:
                function(session, as_json, *args, **kwargs)
        except RavenError as error:
            click.echo(_json(error.problem) if as_json else f"error: {error}", err=True)
            sys.exit(1)

    return run


@contextmanager
def connected(url: str | None, token: str | None) -> Iterator[Session]:
    """A session with the coordinator that is named, else with the embedded cluster that runs.

    Raises `NotConnectedError` when neither is there; never starts anything.
    """
    place = named(token, url)
    session = Session.open(*place) if place else join(data_folder())
    if session is None:
        raise NotConnectedError(
            "there is no coordinator to ask",
            expected=f"--url and --token, or {URL} and {TOKEN} set, or an embedded cluster that runs",
            received=f"none of them; no cluster runs for {data_folder()}",
            hint=f"set {TOKEN} (and {URL}) to what your coordinator's operator gave you; an embedded cluster runs as "
            f"long as its script, or on after ravop.initialize(stay=True); {HOME} tells where it keeps its data",
        )
    try:
        yield session
    finally:
        session.close()


@command
def graphs(session: Session, as_json: bool) -> None:
    """List your graphs, newest first."""
    found = session.call(ListGraphs(), Graphs).graphs
    if as_json:
        click.echo(_json(found))
        return
    table = Table("graph", "name", "state", "done", "created")
    for info in found:
        created = datetime.datetime.fromtimestamp(info.created).strftime("%Y-%m-%d %H:%M")
        table.add_row(info.graph_id, info.name, info.state, f"{info.fraction:.0%}", created)
    console().print(table)


@command
@click.argument("graph_id", metavar="ID")
@click.option("--all", "everything", is_flag=True, help="Names of weights and optimizer memories too.")
def show(session: Session, as_json: bool, graph_id: str, everything: bool) -> None:
    """Show a graph's state, progress, persisted names, and why it failed if it did."""
    info = Run(session, graph_id).info()
    if as_json:
        click.echo(_json(info))
        return
    say(f"{info.name} ({info.graph_id}): {info.state}, {info.fraction:.0%}")
    say(progress_line(info))
    took = elapsed(info)
    if took is not None:
        say(f"took {duration(took)}")
    if info.problem is not None:
        say(info.problem.text())
    table = Table("persisted name", "dtype", "shape", "computed")
    inner = [entry for entry in info.persisted if entry.inner]
    for entry in [entry for entry in info.persisted if not entry.inner] + (inner if everything else []):
        table.add_row(entry.name, entry.dtype, str(list(entry.shape)), _computed(entry))
    console().print(table)
    if inner and not everything:
        say(f"… and {len(inner)} more: weights and optimizer memories (--all)")


def _computed(entry: PersistedInfo) -> str:
    if entry.done or not entry.axes:
        return "yes" if entry.done else "no"
    return f"{entry.available} of {entry.shape[0]}"


@command
@click.argument("graph_id", metavar="ID")
def watch(session: Session, as_json: bool, graph_id: str) -> None:
    """Show a graph's progress until it is done; with --json one object for each change."""
    try:
        if not as_json:
            Run(session, graph_id).track()
            return
        for news in session.watch(graph_id):
            click.echo(_json({"lost": news.reason} if isinstance(news, Lost) else news))
    except KeyboardInterrupt as stopped:
        click.echo(str(stopped), err=True)
        sys.exit(INTERRUPTED)


@command
@click.argument("graph_id", metavar="ID")
@click.argument("name")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the array to a .npy file."
)
def fetch(session: Session, as_json: bool, graph_id: str, name: str, out: Path | None) -> None:
    """Print the value persisted under NAME, or write it to a file."""
    array = fetch_values(session, graph_id, [name])[name]
    if out is not None:
        with out.open("wb") as file:  # given a path, NumPy would append a suffix
            np.save(file, array)
    if as_json:
        value = None if out is not None else array.tolist()
        click.echo(_json({"name": name, "dtype": str(array.dtype), "shape": array.shape, "value": value}))
    else:
        click.echo(f"{array.dtype}{list(array.shape)} in {out}" if out is not None else array)


@command
@click.argument("graph_id", metavar="ID")
def cancel(session: Session, as_json: bool, graph_id: str) -> None:
    """Cancel a graph. What is computed stays fetchable."""
    run = Run(session, graph_id)
    run.cancel()
    info = run.info()
    click.echo(_json(info) if as_json else f"{info.name} ({info.graph_id}): {info.state}")


def _json(value: Any) -> str:
    """JSON of a message or value; numbers that JSON does not have (NaN, inf) become null."""
    return msgspec.json.encode(value).decode()
