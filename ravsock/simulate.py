"""The command `ravsock simulate`: a fleet in virtual time, and what the coordinator's policies make of it.

The simulation is `ravsock.core.simulation`; here are its options and its table.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from ravop.errors import ArgumentError
from ravsock.core import deadlines, jobs
from ravsock.core.deadlines import Policy
from ravsock.core.simulation import simulate
from ravsock.core.simulation.options import SPEEDS, WORKLOADS, Fleet, Options, Trial, Work
from ravsock.core.simulation.result import Result

MOST_CHURN = 4.0
_positive = click.IntRange(1)
_share = click.FloatRange(0, 1)


@click.command("simulate")
@click.option("--providers", default=1000, show_default=True, type=_positive, help="Connected at a time.")
@click.option("--slots", default=1, show_default=True, type=_positive, help="Of each provider.")
@click.option(
    "--speeds", default=(2.0, 200.0), show_default=True, nargs=2, type=float, help="Slowest and fastest, in GFLOPS."
)  # fmt: skip
@click.option(
    "--churn", default=0.2, show_default=True, type=click.FloatRange(0),
    help="The share that leaves in an hour: at 0.2, each stays for 5 hours on average."
)  # fmt: skip
@click.option(
    "--failures", default=0.002, show_default=True, type=_share, help="The share of runs that fail."
)
@click.option(
    "--hours", default=2.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Work for the whole fleet."
)  # fmt: skip
@click.option("--workload", default="tasks", show_default=True, type=click.Choice(WORKLOADS))
@click.option(
    "--task-seconds", default=300.0, show_default=True, type=click.FloatRange(0, min_open=True),
    help="Of a task on a provider of median speed.",
)  # fmt: skip
@click.option("--requesters", default=3, show_default=True, type=_positive)
@click.option(
    "--lease-factor", default=deadlines.LEASE_FACTOR, show_default=True, type=click.FloatRange(1),
    help="Times its estimate that a task may take of which little was seen.",
)  # fmt: skip
@click.option(
    "--spreads", default=deadlines.SPREADS, show_default=True, type=click.FloatRange(0),
    help="How far beyond the slowest tenth a lease reaches.",
)  # fmt: skip
@click.option(
    "--chunk-seconds", default=deadlines.CHUNK_SECONDS, show_default=True, type=click.FloatRange(0, min_open=True)
)  # fmt: skip
@click.option(
    "--prefetch", default=jobs.PREFETCH, show_default=True, type=click.IntRange(0), help="Batches beyond the slots."
)  # fmt: skip
@click.option(
    "--copies/--no-copies", default=True, show_default=True, help="Second attempts of what is late."
)
@click.option(
    "--placement", default="measured", show_default=True, type=click.Choice(SPEEDS), help="Speeds that placement goes by."
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True)
def simulate_command(
    providers: int, slots: int, speeds: tuple[float, float], churn: float, failures: float, hours: float,
    workload: str, task_seconds: float, requesters: int, lease_factor: float, spreads: float, chunk_seconds: float,
    prefetch: int, copies: bool, placement: str, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Simulate a fleet: providers that come, go and fail, under the coordinator's own decisions.

    Nothing is computed and nothing is connected; the same seed gives the same figures.
    """
    if not 0 < speeds[0] <= speeds[1]:
        raise ArgumentError(
            "these speeds are no range", expected="slowest, then fastest, above 0", received=str(speeds)
        )
    if churn > MOST_CHURN:
        raise ArgumentError(
            "no fleet could work that leaves so often",
            expected=f"at most {MOST_CHURN:g}, at which each provider stays for {60 / MOST_CHURN:.0f} minutes on average",
            received=f"--churn {churn:g}",
            hint=f"it is a share, not a percentage: {churn:g} % are --churn {churn / 100:g}",
        )
    options = Options(
        fleet=Fleet(providers=providers, slots=slots, gflops=speeds, churn=churn, failures=failures),
        work=Work(kind=workload, hours=hours, task_seconds=task_seconds, requesters=requesters),
        trial=Trial(
            times=Policy(lease_factor=lease_factor, spreads=spreads, chunk_seconds=chunk_seconds),
            copies=copies,
            prefetch=prefetch,
            speeds=placement,
        ),
    )
    screen = Console(stderr=True)
    if screen.is_terminal:
        with screen.status("simulating …") as status:
            result = _simulated(options, seed, lambda hours: status.update(f"simulated: {hours:.1f} h"))
    else:
        result = _simulated(options, seed, lambda _: None)
    if as_json:
        click.echo(msgspec.json.encode(result).decode())
    else:
        Console().print(_table(result))


def _simulated(options: Options, seed: int, tell: Callable[[float], None]) -> Result:
    return simulate(options, np.random.default_rng(seed), time.perf_counter, tell)


def _table(result: Result) -> Table:
    """For people."""
    table = Table("simulated", "", title="unfinished: the hours were over" if result.unfinished else None)
    wasted = ", ".join(f"{why} {share:.1%}" for why, share in result.wasted.items() if share)
    placing = result.placing_seconds / max(result.placed, 1) * 1e3
    lines = {
        "utilisation while work was ready": f"{result.utilisation:.1%} for {result.saturated_hours:.2f} h",
        "utilisation until the last task": f"{result.utilisation_whole:.1%}",
        "wasted": wasted or "nothing",
        "all done after": f"{result.hours:.2f} h; at best {result.bound_hours:.2f} h",
        "tasks, attempts": f"{result.tasks:,}, {result.attempts:,}",
        "leases that ran out": f"{result.expired:,}",
        "second attempts": f"{result.copies:,}, {result.copies_won:,} of them first",
        "failed runs, tasks given up": f"{result.failed:,}, {result.given_up:,}",
        "results doubted, wrong ones taken in": f"{result.doubted:,}, {result.wrong:,}",
        "deepest queue": f"{result.deepest_queue:,} tasks",
        "placing a task (real time)": f"{placing:.3f} ms",
    }
    for what, value in lines.items():
        table.add_row(what, value)
    return table
