"""The embedded cluster: started once per data folder, joined by later scripts, ended with the script that
started it.
"""

from __future__ import annotations

import psutil
from processes import Lab, Process

from ravop.client.endpoint import ENDPOINT_FILE, read_endpoint

SCRIPT = """
import sys
import ravop as R
R.initialize(providers=1)
R.Graph(name=sys.argv[1], algorithm="test")
(R.t([1.0, 2.0]) * 3).persist_op(name="out")
R.activate()
R.execute()
R.track_progress()
print("out", R.fetch_persisting_op(op_name="out"))
print("go on")
sys.stdin.read()
"""
LATER = """
import ravop as R
R.initialize()
print("later", R.fetch_persisting_op(op_name="out"), [graph.name for graph in R.get_my_graphs()])
"""


def start(lab: Lab, source: str, *arguments: str) -> Process:
    script = lab.folder / f"script{len(lab.processes)}.py"
    script.write_text(source)
    return lab.script(script, "", *arguments, RAVENVERSE_URL="")


def test_two_scripts_at_the_same_moment_share_one_cluster(lab: Lab) -> None:
    both = [start(lab, SCRIPT, name) for name in ("one", "two")]
    for process in both:
        process.wait_for("go on")
    assert sorted(("started the" in p.output, "joined the" in p.output) for p in both) == [
        (False, True),
        (True, False),
    ]
    for process in both:
        assert "out [3.0, 6.0]" in process.output
    first, second = sorted(both, key=lambda p: "joined the" in p.output)

    endpoint = read_endpoint(lab.folder / "home")
    assert endpoint is not None
    coordinator = psutil.Process(endpoint.pid)
    first.write_end()  # the one that started it ends; the other still uses it
    first.result()
    assert coordinator.is_running()
    third = start(lab, SCRIPT, "three")
    third.wait_for("out")
    for process in (second, third):
        process.write_end()
        process.result()
    coordinator.wait(20)
    assert not (lab.folder / "home" / ENDPOINT_FILE).exists()


def test_a_later_script_finds_the_data_of_an_earlier_one(lab: Lab) -> None:
    earlier = start(lab, SCRIPT, "earlier")
    earlier.write_end()
    earlier.result()
    assert "later [3.0, 6.0] ['earlier']" in start(lab, LATER).result()


def test_a_cluster_that_stays_is_there_for_the_next_script(lab: Lab) -> None:
    try:
        staying = start(lab, SCRIPT.replace("providers=1", "providers=1, stay=True"), "stays")
        staying.write_end()
        staying.result()
        assert "joined the" in start(lab, LATER).result()
    finally:
        end_cluster(lab)


def end_cluster(lab: Lab) -> None:
    """End a cluster that nobody holds by a pipe."""
    endpoint = read_endpoint(lab.folder / "home")
    if endpoint is not None:
        cluster = [psutil.Process(endpoint.pid), *providers_of(endpoint.url)]
        for process in cluster:
            process.terminate()
        psutil.wait_procs(cluster, timeout=20)


def providers_of(url: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])  # None where it is not ours to see
        if "provider" in (process.info["cmdline"] or ())
        and (process.info["environ"] or {}).get("RAVENVERSE_URL") == url
    ]


def test_a_killed_script_takes_its_cluster_with_it(lab: Lab) -> None:
    script = start(lab, SCRIPT, "killed")
    script.wait_for("go on")
    endpoint = read_endpoint(lab.folder / "home")
    assert endpoint is not None
    cluster = psutil.Process(script.pid).children(recursive=True)
    assert endpoint.pid in [process.pid for process in cluster]
    script.kill()
    _, alive = psutil.wait_procs(cluster, timeout=30)
    assert not alive


def test_a_coordinator_that_cannot_start_shows_the_end_of_its_log(lab: Lab) -> None:
    home = lab.folder / "home"
    home.mkdir()
    (home / "ravenverse.db").mkdir()
    script = start(lab, SCRIPT, "hopeless")
    assert script.end() != 0
    assert "the embedded coordinator did not start" in script.output
    assert str(home / "logs" / "coordinator.log") in script.output
