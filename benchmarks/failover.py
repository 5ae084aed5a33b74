"""How long one of two coordinators that is killed holds up its providers. `python -m benchmarks failover`.

Two coordinators on one PostgreSQL database, behind one address that deals connections out in turn; eight providers, half
of them at each, compute layers of equal products. One coordinator is killed with SIGKILL; from then until each of its
providers has delivered a result that was taken in through the other one, asked every 20 ms; and until the last of them is
connected there. In the mean time a provider notices, waits a little, connects, registers with what it has, and goes on with
that. Several times; medians. With and without Redis it is the same: nobody waits for news here.
"""

from __future__ import annotations

import re
import statistics
import time

from databases import postgresql_server, schema
from processes import Process
from relay import relaying

import ravop as R
from benchmarks.laboratory import Lab, cancel, empty, providers, until
from benchmarks.recovery import lattice
from benchmarks.report import Row

ROUNDS = 3
PROVIDERS = 8
LAYERS = 120
"""Of the graph: longer than anything here waits."""


def killed() -> tuple[float, float]:
    """Seconds from the death of a coordinator until its providers are connected to the other, and work again."""
    with empty() as lab, postgresql_server() as server, schema(server, durable=True) as lab.database:
        try:
            both = [lab.another() for _ in range(2)]
            with relaying(*(process.wait_for(r"^http://\S+$")[0] for process in both)) as balancer:
                return _measured(lab, both, balancer.url)
        finally:
            R.disconnect()
            lab.close()


def _measured(lab: Lab, both: list[Process], url: str) -> tuple[float, float]:
    lab.url = url
    token = lab.token("provider", "volunteers")
    for number in range(PROVIDERS):
        lab.provider(token, f"p{number}")
    R.initialize(lab.token("requester", "benchmark"), url=url)
    graph = lattice(LAYERS)
    R.activate()
    R.execute()
    first, second = both
    its = set(_registered(first))
    assert its, "no provider is connected to the coordinator that is to be killed"
    until(lambda: all(count > 1 for count in _done().values()), pause=0.02)
    start = time.perf_counter()
    first.kill()
    before: dict[str, int] = {}
    until(lambda: before.update(_done()) or True, pause=0.02)
    until(lambda: its <= set(_registered(second)), pause=0.02)
    connected = time.perf_counter() - start
    until(lambda: all(count > before[name] for name, count in _done().items() if name in its), pause=0.02)
    working = time.perf_counter() - start
    cancel(graph)
    return connected, working


def _registered(coordinator: Process) -> list[str]:
    return re.findall(r"\((p\d+)\) registered", coordinator.output)


def _done() -> dict[str, int]:
    return {one.name: one.tasks_done for one in providers()}


def rows() -> list[Row]:
    found = [killed() for _ in range(ROUNDS)]
    connected, working = (sorted(seconds) for seconds in zip(*found, strict=True))
    what = "one of two coordinators killed: all its providers"
    return [
        Row(f"{what} are connected to the other after", f"{statistics.median(connected):.2f} s", "report",
            f"{connected[0]:.2f} to {connected[-1]:.2f} s in {ROUNDS} rounds; {PROVIDERS} providers"),
        Row(f"{what} have delivered a result after", f"{statistics.median(working):.2f} s", "≤ 10 s",
            f"{working[0]:.2f} to {working[-1]:.2f} s in {ROUNDS} rounds"),
    ]  # fmt: skip
