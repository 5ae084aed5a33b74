"""What people see of plans and progress, where the output is no terminal."""

from __future__ import annotations

import pytest

from ravop.client.display import (
    ProgressDisplay,
    duration,
    plan_line,
    progress_line,
    quantity,
    show_plan,
    still_executing,
)
from ravop.protocol.messages import GraphInfo, PlanSummary, UnitSummary


def info(**changes: object) -> GraphInfo:
    fields: dict[str, object] = {
        "graph_id": "g1",
        "name": "digits",
        "state": "executing",
        "fraction": 0.25,
        "steps_done": 1500,
        "steps_total": 6000,
        "tasks_done": 12,
        "tasks_running": 2,
        "tasks_queued": 7,
        "providers": 2,
        "created": 0.0,
    }
    return GraphInfo(**(fields | changes))  # type: ignore[arg-type]


def plan(units: int, fleet_seconds: float | None = 12.0) -> PlanSummary:
    unit = UnitSummary(
        label="training loop", kind="loop (chunked)", nodes=80, flops=2e9, bytes_in=3_400_000, bytes_out=900,
        peak_memory=5_000_000, iterations=400,
    )  # fmt: skip
    return PlanSummary(
        units=(unit,) * units, flops=2e9 * units, steps=400, useful_providers=1, fleet_seconds=fleet_seconds,
        single_seconds=3.0, notes=("one machine would be faster",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (999_999, "1 MB"), (3.4e9, "3.4 GB"), (7e15, "7 PB")],
)
def test_quantities_have_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert quantity(value, "B") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59, "59 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_progress_line_tells_steps_tasks_providers_metrics_and_time_left() -> None:
    line = progress_line(info(metrics={"loss": 0.12345678}, eta=42.0))
    assert line == (
        "step 1,500/6,000 · ETA 42 s · 2 providers · tasks 12 done, 2 running, 7 queued · loss 0.1235"
    )


def test_the_progress_line_says_what_it_waits_for() -> None:
    line = progress_line(info(providers=0, waiting="no provider is connected", eta=36.0))
    assert line.startswith("step 1,500/6,000 · no provider is connected · tasks 12 done")


def test_a_plan_without_providers_does_not_pretend_to_know_the_time() -> None:
    assert "no provider is connected" in plan_line(plan(1, fleet_seconds=None))
    assert "about 12 s on the connected providers" in plan_line(plan(1))


def test_a_large_plan_shows_its_heaviest_subgraphs_and_counts_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_plan("digits", "g1", plan(25))
    shown = capsys.readouterr().out
    assert shown.count("training loop") == 20
    assert "5 smaller ones" in shown
    assert "3.4 MB" in shown
    assert "note: one machine would be faster" in shown


def test_off_a_terminal_a_line_is_printed_when_the_state_changes_and_not_for_every_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressDisplay() as display:
        for step in range(100):
            display.info(info(steps_done=step))
        display.info(info(providers=0, waiting="waiting for a provider"))
        display.lost("the coordinator does not answer")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("digits:  25% step 0/6,000")
    assert "waiting for a provider" in lines[1]
    assert lines[2] == "digits: the coordinator does not answer"


def test_of_many_graphs_left_executing_a_few_are_named() -> None:
    graphs = [info(graph_id=f"g{number}", name=f"n{number}", fraction=0.25) for number in range(5)]
    assert still_executing([]) == ""
    assert still_executing(graphs) == (
        "still executing, from other scripts: 'n0' (g0, 25%), 'n1' (g1, 25%), 'n2' (g2, 25%), 2 more; "
        "end one with: ravop cancel g0"
    )
