"""Requesters as separate processes: several at once, apart from each other, interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from processes import Lab

from ravop.cli import main

RUN = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import ravop as R
from workloads import training, assert_equals_local

R.initialize()
graph = training(steps=120)
R.activate()
R.execute()
R.track_progress()
assert_equals_local("losses", "first")
assert [info.graph_id for info in R.get_my_graphs()] == [graph.id]
print("graph", graph.id)
"""
SUPPORT = str(Path(__file__).parents[1] / "support")


def test_two_requesters_at_once_and_apart(lab: Lab) -> None:
    lab.coordinator()
    lab.providers(2)
    script = lab.folder / "run.py"
    script.write_text(RUN)
    tokens = [lab.token("requester", name) for name in ("anna", "bert")]
    both = [lab.script(script, token, SUPPORT) for token in tokens]
    ids = [process.wait_for(r"^graph (\w+)")[1] for process in both]
    for process in both:
        process.result()

    place = ["--url", lab.url, "--token", tokens[0], "--json"]
    theirs = CliRunner().invoke(main, ["show", ids[1], *place])
    assert theirs.exit_code == 1
    assert json.loads(theirs.stderr)["code"] == "unknown_graph"
    shown = json.loads(CliRunner().invoke(main, ["show", ids[0], *place]).stdout)
    assert (shown["state"], shown["fraction"], shown["steps_done"]) == ("done", 1.0, 120)
    value = json.loads(CliRunner().invoke(main, ["fetch", ids[0], "loss_3", *place]).stdout)
    assert value["value"] > 0
    assert value["shape"] == []
    file = lab.folder / "losses.npy"
    CliRunner().invoke(main, ["fetch", ids[0], "losses", "--out", str(file), *place])
    assert np.load(file).shape == (120,)


def test_ctrl_c_ends_the_display_and_not_the_graph(lab: Lab) -> None:
    lab.coordinator()
    lab.providers(1)
    token = lab.token("requester", "anna")
    script = lab.folder / "run.py"
    script.write_text(RUN.replace("steps=120", "steps=2000"))
    process = lab.script(script, token, SUPPORT)
    process.wait_for(r"training: .* step [1-9]")
    process.interrupt()
    assert process.end() != 0
    graph_id = process.wait_for(r"ravop watch (\w+)")[1]
    assert process.output.strip().splitlines()[-1].startswith("KeyboardInterrupt: Stopped watching")
    assert "session.py" not in process.output
    place = {"RAVENVERSE_URL": lab.url, "RAVENVERSE_TOKEN": token}
    watched = lab.module("ravop", "watch", graph_id, **place).result()
    assert "training: done" in watched
