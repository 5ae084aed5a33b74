"""Clocks that jump and coordinators that were away: leases last as long as they were meant to."""

from __future__ import annotations

from plans import Bench, chain

from ravsock.store import Lease

HOUR = 3600.0


def test_leases_and_copies_end_after_as_long_as_before_when_the_clock_jumps(bench: Bench) -> None:
    bench.start(chain(2), "g")
    (ready,) = bench.store.ready(9)
    assert bench.lease(ready.task_id, "p1", seconds=30.0)
    copy = Lease(provider_id="p2", deadline=bench.now + 20.0, tasks=(ready.task_id,))
    assert bench.store.copy([copy], bench.now)[0]
    bench.store.shift(HOUR)
    assert bench.store.expire(bench.now + HOUR + 19.0) == []
    (outcome,) = bench.store.expire(bench.now + HOUR + 21.0)
    assert [recall.provider_id for recall in outcome.recalls] == ["p2"]
    assert bench.store.expire(bench.now + HOUR + 29.0) == []
    bench.store.shift(-2 * HOUR)
    (outcome,) = bench.store.expire(bench.now - HOUR + 31.0)
    assert [recall.provider_id for recall in outcome.recalls] == ["p1"]


def test_leases_of_before_begin_anew_whatever_the_clock_says(bench: Bench) -> None:
    bench.start(chain(2), "g")
    (ready,) = bench.store.ready(9)
    assert bench.lease(ready.task_id, "p1", seconds=30.0)
    for later in (HOUR, -HOUR):
        bench.store.renew(bench.now + later)
        (held,) = bench.store.held_by()
        assert (held.leased, held.deadline) == (bench.now + later, bench.now + later + 30.0)
