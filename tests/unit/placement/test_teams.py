"""Who computes a loop's next chunk together: hypothesis against brute force where a rule is general, examples else."""

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravop.protocol.parts import Repeat
from ravsock.core import teams
from ravsock.core.deadlines import Effort, Pace
from ravsock.core.fleet import DEFAULT_GFLOPS
from ravsock.core.plan import Gang, PartPlan
from ravsock.core.teams import Chunk, Member, Seen, choose, expected_seconds


def gang(ranks: int, seconds: float, size: int = 0, exchanges: int = 1, memory: int = 0) -> Gang:
    part = PartPlan(loop=Repeat(length=100, steps=()), inputs=(), outputs=(), peak_memory=memory)
    return Gang(parts=(part,) * ranks, seconds=seconds, bytes=size, exchanges=exchanges, nodes={})


def member(name: str, gflops: float = DEFAULT_GFLOPS, **more: Any) -> Member:
    return Member(name, gflops, more.pop("memory", 1 << 30), **more)


def chunk(*gangs: Gang, seconds: float = 2.0, **more: Any) -> Chunk:
    """`seconds` of one iteration on one reference machine."""
    return Chunk(left=more.pop("left", 1000), gangs=gangs, effort=Effort(seconds * DEFAULT_GFLOPS), **more)


TWO, FOUR = gang(2, 1.1), gang(4, 0.6)
FLEET = [member(name) for name in "abcd"]


def test_all_of_an_equal_fleet_work_together() -> None:
    team = choose(chunk(TWO, FOUR), FLEET)
    assert team is not None
    assert (team.gang, team.providers) == (1, ("a", "b", "c", "d"))
    two = choose(chunk(TWO, FOUR), FLEET[:3])
    assert two is not None
    assert (two.gang, len(two.providers)) == (0, 2)
    assert choose(chunk(TWO, FOUR), FLEET[:1]) is None


def test_the_slow_one_is_left_out() -> None:
    slow = [*FLEET[:3], member("slow", DEFAULT_GFLOPS / 10)]
    team = choose(chunk(TWO, FOUR), slow)
    assert team is not None
    assert "slow" not in team.providers
    assert team.gang == 0


def test_a_fast_one_is_better_alone() -> None:
    assert choose(chunk(TWO), [member("fast", 10 * DEFAULT_GFLOPS), member("slow")]) is None


@pytest.mark.parametrize("line", [{"link": 1e5}, {"round_trip": 1.0}])
def test_a_line_that_costs_more_than_is_gained_leaves_one_alone(line: dict[str, float]) -> None:
    talking = gang(2, 1.0, size=1_000_000)
    assert choose(chunk(talking), FLEET) is not None
    assert choose(chunk(talking), [FLEET[0], member("far", **line)]) is None


def test_what_is_hardly_faster_is_not_worth_two() -> None:
    assert choose(chunk(gang(2, 1.95)), FLEET) is None
    assert choose(chunk(gang(2, 1.85)), FLEET) is not None


def test_a_short_loop_is_first_timed_on_one_provider() -> None:
    short = gang(2, 0.011), gang(4, 0.006)
    assert choose(chunk(*short, seconds=0.02), FLEET) is None
    assert choose(chunk(*short, seconds=0.02, pace=Pace(0.02 * DEFAULT_GFLOPS)), FLEET) is not None
    elsewhere = [member(name, lacking=10_000_000, link=1e6) for name in "ab"]
    assert choose(chunk(*short, seconds=0.02), elsewhere) is not None, "its data is shipped for nothing"


def test_what_one_provider_was_measured_at_counts_for_gangs_too() -> None:
    talking = gang(2, 1.0, size=50_000_000)  # a second on the line
    assert choose(chunk(talking, pace=Pace(2.0 * DEFAULT_GFLOPS)), FLEET) is None
    assert choose(chunk(talking, pace=Pace(8.0 * DEFAULT_GFLOPS)), FLEET) is not None


def test_a_gang_that_was_slower_is_tried_again_only_once_in_a_while() -> None:
    slow = Seen(ratio=3.0, length=4)
    passed = 0
    while choose(chunk(TWO, pace=Pace(2.0 * DEFAULT_GFLOPS), seen={2: slow}), FLEET) is None:
        slow, passed = slow.passed_over(), passed + 1
    assert 10 < passed < 1000
    fast = chunk(TWO, pace=Pace(2.0 * DEFAULT_GFLOPS), seen={2: Seen(ratio=1.0, length=4)})
    assert choose(fast, FLEET) is not None


def test_a_gang_that_is_late_lets_one_provider_try() -> None:
    team = choose(chunk(TWO), FLEET)
    assert team is not None
    seen = teams.late(team, 100 * team.expected * team.length)
    assert seen.ratio == pytest.approx(100)
    assert choose(chunk(TWO, seen={2: seen}), FLEET) is None


def test_the_first_chunk_may_be_slow_for_other_reasons() -> None:
    team = choose(chunk(TWO, pace=Pace(2.0 * DEFAULT_GFLOPS)), FLEET)
    assert team is not None
    expected = team.expected * team.length
    assert teams.learn(None, team, expected / 2, 0.1).ratio == pytest.approx(0.5)
    first = teams.learn(None, team, 3 * expected, 9.0)
    assert (first.ratio, first.doubt) == (1.0, pytest.approx(3.0))
    again = choose(chunk(TWO, pace=Pace(2.0 * DEFAULT_GFLOPS), seen={2: first}), FLEET)
    assert again is not None
    assert 3 * again.estimate <= teams.CHUNK_SECONDS, "and if it is as slow again, it is not long"
    second = teams.learn(first, team, 4 * expected, 0.1)
    assert second.ratio == pytest.approx(4.0)
    assert second.around == 0.1
    assert choose(chunk(TWO, pace=Pace(2.0 * DEFAULT_GFLOPS), seen={2: second}), FLEET) is None


def test_ranks_keep_their_place() -> None:
    assert (team := choose(chunk(TWO, FOUR), FLEET, usual=("d", "b")))
    assert team.providers[:2] == ("d", "b")
    assert (team := choose(chunk(TWO), FLEET, usual=("d", "b")))
    assert team.providers == ("d", "b")
    assert (team := choose(chunk(TWO), FLEET[:3], usual=("d", "b")))
    assert team.providers == ("a", "b"), "whoever replaces one takes its rank"


def sharded(ranks: int, seconds: float) -> Gang:
    """Each rank reads a share of the data of its own, and all read the weights."""
    parts = tuple(
        PartPlan(
            loop=Repeat(length=100, steps=()), inputs=("weights", f"data{rank}"), outputs=(), peak_memory=0
        )
        for rank in range(ranks)
    )
    return Gang(parts=parts, seconds=seconds, bytes=0, exchanges=1, nodes={})


def holding(name: str, *ports: str, size: int = 10_000_000, link: float = 1e6) -> Member:
    """A provider that has these of `weights`, `data0`, `data1` and `data2`."""
    lacks = {port: size for port in ("weights", "data0", "data1", "data2") if port not in ports}
    return member(name, lacking=sum(lacks.values()), lacks=lacks, link=link)


def test_ranks_go_to_those_who_hold_their_data() -> None:
    members = [holding("a", "data2", "weights"), holding("b"), holding("c", "data0")]
    team = choose(chunk(sharded(3, 0.7)), members, usual=("a", "b", "c"))
    assert team is not None
    assert team.providers == ("c", "b", "a")
    assert team.fetching == 20.0, "of the one who has nothing: the weights, and its share of the data"


def test_a_loop_with_little_left_is_not_moved_to_one_who_would_have_to_fetch_it_all() -> None:
    members = [holding("a", "data0", "weights"), holding("b", "data1", "weights")]
    team = choose(chunk(sharded(2, 1.1), left=1), members)
    assert team is not None
    assert (team.providers, team.fetching) == (("a", "b"), 0.0)


def test_what_slows_one_gang_down_slows_the_others_down_too() -> None:
    slow = Seen(ratio=1.4, length=4)
    team = choose(chunk(TWO, FOUR, seen={4: slow}), FLEET)
    assert team is not None
    assert team.gang == 1, "and so two are no better"
    slower = Seen(ratio=1.4 * 1.1 / 0.6 * 1.1, length=4)
    team = choose(chunk(TWO, FOUR, seen={4: slower, 2: Seen(ratio=1.0, length=4)}), FLEET)
    assert team is not None
    assert team.gang == 0, "where they were seen to be"


def test_memory_bounds_who_takes_part_and_who_may_be_alone() -> None:
    big = gang(2, 1.9, memory=2 << 30)
    large = [*FLEET, member("y", memory=4 << 30), member("z", memory=4 << 30)]
    assert (team := choose(chunk(big, seconds=4.0, peak_memory=3 << 30), large))
    assert team.providers == ("y", "z")
    assert choose(chunk(big, seconds=0.1, peak_memory=8 << 30), large), "nobody could do it alone"
    assert choose(chunk(big), FLEET) is None


def test_others_wishes_bound_the_ranks() -> None:
    assert (team := choose(chunk(TWO, FOUR), FLEET, most=3))
    assert len(team.providers) == 2
    assert choose(chunk(TWO, FOUR), FLEET, most=1) is None


def test_after_trouble_one_provider_tells_whose_it_is() -> None:
    assert choose(chunk(TWO, failed=True), FLEET) is None
    assert choose(chunk(TWO, tries=teams.MAX_TRIES), FLEET) is None


def test_chunks_are_short_first_then_worth_seconds_and_halved_when_broken_off() -> None:
    def length(**more: Any) -> int:
        known: dict[str, Any] = {"pace": Pace(0.02 * DEFAULT_GFLOPS), "seconds": 0.02} | more
        team = choose(chunk(gang(2, 0.01, exchanges=0), **known), FLEET)
        assert team is not None
        return team.length

    assert length() == 30
    assert length(seen={2: Seen(1.0, 30)}) == 30 * teams.GROWTH
    full = length(seen={2: Seen(1.0, 300)})
    assert full == 500
    assert length(seen={2: Seen(1.0, 300)}, tries=2) == full // 4
    assert length(seen={2: Seen(1.0, 300)}, left=7) == 7


def test_chunks_are_long_where_their_outputs_are_slow_to_carry() -> None:
    far = [member(name, link=2.5e6) for name in "ab"]
    first = choose(chunk(gang(2, 1.0), bytes_out=25_000_000), far)
    assert first is not None
    assert 19 <= first.estimate <= 21, "as long as up and down should take"
    known = choose(chunk(gang(2, 1.0), seen={2: Seen(1.0, 1000, around=4.0)}), far)
    assert known is not None
    assert 85 <= known.estimate <= teams.MAX_CHUNK_SECONDS
    near = choose(chunk(gang(2, 10.0), seconds=20.0, seen={2: Seen(1.0, 9, around=0.8)}), far)
    assert near is not None
    assert (near.length, near.estimate) == (3, pytest.approx(30.0, rel=0.01)), "two would be too little"
    rest = choose(chunk(gang(2, 10.0), seconds=20.0, left=4, seen={2: Seen(1.0, 9, around=0.8)}), far)
    assert rest is not None
    assert rest.length == 4, "one would remain"
    huge = choose(chunk(gang(2, 1.0), seen={2: Seen(1.0, 1000, around=40.0)}), far)
    assert huge is not None
    assert huge.estimate <= teams.MAX_CHUNK_SECONDS


LINES = st.sampled_from([1e6, 1e7, 1e8])
MEMBERS = st.lists(st.tuples(st.floats(1.0, 100.0), LINES), min_size=2, max_size=6)


@given(MEMBERS, st.integers(2, 4), st.integers(0, 10_000_000))
def test_nobody_else_would_be_much_faster(found: list[tuple[float, float]], ranks: int, size: int) -> None:
    fleet = [member(str(i), speed, link=link, round_trip=0.001) for i, (speed, link) in enumerate(found)]
    offered = gang(ranks, 1.0, size=size)
    team = choose(chunk(offered, seconds=1e6, peak_memory=1 << 40), fleet)
    assert (team is None) == (len(fleet) < ranks)
    if team is not None:
        chosen = [m for m in fleet if m.provider_id in team.providers]
        best = min(expected_seconds(offered, some) for some in combinations(fleet, ranks))
        assert expected_seconds(offered, chosen) <= best * 1.06
