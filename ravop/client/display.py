"""What people see: the plan as a table, progress as a live line, quantities in readable units.

Only formatting and printing; what is shown comes as values of the protocol. On a terminal the progress is
one line that is drawn again and again; anywhere else it is a plain line now and then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table

from ravop.protocol.messages import GraphInfo, PlanSummary, UnitSummary

PLAIN_SECONDS = 2.0
"""Between two plain progress lines, unless something else than numbers changes."""
STILL_SECONDS = 60.0
"""Between two plain lines while nothing changes."""
PLAN_ROWS = 20
LARGE_UPLOAD = 8_000_000
"""Bytes from which an upload is shown."""
PLAIN_WIDTH = 140
NAMED_GRAPHS = 3
"""How many graphs a line names."""


def console() -> Console:
    """A console on the present `sys.stdout`; wide where that is no terminal, so that nothing is wrapped."""
    found = Console(highlight=False, markup=False, emoji=False)
    return (
        found if found.is_terminal else Console(width=PLAIN_WIDTH, highlight=False, markup=False, emoji=False)
    )


def say(text: str) -> None:
    console().print(text, soft_wrap=True)


# ── quantities ──────────────────────────────────────────────────────────────────────────────────────────────
def quantity(value: float, unit: str) -> str:
    """`1234567, "B"` → `1.23 MB`: three digits and a decimal prefix."""
    for prefix in ("", "k", "M", "G", "T"):
        if value < 999.5:
            return f"{value:.3g} {prefix}{unit}"
        value /= 1000
    return f"{value:,.3g} P{unit}"


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


# ── the plan ────────────────────────────────────────────────────────────────────────────────────────────────
def show_plan(name: str, graph_id: str, plan: PlanSummary, notes: Sequence[str] = ()) -> None:
    """Print what `activate` learned: subgraphs, their cost, what the fleet makes of it; and the graph's own notes."""
    table = Table(title=f"graph {name!r} ({graph_id})", title_justify="left")
    table.add_column("subgraph", overflow="fold")
    table.add_column("kind")
    for heading in ("runs", "nodes", "FLOP", "in", "out", "memory"):
        table.add_column(heading, justify="right")
    heaviest = sorted(range(len(plan.units)), key=lambda index: -plan.units[index].flops)[:PLAN_ROWS]
    for index in sorted(heaviest):
        table.add_row(*_cells(plan.units[index]))
    screen = console()
    screen.print(table)
    if len(heaviest) < len(plan.units):
        screen.print(f"… and {len(plan.units) - len(heaviest):,} smaller ones")
    screen.print(plan_line(plan), soft_wrap=True)
    for note in (*notes, *plan.notes):
        screen.print(f"note: {note}", soft_wrap=True)


def _cells(unit: UnitSummary) -> tuple[str, ...]:
    return (
        unit.label,
        unit.kind,
        f"{unit.iterations:,}",
        f"{unit.nodes:,}",
        quantity(unit.flops, ""),
        quantity(unit.bytes_in, "B"),
        quantity(unit.bytes_out, "B"),
        quantity(unit.peak_memory, "B"),
    )


def plan_line(plan: PlanSummary) -> str:
    """The plan in one sentence."""
    parts = [_count(len(plan.units), "subgraph"), _count(plan.steps, "step"), quantity(plan.flops, "FLOP")]
    parts.append(f"useful providers: {'up to ' if plan.useful_providers > 1 else ''}{plan.useful_providers}")
    if plan.fleet_seconds is None:
        parts.append("no provider is connected yet, so the time cannot be estimated")
    else:
        parts.append(f"about {duration(plan.fleet_seconds)} on the connected providers")
    if plan.single_seconds is not None:
        parts.append(f"{duration(plan.single_seconds)} on one machine")
    return " · ".join(parts)


# ── progress ────────────────────────────────────────────────────────────────────────────────────────────────
def progress_line(info: GraphInfo) -> str:
    """Steps, the time left, providers, tasks and metrics; a narrow terminal shows the beginning."""
    parts = [f"step {info.steps_done:,}/{info.steps_total:,}"] if info.steps_total else []
    if info.state == "executing" and info.eta is not None and info.providers:
        parts.append(f"ETA {duration(info.eta)}")
    if info.waiting:
        parts.append(info.waiting)
    if info.providers or not info.waiting:
        parts.append(_count(info.providers, "provider"))
    parts.append(
        f"tasks {info.tasks_done:,} done, {info.tasks_running:,} running, {info.tasks_queued:,} queued"
    )
    parts += [f"{label} {value:.4g}" for label, value in info.metrics.items()]
    return " · ".join(parts)


def elapsed(info: GraphInfo) -> float | None:
    """Seconds that a finished graph took."""
    return None if info.started is None or info.finished is None else info.finished - info.started


def still_executing(graphs: Sequence[GraphInfo]) -> str:
    """What a script is told that finds graphs of other scripts at work, which take their share of the machine."""
    if not graphs:
        return ""
    named = [f"{info.name!r} ({info.graph_id}, {info.fraction:.0%})" for info in graphs[:NAMED_GRAPHS]]
    more = [f"{len(graphs) - NAMED_GRAPHS} more"] if len(graphs) > NAMED_GRAPHS else []
    return f"still executing, from other scripts: {', '.join(named + more)}; end one with: ravop cancel {graphs[0].graph_id}"


class UploadDisplay:
    """Shows how much of an upload is done, where there is enough to upload to wait for; a context manager."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._live: Progress | None = None

    def __enter__(self) -> UploadDisplay:
        if self._size < LARGE_UPLOAD:
            return self
        screen = console()
        if screen.is_terminal:
            self._live = Progress(
                TextColumn("uploading"),
                BarColumn(bar_width=24),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=screen,
            )
            self._task = self._live.add_task("", total=self._size)
            self._live.start()
        else:
            say(f"uploading {quantity(self._size, 'B')}")
        return self

    def sent(self, size: int) -> None:
        """So many bytes more are there."""
        if self._live is not None:
            self._live.advance(self._task, size)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


class ProgressDisplay:
    """Shows the progress of one graph; a context manager. Call `info` and `lost` with the news."""

    def __init__(self) -> None:
        self._title = "ravenverse"
        self._screen = console()
        self._live: Progress | None = None
        self._printed = 0.0
        self._state = self._line = ""

    def __enter__(self) -> ProgressDisplay:
        if self._screen.is_terminal:
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=max(4, min(24, self._screen.width // 8))),
                TaskProgressColumn(),
                TextColumn(
                    "{task.fields[line]}",
                    markup=False,
                    table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
                ),
                console=self._screen,
                expand=True,
            )
            self._task = self._live.add_task(self._title, total=1.0, line="")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def info(self, info: GraphInfo) -> None:
        self._title = info.name
        self._show(progress_line(info), info.fraction, f"{info.state} {info.waiting}")

    def lost(self, reason: str) -> None:
        self._show(reason, None, "lost")

    def _show(self, line: str, fraction: float | None, state: str) -> None:
        """`state`: a plain line is printed at once when it changes, else now and then, and seldom where it is the same."""
        if self._live is not None:
            self._live.update(self._task, description=self._title, completed=fraction, line=line)
            return
        now = time.monotonic()
        same = fraction is None or line == self._line  # attempts to reach a lost coordinator are no news
        if state != self._state or now - self._printed >= (STILL_SECONDS if same else PLAIN_SECONDS):
            percent = "" if fraction is None else f"{fraction:4.0%} "
            self._screen.print(f"{self._title}: {percent}{line}", soft_wrap=True)
            self._printed, self._state, self._line = now, state, line
