"""Placement by comparing each job with each provider, one after another: what `placement.assign` is held against."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from ravsock.core.jobs import Job, Node, able, moving
from ravsock.core.placement import Assignment, Running, _batch, _Share


def candidates(job: Job, nodes: Iterable[Node]) -> list[Node]:
    """The providers that may run the job, busy and resting ones among them."""
    found = [node for node in nodes if able(job, node)]
    return [node for node in found if node.provider_id not in job.failed_on] or found


def assign(
    jobs: Sequence[Job],
    nodes: Sequence[Node],
    running: Sequence[Running] = (),
    beyond: Mapping[str, int] | None = None,
) -> tuple[Assignment, ...]:
    """As `placement.assign`."""
    load = {node.provider_id: [node.outstanding, node.backlog, node.free] for node in nodes}
    share = _Share(nodes, ())
    owners = {job.owner: sum(r.owner == job.owner for r in running) for job in jobs}
    graphs = {job.graph_id: sum(r.graph_id == job.graph_id for r in running) for job in jobs}
    queues: dict[int, dict[str, deque[Job]]] = {}
    for job in jobs:
        queues.setdefault(job.owner, {}).setdefault(job.graph_id, deque()).append(job)

    def finish(job: Job, node: Node) -> tuple[float, float, str]:
        outstanding, backlog, _ = load[node.provider_id]
        waiting = backlog / node.slots if outstanding >= node.slots else 0.0
        seconds = waiting + moving(job, node) + job.effort.seconds(node.gflops)
        return seconds, outstanding / node.slots, node.provider_id

    made: list[Assignment] = []
    while any(free for _, _, free in load.values()):
        waiting = [owner for owner in queues if any(queues[owner].values())]
        if not waiting:
            break
        owner = min(waiting, key=owners.__getitem__)
        graph = min((g for g in queues[owner] if queues[owner][g]), key=graphs.__getitem__)
        queue = queues[owner][graph]
        job = queue.popleft()
        found = [node for node in candidates(job, nodes) if load[node.provider_id][2]]
        if not found:
            continue
        node = min(found, key=lambda node: finish(job, node))
        batch = _batch(job, queue, node, share, (beyond or {}).get(graph, 1))
        made.append(batch.assignment(node))
        owners[owner] += 1
        graphs[graph] += 1
        state = load[node.provider_id]
        load[node.provider_id] = [state[0] + 1, state[1] + batch.work, state[2] - 1]
    return tuple(made)
