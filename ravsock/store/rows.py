"""A row of the table `tasks` as a plain tuple: read a dozen times for each result, it must cost next to nothing."""

from __future__ import annotations

from typing import NamedTuple


class TaskRow(NamedTuple):
    """The columns of `schema.tasks` in their order, then those that `tasks.WITH_GRAPH` adds."""

    id: int
    graph: int
    path: str
    unit: int
    state: str
    waiting_for: int
    start: int
    stop: int
    attempt: int
    provider: str
    leased: float
    deadline: float
    tries: int
    expiries: int
    failed_on: str
    ranks: int | None
    copy_provider: str | None
    copy_attempt: int
    copy_leased: float
    copy_deadline: float
    graph_state: str = ""
    owner: int = 0
