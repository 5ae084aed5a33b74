"""What the store has written down of times, when the clock jumps or the coordinator was away."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from ravsock.core import states
from ravsock.store.garbage import Garbage
from ravsock.store.schema import blobs, graphs, providers, tasks

_BY: sa.BindParameter[float] = sa.bindparam("by")
_NOW: sa.BindParameter[float] = sa.bindparam("now")
_SHIFT = (
    sa.update(tasks)
    .where(tasks.c.state == states.LEASED)
    .values(
        leased=tasks.c.leased + _BY,
        deadline=tasks.c.deadline + _BY,
        copy_leased=tasks.c.copy_leased + _BY,
        copy_deadline=tasks.c.copy_deadline + _BY,
    ),
    sa.update(graphs).where(graphs.c.state == states.EXECUTING).values(resumed=graphs.c.resumed + _BY),
    sa.update(blobs).values(touched=blobs.c.touched + _BY),
)
_ATTENDED = sa.select(providers.c.id).where(
    providers.c.coordinator.in_(sa.bindparam("living", expanding=True))
)
_RENEW = (
    sa.update(tasks)
    .where(tasks.c.state == states.LEASED, tasks.c.provider.not_in(_ATTENDED))
    .values(leased=_NOW, deadline=_NOW + (tasks.c.deadline - tasks.c.leased)),
    sa.update(tasks)
    .where(tasks.c.copy_provider.is_not(None), tasks.c.copy_provider.not_in(_ATTENDED))
    .values(copy_leased=_NOW, copy_deadline=_NOW + (tasks.c.copy_deadline - tasks.c.copy_leased)),
)


class Times(Garbage):
    def shift(self, seconds: float) -> None:
        """The clock has jumped by so much: leases end, and blobs may be collected, after as long as before."""
        with self.write() as connection:
            for statement in _SHIFT:
                connection.execute(statement, {"by": seconds})

    def renew(self, now: float, living: Collection[str] = ()) -> None:
        """The coordinator was away: leases last as long again, but for those that other `living` ones look after. When that
        was, no clock can be trusted to tell."""
        with self.write() as connection:
            for statement in _RENEW:
                connection.execute(statement, {"now": now, "living": sorted(living)})
