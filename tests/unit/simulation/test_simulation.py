"""The simulation: what is known beforehand comes out, nothing is lost, and the same seed gives the same world."""

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from ravsock.cli import main
from ravsock.core.simulation import simulate
from ravsock.core.simulation.options import WORKLOADS, Fleet, Options, Trial, Work
from ravsock.core.simulation.result import Result

CALM = Fleet(
    providers=20, churn=0.0, failing=0.0, nan=0.0, failures=0.0, noise=0.0, slow=0.0, claims=0.0,
    gflops=(20.0, 20.0), latency=(1e-6, 1e-6), link=(1e9, 1e9),
)  # fmt: skip
ROUGH = Fleet(providers=15, churn=4.0, failing=0.1, nan=0.1, failures=0.05)
SHORT = Work(hours=0.2, task_seconds=60.0, graphs=2)


def run(fleet: Fleet, work: Work = SHORT, trial: Trial | None = None, seed: int = 1) -> Result:
    options = Options(fleet=fleet, work=work, trial=trial or Trial())
    return simulate(options, np.random.default_rng(seed))


def test_equal_providers_that_stay_are_at_work_all_the_time() -> None:
    """240 equal tasks of 60 s on 20 equal providers take twelve times 60 s: 12 rounds of 20."""
    found = run(CALM, msgspec.structs.replace(SHORT, sizes=0.0, guesses=0.0))
    assert found.tasks == found.attempts == 240
    assert found.hours == pytest.approx(0.2, rel=0.01)
    assert found.bound_hours == pytest.approx(0.2, rel=1e-6)
    assert found.utilisation == pytest.approx(1.0, abs=0.01)
    assert sum(found.wasted.values()) == 0.0


@pytest.mark.parametrize("kind", WORKLOADS)
def test_whatever_fails_or_leaves_all_work_is_done_and_all_time_is_accounted_for(kind: str) -> None:
    work = msgspec.structs.replace(SHORT, kind=kind, iterations=10)
    found = run(ROUGH, work)
    assert not found.unfinished
    assert found.failed > 0
    assert found.doubted > 0
    assert found.wasted["lost"] > 0
    assert found.hours >= found.bound_hours * (1 - found.given_up / found.tasks)
    assert found.utilisation_whole + sum(found.wasted.values()) <= 1.0 + 1e-9
    assert found.attempts >= found.tasks


def test_the_same_seed_gives_the_same_world() -> None:
    first = run(ROUGH)
    assert first == run(ROUGH)
    assert first != run(ROUGH, seed=2)


def test_policies_can_be_told_apart() -> None:
    slow = Fleet(providers=15, slow=0.3, slow_factor=10.0)
    assert run(slow, trial=Trial(copies=False)).copies == 0
    assert run(slow).hours < run(slow, trial=Trial(copies=False)).hours
    assert (
        run(Fleet(providers=15)).utilisation > run(Fleet(providers=15), trial=Trial(prefetch=0)).utilisation
    )


def test_the_command_prints_a_table_or_figures() -> None:
    arguments = ["simulate", "--providers", "10", "--hours", "0.1", "--task-seconds", "60", "--seed", "3"]
    shown = CliRunner().invoke(main, arguments)
    assert "utilisation while work was ready" in shown.output
    figures = msgspec.json.decode(CliRunner().invoke(main, [*arguments, "--json"]).output, type=Result)
    assert figures.tasks > 0
    wrong = CliRunner().invoke(main, [*arguments, "--speeds", "5", "1"])
    assert wrong.exit_code == 1
    assert "no range" in wrong.output
    assert "--churn 0.07" in CliRunner().invoke(main, ["simulate", "--churn", "7"]).output
