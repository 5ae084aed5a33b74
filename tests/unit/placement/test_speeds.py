"""Speeds are measured: providers that claim anything, simulated with what they really do."""

import math
import random

import pytest
from plans import PROFILE

from ravsock.core import speeds
from ravsock.core.deadlines import Effort
from ravsock.core.fleet import Fleet, Line
from ravsock.core.history import History, Run
from ravsock.server.provider import Provider

TRUE = 10.0


def run(
    history: History, name: str, model: str = "m", true: float = TRUE, work: float = 20.0, off: float = 1.0
) -> None:
    """The provider runs work that takes `off` times what the plan says."""
    seconds = work * off / true
    history.learn(name, [Run(model, Effort(work), 1, seconds)], seconds)


@pytest.mark.parametrize("claim", [1e9, 1e3, 10.0, 0.1, 1e-9])
def test_a_provider_that_lies_about_its_speed_is_found_out_after_a_few_runs(claim: float) -> None:
    history = History()
    history.claim("liar", claim)
    for _ in range(3):
        run(history, "liar")
    assert history.gflops("liar") == pytest.approx(TRUE, rel=0.1)


@pytest.mark.parametrize("liar_first", [True, False])
def test_a_lie_does_not_spoil_what_is_known_of_others(liar_first: bool) -> None:
    history = History()
    history.claim("liar", 1e6)
    history.claim("honest", TRUE)
    for name in ("liar", "honest") if liar_first else ("honest", "liar"):
        for _ in range(4):
            run(history, name, off=5.0)
    assert history.gflops("liar") == pytest.approx(history.gflops("honest"), rel=0.1)
    pace = history.pace("m")
    assert pace is not None
    assert pace.work / history.gflops("honest") == pytest.approx(10.0, rel=0.1)


def test_one_slow_run_among_many_changes_nothing() -> None:
    history = History()
    history.claim("a", TRUE)
    for seconds in (2.0, 2.0, 2.0, 200.0, 2.0):
        history.learn("a", [Run("m", Effort(20.0), 1, seconds)], seconds)
    assert history.gflops("a") == pytest.approx(TRUE)


def test_what_was_measured_outlives_a_new_claim() -> None:
    history = History()
    history.claim("a", 100.0)
    for _ in range(7):
        run(history, "a")
    history.claim("a", 5.0)
    assert history.gflops("a") == pytest.approx(TRUE)


def test_seconds_that_are_too_good_to_be_true_are_not_believed() -> None:
    assert speeds.believed(0.0, service=40.0) == pytest.approx(9.75)
    assert speeds.believed(0.0, service=40.0, moving=39.0) == 0.0
    assert speeds.believed(3.0, service=4.0) == 3.0
    assert all(speeds.believed(bad, 4.0) == 4.0 for bad in (math.nan, math.inf, -1.0, 99.0))
    history = History()
    history.claim("liar", TRUE)
    for _ in range(7):
        history.learn("liar", [Run("m", Effort(20.0), 1, 0.0)], service=20.0)
    assert history.gflops("liar") < TRUE


def test_tiny_runs_say_nothing_about_speed_but_give_a_pace() -> None:
    history = History()
    history.claim("a", TRUE)
    history.learn("a", [Run("m", Effort(1e-9), 1, 5e-5)] * 100, service=0.05)
    assert history.gflops("a") == TRUE
    pace = history.pace("m")
    assert pace is not None
    assert pace.work / TRUE == pytest.approx(5e-5)


def test_what_computes_nothing_says_nothing_about_speed_however_long_it_takes() -> None:
    history = History()
    history.claim("a", TRUE)
    history.learn("a", [Run("zeros", Effort(0.0), 1, 0.1)], service=0.2)
    assert history.gflops("a") == TRUE


def test_a_line_is_known_by_the_median_of_its_last_transfers() -> None:
    history = History()
    assert history.link("a") == 0.0
    for seconds in (1.0, 1.0, 1.0, 0.001, 60.0):
        history.moved("a", 2_500_000, seconds)
    history.moved("a", 1000, 1e-9)
    assert history.link("a") == 2_500_000
    for seconds in (0.05, 0.05, 0.4):
        history.answered("a", seconds)
    assert history.latency("a") == 0.05


def test_the_planner_is_told_of_lines_as_they_were_measured() -> None:
    history = History()
    provider = Provider("far", 1, "sid", PROFILE, None, 0.0, history)
    assert provider.speed().line is None, "nothing is assumed of a line"
    history.moved("far", 10_000_000, 5.0)
    history.answered("far", 0.1)
    assert provider.speed().line == Line(rate=2e6, latency=0.1)
    assert Fleet((provider.speed(),)).typical_line.seconds(2e6) == pytest.approx(1.1)


def test_a_spread_tells_the_median_and_the_slowest_tenth() -> None:
    chance = random.Random(1)
    ratios = [chance.lognormvariate(0, 0.5) for _ in range(50)]
    spread = speeds.spread(ratios)
    assert spread.median == pytest.approx(1.0, abs=0.3)
    assert sum(ratio > spread.high for ratio in ratios) <= 5
    assert not speeds.spread(ratios[:3]).known
    assert speeds.spread([]) == speeds.UNKNOWN
