"""Requesters as separate processes: several at once, apart from each other, interrupted."""

from __future__ import annotations

import json
from pathlib import Path

from processes import Lab

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
    for name in ("p1", "p2"):
        lab.provider(lab.token("provider", name), name)
    script = lab.folder / "run.py"
    script.write_text(RUN)
    tokens = [lab.token("requester", name) for name in ("anna", "bert")]
    both = [lab.script(script, token, SUPPORT) for token in tokens]
    ids = [process.wait_for(r"^graph (\w+)")[1] for process in both]
    for process in both:
        process.result()

    place = {"RAVENVERSE_URL": lab.url, "RAVENVERSE_TOKEN": tokens[0]}
    theirs = lab.module("ravop", "show", ids[1], "--json", **place)
    assert theirs.end() == 1
    assert json.loads(theirs.output)["code"] == "unknown_graph"
    value = json.loads(lab.module("ravop", "fetch", ids[0], "loss_3", "--json", **place).result())
    assert value["value"] > 0
    assert value["shape"] == []
    shown = json.loads(lab.module("ravop", "show", ids[0], "--json", **place).result())
    assert (shown["state"], shown["fraction"], shown["steps_done"]) == ("done", 1.0, 120)
    file = lab.folder / "losses.npy"
    lab.module("ravop", "fetch", ids[0], "losses", "--out", str(file), **place).result()
    assert file.stat().st_size == 128 + 4 * 120


def test_ctrl_c_ends_the_display_and_not_the_graph(lab: Lab) -> None:
    lab.coordinator()
    lab.provider(lab.token("provider", "p1"), "p1")
    token = lab.token("requester", "anna")
    script = lab.folder / "run.py"
    script.write_text(RUN.replace("steps=120", "steps=6000"))
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
