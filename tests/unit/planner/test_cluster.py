"""The clustering of weighted DAGs, apart from ONNX."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravsock.core.planner.cluster import CAP, TRIFLE, Edge, cluster


@st.composite
def dags(draw):
    """(weights, fixed, edges) of a DAG whose items are numbered in no particular order."""
    count = draw(st.integers(1, 40))
    weights = draw(
        st.lists(st.sampled_from([1e-5, 0.01, 0.1, 0.4, 1.0, 7.0]), min_size=count, max_size=count)
    )
    fixed = draw(st.lists(st.sampled_from([False, False, False, True]), min_size=count, max_size=count))
    order = draw(st.permutations(range(count)))
    pairs = draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=3 * count))
    sizes = st.sampled_from([0, 1_000, 10**9])
    return (
        weights,
        fixed,
        [Edge(order[min(p)], order[max(p)], draw(sizes)) for p in sorted(pairs) if p[0] != p[1]],
    )


@settings(max_examples=300, deadline=None)
@given(dags(), st.sampled_from([0.0, 1e-4, 0.1, 1.0, 100.0]))
def test_groups_are_a_dag_in_order_with_fixed_items_alone(dag, unit):
    weights, fixed, edges = dag
    groups = cluster(weights, fixed, edges, unit)
    assert sorted(item for group in groups for item in group) == list(range(len(weights)))
    home = {item: number for number, group in enumerate(groups) for item in group}
    # Groups in order with every edge pointing forward: no cycle between groups, hence every group is convex.
    assert all(home[edge.source] <= home[edge.target] for edge in edges)
    for group in groups:
        assert len(group) == 1 or not any(fixed[item] for item in group)
        largest = max(weights[item] for item in group)
        assert (
            len(group) == 1
            or sum(weights[item] for item in group) <= max(CAP * unit, TRIFLE * largest) * 1.000001
        )


@given(dags())
def test_without_a_unit_every_item_stays_alone(dag):
    weights, fixed, edges = dag
    assert all(len(group) == 1 for group in cluster(weights, fixed, edges, 0.0))


@given(dags())
def test_a_graph_below_one_unit_is_one_group(dag):
    weights, _, edges = dag
    assert len(cluster(weights, [False] * len(weights), edges, sum(weights))) == 1


def _branches(count, length, weight, size=1_000):
    """A root, `count` chains of `length` items, and an end that joins them."""
    weights, edges, end = [1e-4], [], 1 + count * length
    for branch in range(count):
        first = 1 + branch * length
        weights += [weight] * length
        edges += [Edge(0, first, size), *(Edge(first + i, first + i + 1, size) for i in range(length - 1))]
        edges.append(Edge(first + length - 1, end, size))
    return [*weights, 1e-4], edges


def _group_of(groups):
    return {item: number for number, group in enumerate(groups) for item in group}


@pytest.mark.parametrize("count", [2, 4, 16])
def test_branches_worth_a_unit_stay_apart(count):
    weights, edges = _branches(count, 10, 0.1)
    groups = cluster(weights, [False] * len(weights), edges, 1.0)
    home = _group_of(groups)
    branches = [{home[1 + branch * 10 + i] for i in range(10)} for branch in range(count)]
    assert all(len(branch) == 1 for branch in branches)
    assert len(set.union(*branches)) == count
    assert home[0] not in set.union(*branches), "the root would make the other branches wait"
    assert home[len(weights) - 1] not in set.union(*branches), "a branch would wait for the others"


def test_small_branches_are_merged():
    weights, edges = _branches(100, 3, 0.01)
    groups = cluster(weights, [False] * len(weights), edges, 1.0)
    assert len(groups) <= 10


def test_branches_that_cost_more_to_feed_than_to_compute_join_their_source():
    weights, edges = _branches(2, 1, 0.6, size=10**9)
    groups = cluster(weights, [False] * len(weights), edges, 1.0)
    home = _group_of(groups)
    assert home[0] in {home[1], home[2]}


def test_a_long_chain_is_cut_into_units():
    weights = [0.01] * 1_000
    groups = cluster(weights, [False] * 1_000, [Edge(i, i + 1, 10) for i in range(999)], 1.0)
    assert 6 <= len(groups) <= 11


def test_a_value_needed_early_does_not_wait_for_what_joins_late():
    # 0 feeds a heavy item 1 (fixed, an hour) and a light item 2; item 3 joins both; item 4 needs 0 only.
    weights, fixed = [0.01, 3600.0, 0.8, 0.01, 0.8], [False, True, False, False, False]
    edges = [Edge(0, 1, 10), Edge(0, 2, 10), Edge(1, 3, 10), Edge(2, 3, 10), Edge(0, 4, 10)]
    home = _group_of(cluster(weights, fixed, edges, 1.0))
    assert home[4] != home[3]
    assert home[0] != home[3]


def test_fifty_thousand_items_take_seconds():
    # Forward and backward pass: a chain whose second half reads the first half's results in reverse.
    count = 50_000
    edges = [Edge(i, i + 1, 10_000) for i in range(count - 1)]
    edges += [Edge(i, count - 1 - i, 100_000) for i in range(count // 2 - 1)]
    start = time.process_time()
    groups = cluster([3e-3] * count, [False] * count, edges, 1.0)
    assert time.process_time() - start < 40, "grows faster than the graph"
    assert 80 <= len(groups) <= 400
