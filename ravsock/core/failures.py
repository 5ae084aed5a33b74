"""When a failed task fails its graph, and what the requester is told.

Pure. A task may fail `MAX_FAILURES` times in all; placement gives it to another provider each time while
there is
one. Attempts that ran out of time are forgiven, but `EXPIRIES` of them in a row count as a failure.
"""

from __future__ import annotations

from ravop.errors import DeadlineError, GraphFailedError, Problem
from ravop.graph.manifest import Manifest
from ravsock.core.plan import Subgraph

MAX_FAILURES = 3
EXPIRIES = 3


def gives_up(failures: int) -> bool:
    """Whether a task with so many failed attempts fails its graph."""
    return failures >= MAX_FAILURES


def counts(expiries: int) -> bool:
    """Whether the last of so many expiries in a row counts as a failure."""
    return expiries >= EXPIRIES


def late_problem(seconds: float) -> Problem:
    """The problem of an attempt that ran out of time."""
    return DeadlineError(
        "the provider did not deliver in time",
        expected=f"within {seconds:.0f} s",
        received=f"{EXPIRIES} times nothing",
        hint="connect a faster provider, or cut the graph into smaller subgraphs",
    ).problem


def graph_problem(
    cause: Problem, node: int | None, subgraph: Subgraph, label: str, providers: list[str], manifest: Manifest
) -> Problem:
    """The graph's problem: the provider's error, in terms of the requester's op and line.

    `node` is the index of the failing node in the subgraph's model, None or out of range where it is not
    known.
    """
    known = node is not None and 0 <= node < len(subgraph.nodes)
    op = subgraph.nodes[node] if known and node is not None else ""
    return GraphFailedError(
        f"{label} failed {MAX_FAILURES} times, the last time with ({cause.code}) {cause.message}",
        expected=cause.expected,
        received=cause.received,
        hint=cause.hint
        or f"tried on {', '.join(dict.fromkeys(providers))}; correct the cause, then execute again",
        op=op or cause.op or label,
        source=source_line(manifest, (op,) if op else subgraph.nodes) or cause.source,
    ).problem


def source_line(manifest: Manifest, nodes: tuple[str, ...]) -> str:
    """The user's line of the first of `nodes` that has one."""
    found = (manifest.node_sources[node] for node in nodes if node in manifest.node_sources)
    return next((manifest.sources[index] for index in found if 0 <= index < len(manifest.sources)), "")
