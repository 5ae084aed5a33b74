"""Second copies of late batches: the rules by example, and what must hold for any fleet."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ravsock.core.deadlines import Effort
from ravsock.core.jobs import Job, Node
from ravsock.core.speeds import Spread, spread
from ravsock.core.stragglers import Copy, Leased, copies, late_after, next_look

STEADY = spread([1.0] * 20)


def leased(
    number: int = 1, name: str = "slow", elapsed: float = 0.0, expected: float = 10.0, **details: object
) -> Leased:
    job = Job(task_id=number, graph_id="g", owner=1, effort=Effort(100.0), **details)  # type: ignore[arg-type]
    return Leased(number=number, provider_id=name, job=job, elapsed=elapsed, expected=expected, spread=STEADY)


def node(name: str, **details: object) -> Node:
    return Node(**{"provider_id": name, "gflops": 10.0, "memory": 1 << 30, "slots": 1, **details})  # type: ignore[arg-type]


BUSY = node("slow", outstanding=1)


def test_what_is_late_is_given_to_an_idle_provider_too() -> None:
    late = leased(elapsed=40.0)
    assert copies([late], [BUSY, node("idle")]) == (Copy(1, "idle"),)
    assert copies([late], [BUSY, node("other", outstanding=1)]) == ()
    assert copies([late], [node("slow")]) == (), "not to the provider that has it"


def test_what_is_not_late_stays_where_it_is_unless_it_would_end_much_sooner_elsewhere() -> None:
    fine = leased(elapsed=5.0)
    assert copies([fine], [BUSY, node("idle")]) == ()
    assert copies([fine], [BUSY, node("fast", gflops=1000.0)]) == (Copy(1, "fast"),)
    soon = leased(elapsed=9.8)
    assert copies([soon], [BUSY, node("fast", gflops=1e6)]) == ()


def test_what_would_end_last_is_copied_first_and_each_provider_gets_one() -> None:
    queue = [leased(1, elapsed=30.0), leased(2, elapsed=60.0)]
    assert copies(queue, [BUSY, node("idle")]) == (Copy(2, "idle"),)
    assert copies(queue, [BUSY, node("idle"), node("idler")]) == (Copy(2, "idle"), Copy(1, "idler"))


def test_a_copy_goes_only_where_the_task_may_run() -> None:
    late = leased(elapsed=100.0, peak_memory=100, failed_on=frozenset({"failed"}))
    fleet = [
        BUSY,
        node("small", memory=10),
        node("picky", graph_id="other"),
        node("failed"),
        node("rests", resting=True),
    ]
    assert copies([late], fleet) == ()
    assert copies([late], [*fleet, node("fits")]) == (Copy(1, "fits"),)


def test_lateness_is_judged_by_how_runs_spread() -> None:
    unknown = Leased(1, "a", leased().job, 0.0, 10.0)
    wild = Leased(1, "a", leased().job, 0.0, 10.0, spread=Spread(20, 1.0, 5.0))
    queued = Leased(1, "a", leased().job, 0.0, 10.0, waits=7.0, spread=STEADY)
    assert (late_after(leased()), late_after(wild), late_after(unknown)) == (15.0, 75.0, 40.0)
    far = Leased(1, "a", leased().job, 0.0, 10.0, waits=7.0, slack=100.0, spread=STEADY)
    assert (late_after(queued), late_after(far)) == (22.0, 122.0)
    assert copies([far], [BUSY, node("b")]) == (), (
        "its line may be slow: nothing says that another ends sooner"
    )
    assert next_look([wild, queued]) == 22.0
    assert next_look([]) is None


names = st.sampled_from("abcde")
seconds = st.floats(0, 1e6)


@given(
    st.lists(st.builds(leased, st.just(0), names, seconds, seconds), max_size=8),
    st.lists(
        st.builds(
            node, names, gflops=st.floats(0.01, 1e5), slots=st.integers(1, 3), outstanding=st.integers(0, 4),
            resting=st.booleans(),
        ),
        max_size=5,
        unique_by=lambda n: n.provider_id,
    ),
)  # fmt: skip
def test_for_any_fleet_copies_go_to_idle_providers_that_do_not_have_the_task(
    tasks: list[Leased], fleet: list[Node]
) -> None:
    numbered = [Leased(n, t.provider_id, t.job, t.elapsed, t.expected) for n, t in enumerate(tasks)]
    made = copies(numbered, fleet)
    assert max(Counter(copy.provider_id for copy in made).values(), default=0) <= 1
    assert max(Counter(copy.number for copy in made).values(), default=0) <= 1
    for copy in made:
        assert next(n for n in fleet if n.provider_id == copy.provider_id).idle
        assert numbered[copy.number].provider_id != copy.provider_id
