"""`python -m benchmarks [NAME …] [--write]`: run benchmarks and print their tables.

`--write` puts them into docs/benchmarks.md.
"""

from __future__ import annotations

import importlib

import click

from benchmarks.report import Row, machine, table, write

SUITES = {
    "graphs": "Graphs",
    "training": "Training steps in the engine, against PyTorch eager",
    "networks": "A gradient step of networks that PyTorch exported, against PyTorch eager",
    "precision": "Steps in narrow floats, against float32",
    "overhead": "The same training through a coordinator and a provider",
    "tasks": "Trivial durable tasks, beside Dask distributed and Ray",
    "connections": "Thousands of providers at one coordinator",
    "postgresql": "Trivial durable tasks on PostgreSQL, one coordinator and two",
    "parallel": "One training on two providers, against one and against PyTorch DDP",
    "network": "Four providers behind slow lines",
    "recovery": "Killed, frozen and slow machines",
    "failover": "Two coordinators, one of them killed",
    "chaos": "A training under 200 kills",
    "growth": "The database after a million steps",
    "blobs": "Blobs over loopback",
    "simulation": "Placement at scale, and simulated fleets",
    "bucket": "Blobs in a bucket, past the coordinator and through it",
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(SUITES)))
@click.option("--write", "keep", is_flag=True, help="Put the tables into docs/benchmarks.md.")
def main(names: tuple[str, ...], keep: bool) -> None:
    """Run the benchmarks NAMES, by default all of them, one after another."""
    click.echo(machine())
    for name in names or SUITES:
        rows: list[Row] = importlib.import_module(f"benchmarks.{name}").rows()
        click.echo(f"\n{SUITES[name]}\n\n{table(rows)}", nl=True)
        if keep:
            write({SUITES[name]: rows})


if __name__ == "__main__":
    main()
