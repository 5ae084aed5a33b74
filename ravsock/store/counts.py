"""How many tasks and graphs there are in which state: for monitoring, not for decisions."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from ravsock.core import states
from ravsock.store.database import Database
from ravsock.store.schema import graphs, tasks

PENDING = (states.WAITING, states.READY, states.LEASED, states.OPEN, states.FAILED)
"""States of tasks that are counted: those that are done are many, and of no interest one by one."""
_TASKS = (
    sa.select(tasks.c.state, sa.func.count())
    .join(graphs)
    .where(graphs.c.state == states.EXECUTING, tasks.c.state.in_(PENDING))
    .group_by(tasks.c.state)
)
_GRAPHS = sa.select(graphs.c.state, sa.func.count()).group_by(graphs.c.state)
_OLDEST = sa.select(sa.func.min(tasks.c.leased)).where(tasks.c.state == states.LEASED)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    tasks: dict[str, int]
    """Of executing graphs, by state."""
    graphs: dict[str, int]
    leased: float | None
    """When the oldest lease was given; None while there is none."""


def counts(database: Database) -> Counts:
    """A state without any is 0."""
    with database.read() as connection:
        found: list[dict[str, int]] = [dict(connection.execute(q).all()) for q in (_TASKS, _GRAPHS)]
        oldest = connection.execute(_OLDEST).scalar()
    return Counts(
        tasks=dict.fromkeys(PENDING, 0) | found[0],
        graphs=dict.fromkeys(states.GRAPH, 0) | found[1],
        leased=oldest,
    )
