"""`provider start | stop | status | graphs | benchmark`: the volunteer's command line."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from provider import control, home
from provider.core.exits import MEANING, Exit
from provider.display import Display
from provider.home import Home
from provider.launch import serve
from provider.machine import speed
from provider.options import cluster_options, coordinator_options, json_option, name_option, size_option
from provider.sandbox import Sandbox
from provider.settings import (
    DEFAULT_CACHE,
    DEFAULT_MEMORY,
    MAX_SLOTS,
    ClusterSettings,
    Settings,
    default_memory,
    default_name,
)
from provider.status import Status, lines
from ravop import logs, tracing
from ravop.client.display import console
from ravop.errors import AlreadyRunningError, MessageError, NotRunningError, RavenError
from ravop.protocol.messages import Done, Graphs, Hello, JoinableGraphs, Message, ToProvider
from ravop.release import software
from ravop.transport import ControlConnection

STOP_SECONDS = 30.0
POLL_SECONDS = 0.1


@click.group(
    epilog="Exit codes of start: " + "; ".join(f"{int(code)} {text}" for code, text in MEANING.items())
)
@click.version_option(message=software())
def main() -> None:
    """Lend this machine's spare time: compute subgraphs for a Ravenverse coordinator."""


@main.command()
@coordinator_options
@cluster_options
@click.option(
    "--slots",
    type=click.IntRange(1, MAX_SLOTS),
    help="Tasks at one time.  [default: 1; of a cluster, as many as it has]",
)
@click.option(
    "--threads", type=click.IntRange(1, 4096), default=1, show_default=True, help="Threads of a task."
)
@size_option("--max-memory", f"Memory of a task.  [default: {DEFAULT_MEMORY}, or less]")
@size_option("--max-cache", "Disk space for data.", DEFAULT_CACHE)
@click.option("--graph", metavar="ID", help="Work on this graph only.")
@name_option("Of this provider, its state folder included.  [default: the machine's name]")
@click.option("--with-stdin", is_flag=True, help="Stop when stdin ends.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    envvar="RAVENVERSE_LOG_FORMAT",
    show_envvar=True,
    show_default=True,
    help="json: one object a line.",
)
def start(
    url: str,
    token: str,
    cluster: ClusterSettings | None,
    slots: int | None,
    threads: int,
    max_memory: int | None,
    max_cache: int,
    graph: str | None,
    name: str | None,
    with_stdin: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Connect, compute and reconnect until stopped (Ctrl-C: finish or hand back; twice: hand back at once)."""
    screen = Console(stderr=True)
    _log_to(screen, log_level, log_format)
    tracing.configure("provider")
    slots = slots or (MAX_SLOTS if cluster else 1)
    settings = Settings(
        url=url,
        token=token,
        name=name or default_name(),
        slots=slots,
        threads=threads,
        max_memory=max_memory or (0 if cluster else default_memory(slots)),
        max_cache=max_cache,
        graph=graph,
        with_stdin=with_stdin,
        cluster=cluster,
    )
    place = Home(home.root(os.environ), settings.name)
    try:
        with place.lock():
            quit = asyncio.run(serve(settings, place, Display(screen)))
    except AlreadyRunningError as error:
        _fail(error, Exit.RUNNING)
    click.echo(MEANING[quit.code] if quit.problem is None else f"error: {quit.problem.text()}", err=True)
    sys.exit(quit.code)


@main.command()
@name_option("Of one provider.  [default: all of this user]")
@json_option
def status(name: str | None, as_json: bool) -> None:
    """What the providers on this machine do now, and why they wait."""
    found = _running(name)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    elif found:
        click.echo("\n".join(line for one in found for line in lines(one)))
    if not found:
        _fail(_not_running(name))


@main.command()
@name_option("Of the provider to stop, where several run.")
def stop(name: str | None) -> None:
    """Let the provider finish or hand back its tasks, and end."""
    found = _running(name)
    if not found:
        _fail(_not_running(name))
    if len(found) > 1:
        raise click.UsageError(
            "several providers run, choose one by --name: " + ", ".join(s.name for s in found)
        )
    place = Home(home.root(os.environ), found[0].name)
    try:
        control.ask(place, "stop")
    except NotRunningError as error:
        _fail(error)
    click.echo(f"{found[0].name} is stopping", err=True)
    deadline = time.monotonic() + STOP_SECONDS
    while place.control() is not None:
        if time.monotonic() > deadline:
            click.echo(
                f"it still runs after {STOP_SECONDS:g} s; `provider stop` again is more urgent", err=True
            )
            sys.exit(1)
        time.sleep(POLL_SECONDS)
    click.echo("it has ended", err=True)


@main.command()
@coordinator_options
@json_option
def graphs(url: str, token: str, as_json: bool) -> None:
    """List the graphs that this provider could work on."""
    try:
        found = asyncio.run(_joinable(url, token))
    except RavenError as error:
        _fail(error)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found.graphs)))
        return
    if not found.graphs:
        click.echo("no graph is executing")
        return
    table = Table("graph", "name", "state", "done", "tasks queued", "tasks running")
    for info in found.graphs:
        done, queued, running = f"{info.fraction:.0%}", str(info.tasks_queued), str(info.tasks_running)
        table.add_row(info.graph_id, info.name, info.state, done, queued, running)
    console().print(table)


@main.command()
@click.option("--threads", type=click.IntRange(1, 4096), default=1, show_default=True, help="Of the engine.")
@name_option("Of the provider whose measurement is renewed.  [default: the machine's name]")
@json_option
def benchmark(threads: int, name: str | None, as_json: bool) -> None:
    """Measure this machine's speed with a short matmul and convolution."""
    place = Home(home.root(os.environ), name or default_name())
    place.folder.mkdir(parents=True, exist_ok=True)

    async def measure(folder: Path) -> tuple[Any, Any]:
        sandbox = Sandbox(folder, folder, default_memory(1), threads)
        try:
            return await speed(sandbox, place, threads, again=True)
        finally:
            await sandbox.close()

    with tempfile.TemporaryDirectory() as folder:
        try:
            ready, measured = asyncio.run(measure(Path(folder)))
        except RavenError as error:
            _fail(error)
    if as_json:
        values = {"engine": ready.engine, "threads": threads} | msgspec.structs.asdict(measured)
        click.echo(msgspec.json.format(msgspec.json.encode(values)))
        return
    click.echo(f"{ready.engine}, {threads} threads")
    click.echo(f"  matmul       {measured.matmul_gflops:8.1f} GFLOP/s")
    click.echo(f"  convolution  {measured.conv_gflops:8.1f} GFLOP/s")


def _log_to(screen: Console, level: str, kind: str) -> None:
    """Log lines above the live line of a terminal, or plain ones."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    text = "%(asctime)s %(levelname)s %(message)s"
    if screen.is_terminal and kind == "text":
        handler, text = (
            RichHandler(console=screen, show_path=False, log_time_format="%Y-%m-%d %H:%M:%S"),
            "%(message)s",
        )
    logging.basicConfig(level=level.upper(), handlers=[logs.formatted(handler, kind, text)])
    for noisy in ("socketio", "engineio", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _running(name: str | None) -> list[Status]:
    """The providers of this user that answer."""
    folder = home.root(os.environ)
    found = []
    for one in [name] if name else home.names(folder):
        try:
            found.append(control.ask(Home(folder, one), "status"))
        except NotRunningError:
            continue
    return found


def _not_running(name: str | None) -> NotRunningError:
    return NotRunningError(
        f"no provider called {name!r} runs here" if name else "no provider runs here",
        hint="start one with `provider start`",
    )


async def _joinable(url: str, token: str) -> Graphs:
    async def on_message(message: Any) -> Message:
        return Done()

    connection = ControlConnection(
        url, Hello(token=token, role="provider", software=software()), on_message, ToProvider
    )
    await connection.connect()
    try:
        reply = await connection.call(JoinableGraphs())
    finally:
        await connection.close()
    if not isinstance(reply, Graphs):
        raise MessageError("the coordinator answered with something else", received=type(reply).__name__)
    return reply


def _fail(error: RavenError, code: int = 1) -> NoReturn:
    click.echo(f"error: {error.problem.text()}", err=True)
    sys.exit(code)
