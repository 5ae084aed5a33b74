"""Placement at scale, measured; and fleets in virtual time, simulated. `python -m benchmarks simulation`.

Measured: one call of `placement.assign` with 100,000 ready tasks and 10,000 free providers that hold some of the inputs,
and one as the dispatcher makes it most of the time, with fifty places. Simulated: what `ravsock simulate` says for 10,000
providers of speeds over two orders of magnitude, a fifth of which leave within an hour; and for 100 under other policies,
all with the same seed. Simulated figures do not depend on the machine, the real seconds beside them do.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.report import Row
from ravsock.core.deadlines import Effort, Policy
from ravsock.core.jobs import Job, Node
from ravsock.core.placement import assign
from ravsock.core.simulation import simulate
from ravsock.core.simulation.options import Fleet, Options, Trial, Work
from ravsock.core.simulation.result import Result

TASKS, PROVIDERS, PLACES = 100_000, 10_000, 50
BLOBS = 1000
SEED = 1
TRIALS = {
    "as the coordinator decides": Trial(),
    "no second attempts": Trial(copies=False),
    "nothing fetched ahead": Trial(prefetch=0),
    "four batches ahead": Trial(prefetch=4),
    "leases a fifth as long": Trial(times=Policy(lease_factor=2.0, spreads=1.2)),
    "leases five times as long": Trial(times=Policy(lease_factor=50.0, spreads=30.0)),
    "speeds as claimed": Trial(speeds="claimed"),
    "all speeds taken for equal": Trial(speeds="equal"),
}


def rows() -> list[Row]:
    return [*placing(), large(), *policies()]


def placing() -> list[Row]:
    random = np.random.default_rng(SEED)
    jobs = [
        Job(
            task_id=number,
            graph_id=f"g{number % 50}",
            owner=number % 10,
            effort=Effort(float(60 * 10 ** random.uniform(-0.5, 0.5))),
            inputs=(("model", 10_000), (f"b{number % BLOBS}", 1_000_000)),
            measured=True,
        )
        for number in range(TASKS)
    ]
    nodes = [
        Node(
            provider_id=f"n{number:05}",
            gflops=float(10 ** random.uniform(0.3, 2.3)),
            memory=1 << 32,
            slots=1,
            link=float(10 ** random.uniform(5.5, 8)),
            latency=0.05,
            holds={f"b{blob}" for blob in random.integers(0, BLOBS, 50)},
        )
        for number in range(PROVIDERS)
    ]
    whole, placed = _timed(jobs, nodes, [])
    few, given = _timed(jobs[: 16 + 4 * PLACES], nodes[:PLACES], nodes[PLACES:])
    return [
        Row(
            "a placement of 100,000 ready tasks on 10,000 free providers",
            f"{whole / placed * 1e3:.3f} ms for each task placed",
            "≤ 1 ms",
            f"measured; {placed:,} placed in {whole:.1f} s",
        ),
        Row(
            "the same with 50 places left, as the dispatcher asks",
            f"{few / given * 1e3:.3f} ms for each task placed",
            "≤ 1 ms",
            f"measured; {given} placed in {few * 1e3:.1f} ms",
        ),
    ]


def _timed(jobs: list[Job], nodes: list[Node], full: list[Node]) -> tuple[float, int]:
    began = time.perf_counter()
    made = assign(jobs, nodes, full=full)
    return time.perf_counter() - began, sum(len(batch.tasks) for batch in made)


def large() -> Row:
    began = time.perf_counter()
    found = _simulated(Fleet(providers=PROVIDERS), Work(hours=1.0, task_seconds=600.0), Trial())
    return Row(
        "utilisation with 10,000 providers, 20 % an hour of churn",
        f"{found.utilisation:.1%}",
        "≥ 80 %",
        f"simulated, in {time.perf_counter() - began:.0f} s of real time; all done after {found.hours:.2f} h, at best "
        f"{found.bound_hours:.2f} h",
    )


def policies() -> list[Row]:
    found = {
        name: _simulated(Fleet(providers=100), Work(hours=1.0, task_seconds=300.0), trial)
        for name, trial in TRIALS.items()
    }
    return [
        Row(
            f"100 providers: {name}",
            f"{result.utilisation:.1%}",
            "report",
            f"simulated; all done after {result.hours:.2f} h, at best {result.bound_hours:.2f} h; "
            f"{sum(result.wasted.values()):.1%} wasted, {result.expired} leases ran out, {result.copies} copies",
        )
        for name, result in found.items()
    ]


def _simulated(fleet: Fleet, work: Work, trial: Trial) -> Result:
    return simulate(Options(fleet=fleet, work=work, trial=trial), np.random.default_rng(SEED))
