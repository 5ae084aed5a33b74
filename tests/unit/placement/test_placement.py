"""Placement: the rules by example, and what must hold for any fleet and any queue."""

import re
from collections import Counter

import exhaustive
import msgspec
import numpy as np
import pytest
from exhaustive import candidates
from hypothesis import given
from hypothesis import strategies as st

from ravsock.core import placement
from ravsock.core.deadlines import Effort
from ravsock.core.jobs import LEAST_GUESSED, Job, Node
from ravsock.core.placement import Assignment, Running, assign, why_waiting

ALICE, BOB = 1, 2


def job(task_id: int, graph: str = "g", owner: int = ALICE, work: float = 1.0, **details: object) -> Job:
    return Job(task_id=task_id, graph_id=graph, owner=owner, effort=Effort(work), **details)  # type: ignore[arg-type]


def node(name: str, **details: object) -> Node:
    return Node(**{"provider_id": name, "gflops": 10.0, "memory": 1 << 30, "slots": 1, **details})  # type: ignore[arg-type]


def placed(made: tuple[Assignment, ...]) -> dict[int, str]:
    return {task: a.provider_id for a in made for task in a.tasks}


def tasks(made: tuple[Assignment, ...]) -> list[int]:
    return [task for a in made for task in a.tasks]


def test_independent_tasks_spread_over_idle_providers_before_any_is_prefetched() -> None:
    made = assign([job(i) for i in range(6)], [node("a"), node("b")])
    assert [a.provider_id for a in made[:2]] == ["a", "b"]
    assert Counter(a.provider_id for a in made) == {"a": 2, "b": 2}


def test_the_faster_provider_gets_the_single_task() -> None:
    assert placed(assign([job(1)], [node("slow", gflops=5.0), node("fast", gflops=50.0)])) == {1: "fast"}


def test_a_slow_provider_is_not_given_what_a_fast_one_does_sooner_after_its_present_task() -> None:
    fast = node("fast", gflops=100.0, outstanding=1, backlog=0.5)
    assert placed(assign([job(1, work=50.0)], [fast, node("slow", gflops=1.0)])) == {1: "fast"}


def test_the_provider_that_holds_the_inputs_is_preferred() -> None:
    nodes = [node("a"), node("b", holds={"data"})]
    assert placed(assign([job(1, inputs=(("data", 10_000_000),))], nodes)) == {1: "b"}


def test_holding_the_inputs_does_not_outweigh_a_long_queue() -> None:
    nodes = [node("a"), node("b", holds={"data"}, outstanding=1, backlog=60.0)]
    assert placed(assign([job(1, inputs=(("data", 10_000_000),))], nodes)) == {1: "a"}


def test_requesters_take_turns_whatever_the_length_of_their_queues() -> None:
    jobs = [job(i, "g1", ALICE) for i in range(100)] + [job(100 + i, "g2", BOB) for i in range(3)]
    made = assign(jobs, [node("a", slots=5)])
    assert Counter(BOB if task >= 100 else ALICE for task in tasks(made)) == {ALICE: 3, BOB: 3}


def test_what_already_runs_counts_in_the_turns() -> None:
    jobs = [job(1, "g1", ALICE), job(2, "g2", BOB)]
    made = assign(jobs, [node("a", outstanding=1)], [Running(ALICE, "g1")])
    assert placed(made) == {2: "a"}


def test_graphs_of_one_requester_take_turns_too() -> None:
    jobs = [job(i, "g1") for i in range(10)] + [job(10 + i, "g2") for i in range(10)]
    made = assign(jobs, [node("a", slots=3)])
    assert Counter("g2" if task >= 10 else "g1" for task in tasks(made)) == {"g1": 2, "g2": 2}


def test_memory_and_the_wish_for_one_graph_are_respected() -> None:
    nodes = [node("small", memory=10), node("picky", graph_id="other")]
    assert assign([job(1, peak_memory=100)], nodes) == ()
    assert placed(assign([job(1, "other", peak_memory=100)], nodes)) == {1: "picky"}


def test_a_task_that_fits_nowhere_does_not_hold_up_the_others() -> None:
    made = assign([job(1, peak_memory=1 << 40), job(2)], [node("a")])
    assert placed(made) == {2: "a"}


def test_a_task_goes_elsewhere_after_a_failure_even_if_elsewhere_is_busy() -> None:
    failed = job(1, failed_on=frozenset({"a"}))
    assert placed(assign([failed], [node("a"), node("b", outstanding=1, backlog=99.0)])) == {1: "b"}
    assert assign([failed], [node("a"), node("b", outstanding=2)]) == ()
    assert placed(assign([failed], [node("a")])) == {1: "a"}


def tiny(task_id: int, graph: str = "g", **details: object) -> Job:
    return job(task_id, graph, **{"work": 1e-4, "measured": True, **details})  # type: ignore[arg-type]


def test_tiny_tasks_go_out_in_batches_that_leave_something_for_everybody() -> None:
    made = assign([tiny(i) for i in range(1000)], [node("a"), node("b")])
    assert sorted(a.provider_id for a in made) == ["a", "a", "b", "b"]
    assert all(len(a.tasks) <= placement.BATCH_TASKS for a in made)
    share = Counter(placed(made).values())
    assert 300 < share["b"] <= share["a"] < 500
    assert tasks(made) == list(range(len(tasks(made)))), "in the order given"


def test_a_batch_is_worth_a_tenth_of_a_second_on_its_provider() -> None:
    queue = [tiny(i, work=0.0999) for i in range(1000)]
    (slow,) = assign(queue, [node("slow", gflops=10.0, outstanding=1)])
    (fast,) = assign(queue, [node("fast", gflops=40.0, outstanding=1)])
    assert (len(slow.tasks), len(fast.tasks)) == (10, 40)


def test_what_nobody_measured_is_batched_with_care() -> None:
    (made,) = assign([tiny(i, measured=False) for i in range(1000)], [node("a", outstanding=1)])
    assert len(made.tasks) == placement.BATCH_SECONDS / LEAST_GUESSED // 1


def test_where_more_is_ready_than_is_seen_no_share_of_it_is_too_large() -> None:
    queue, nodes = [tiny(i, work=0.01) for i in range(200)], [node(name) for name in "abcd"]
    shares = [len(a.tasks) for a in assign(queue, nodes)]
    assert max(shares) == 25
    larger = [len(a.tasks) for a in assign(queue, nodes, beyond={"g": 60})]
    assert larger[:3] == [60, 60, 60]
    assert [len(a.tasks) for a in assign(queue, nodes, beyond={"another": 60})] == shares


def test_very_tiny_tasks_are_not_spread_one_by_one() -> None:
    made = assign([tiny(i) for i in range(30)], [node(name, slots=4) for name in "abcdef"])
    assert len(made) == 1
    made = assign([tiny(i, work=0.08) for i in range(30)], [node(name, slots=4) for name in "abcdef"])
    assert len(made) == 30


def test_tasks_that_came_back_go_out_in_smaller_batches_and_alone_in_the_end() -> None:
    sizes = [
        len(assign([tiny(i, tries=tries) for i in range(1000)], [node("a", outstanding=1)])[0].tasks)
        for tries in range(10)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (256, 1)


def test_a_single_tiny_task_may_take_what_follows_it_along() -> None:
    (made,) = assign([tiny(1)], [node("a")])
    assert (made.tasks, made.ahead) == ((1,), placement.BATCH_TASKS - 1)
    (alone,) = assign([job(1)], [node("a")])
    assert alone.ahead == 0
    (loop,) = assign([tiny(1, alone=True)], [node("a")])
    assert loop.ahead == 0


def test_a_batch_is_of_one_graph_and_has_only_what_its_provider_may_run() -> None:
    queue = [tiny(i, "g1" if i % 2 else "g2") for i in range(20)]
    queue += [tiny(100, "g1", peak_memory=1 << 40), tiny(101, "g1", failed_on=frozenset({"a"}))]
    made = assign(queue, [node("a", slots=9), node("b", slots=9, memory=1 << 41)])
    assert all(len({t % 2 for t in a.tasks if t < 100}) <= 1 for a in made)
    assert placed(made)[100] == placed(made)[101] == "b"


def test_a_slow_line_makes_the_provider_that_needs_no_transfer_the_better_one() -> None:
    far = node("far", gflops=50.0, link=1e6, latency=0.05)
    near = node("near", gflops=10.0, link=1e9)
    assert placed(assign([job(1, inputs=(("data", 10_000_000),))], [far, near])) == {1: "near"}
    assert placed(assign([job(1)], [far, near])) == {1: "far"}


def test_a_resting_provider_gets_nothing() -> None:
    assert assign([job(1)], [node("a", resting=True)]) == ()


@pytest.mark.parametrize(
    ("nodes", "busy", "reason"),
    [
        ([], 0, "no provider is connected"),
        ([node("a", graph_id="other")], 0, r"providers \(1\) work for other graphs only"),
        ([node("a", memory=10), node("b", memory=20)], 0, "offers the 1,000 bytes .*most: 20"),
        ([node("a", resting=True)], 0, "rest after failures"),
        ([node("a", outstanding=2), node("b", outstanding=2)], 2, "2 providers are busy with other graphs"),
        ([node("a", outstanding=2)], 1, "1 provider is busy with other graphs"),
        ([node("a")], 0, "^$"),
    ],
)
def test_a_requester_is_told_why_nothing_runs(nodes: list[Node], busy: int, reason: str) -> None:
    jobs = [job(1, peak_memory=1000), job(2, peak_memory=2000), job(3, "other")]
    assert re.search(reason, why_waiting("g", jobs, nodes, busy))


def numbered(task_id: int, job: Job) -> Job:
    """A graph has one owner."""
    return msgspec.structs.replace(job, task_id=task_id, owner=BOB if job.graph_id == "g3" else ALICE)


names = st.sampled_from(["a", "b", "c", "d", "e"])
jobs = st.lists(
    st.builds(
        Job,
        task_id=st.just(0),
        graph_id=st.sampled_from(["g1", "g2", "g3"]),
        owner=st.just(ALICE),
        effort=st.builds(Effort, st.floats(0, 1e6), st.floats(0, 1e3)),
        peak_memory=st.integers(0, 100),
        inputs=st.lists(st.tuples(names, st.integers(0, 10**9)), max_size=3).map(tuple),
        failed_on=st.frozensets(names),
    ),
    max_size=25,
).map(
    lambda found: [
        msgspec.structs.replace(j, task_id=i, owner=BOB if j.graph_id == "g3" else ALICE)
        for i, j in enumerate(found)
    ]
)
nodes = st.lists(
    st.builds(
        Node,
        provider_id=names,
        gflops=st.floats(0.01, 1e5),
        memory=st.integers(0, 100),
        slots=st.integers(1, 4),
        outstanding=st.integers(0, 6),
        backlog=st.floats(0, 1e6),
        graph_id=st.none() | st.just("g1"),
        resting=st.booleans(),
        holds=st.frozensets(names),
    ),
    max_size=5,
    unique_by=lambda n: n.provider_id,
)


@given(jobs, nodes)
def test_for_any_fleet_the_rules_hold_and_no_place_stays_empty(queue: list[Job], fleet: list[Node]) -> None:
    made = assign(queue, fleet)
    by_name = {n.provider_id: n for n in fleet}
    assert len(set(tasks(made))) == len(tasks(made))
    given_to = Counter(a.provider_id for a in made)
    for name, count in given_to.items():
        assert count <= by_name[name].free
    for task, name in placed(made).items():
        assert by_name[name] in candidates(queue[task], fleet)
    for a in made:
        assert len({queue[task].graph_id for task in a.tasks}) == 1
        assert 0 <= a.ahead <= placement.BATCH_TASKS - len(a.tasks)
    rest = {j.task_id for j in queue} - set(tasks(made))
    for task_id in rest:
        able = candidates(queue[task_id], fleet)
        assert all(n.free <= given_to[n.provider_id] for n in able), "a task waits although there is room"


running = st.lists(
    st.builds(Running, st.sampled_from([ALICE, BOB]), st.sampled_from(["g1", "g2"])), max_size=4
)


@given(jobs, nodes, running, st.dictionaries(st.sampled_from(["g1", "g2"]), st.integers(1, 99)))
def test_nothing_is_better_by_comparing_each_job_with_each_provider(
    queue: list[Job], fleet: list[Node], held: list[Running], beyond: dict[str, int]
) -> None:
    assert assign(queue, fleet, held, beyond) == exhaustive.assign(queue, fleet, held, beyond)


@given(jobs, nodes)
def test_providers_without_room_need_not_be_looked_at(queue: list[Job], fleet: list[Node]) -> None:
    full = [node for node in fleet if not node.free and not node.resting]
    others = [node for node in fleet if node not in full]
    assert assign(queue, others, full=full) == assign(queue, fleet)


def test_in_a_large_fleet_too_each_job_goes_where_it_is_done_first() -> None:
    chance = np.random.default_rng(1)
    fleet = [
        node(f"n{i:03}", gflops=float(10 ** chance.uniform(0, 2)), slots=int(chance.integers(1, 5)),
             link=float(10 ** chance.uniform(5, 8)), holds={f"b{chance.integers(20)}"})
        for i in range(300)
    ]  # fmt: skip
    queue = [
        job(i, f"g{i % 6}", i % 3, work=float(10 ** chance.uniform(-3, 3)), inputs=((f"b{i % 20}", 10**7),))
        for i in range(800)
    ]
    assert assign(queue, fleet) == exhaustive.assign(queue, fleet)


@given(jobs, nodes)
def test_the_same_question_has_the_same_answer(queue: list[Job], fleet: list[Node]) -> None:
    assert assign(queue, fleet) == assign(queue, fleet)
