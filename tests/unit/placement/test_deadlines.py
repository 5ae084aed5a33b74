"""Deadlines as their users see them: whole loops played through, and bounds that hold for any number."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravsock.core import deadlines
from ravsock.core.deadlines import Pace
from ravsock.core.fleet import DEFAULT_GFLOPS
from ravsock.core.speeds import spread

seconds = st.floats(min_value=1e-9, max_value=1e6)
speeds = st.floats(min_value=1e-3, max_value=1e6)


def play(length: int, true_seconds: float, estimate: float, gflops: float = 10.0) -> list[int]:
    """The chunks of a loop whose iterations take `true_seconds` on one provider."""
    left, chunks, pace = length, [], None
    while left:
        per_iteration = deadlines.effort(estimate * gflops * 1e9, 0.0, pace).seconds(gflops)
        chunk = deadlines.chunk_length(left, per_iteration, pace)
        pace = Pace(true_seconds * gflops, chunk)
        chunks.append(chunk)
        left -= chunk
    return chunks


def test_a_well_estimated_loop_starts_short_and_settles_at_three_seconds() -> None:
    chunks = play(20_000, true_seconds=0.001, estimate=0.001)
    assert chunks[:5] == [300, 600, 1200, 2400, 3000]
    assert set(chunks[5:-1]) == {3000}


def test_an_estimate_far_too_low_costs_one_long_chunk_only() -> None:
    chunks = play(20_000, true_seconds=0.1, estimate=0.001)
    assert chunks[0] == 300
    assert set(chunks[1:-1]) == {30}


def test_an_estimate_far_too_high_grows_out_of_it() -> None:
    chunks = play(10_000, true_seconds=0.001, estimate=10.0)
    assert chunks[:4] == [1, 2, 4, 8]
    assert max(chunks) == 3000


@given(length=st.integers(1, 100_000), true=st.floats(0.01, 1e4), estimate=seconds)
def test_every_iteration_is_in_exactly_one_chunk(length: int, true: float, estimate: float) -> None:
    length = min(length, 3000)
    chunks = play(length, true, estimate)
    assert sum(chunks) == length
    assert all(chunk >= 1 for chunk in chunks)
    assert all(later <= max(1, deadlines.GROWTH * earlier) for earlier, later in pairwise(chunks))


@given(
    left=st.integers(1, 10**9),
    work=st.floats(0, allow_nan=False),
    length=st.integers(1, 10**9),
    gflops=speeds,
)
def test_a_chunk_is_never_longer_than_three_seconds_of_measured_time(
    left: int, work: float, length: int, gflops: float
) -> None:
    pace = Pace(work, length)
    estimate = deadlines.effort(0.0, 0.0, pace).seconds(gflops)
    chunk = deadlines.chunk_length(left, estimate, pace)
    assert 1 <= chunk <= min(left, deadlines.GROWTH * length)
    assert chunk == 1 or chunk * estimate <= deadlines.CHUNK_SECONDS * 1.0001


@pytest.mark.parametrize("estimate", [0.0, math.inf])
def test_senseless_estimates_still_give_a_chunk(estimate: float) -> None:
    assert deadlines.chunk_length(10, estimate) in (1, 10)


def test_every_try_that_came_to_nothing_halves_the_chunk() -> None:
    pace = Pace(work=0.01, length=1000)
    lengths = [deadlines.chunk_length(10_000, 0.001, pace, tries) for tries in range(14)]
    assert lengths[:3] == [2000, 1000, 500]
    assert lengths[-1] == 1
    assert deadlines.chunk_length(10_000, 0.001, pace, 10**9) == 1


def test_a_lease_follows_how_runs_spread_once_enough_were_seen() -> None:
    steady = spread([1.0] * 20)
    wild = spread([1.0] * 16 + [8.0] * 4)
    few = spread([1.0] * 3)
    assert deadlines.lease_seconds(60.0, spread=steady) == 120.0
    assert deadlines.lease_seconds(60.0, spread=wild) == 60.0 * (1.0 + deadlines.SPREADS * 7.0)
    assert deadlines.lease_seconds(60.0, spread=few) == deadlines.lease_seconds(60.0)
    assert deadlines.lease_seconds(0.01, spread=steady) == deadlines.MIN_KNOWN_LEASE_SECONDS


def test_leases_cover_the_estimate_the_transfer_and_every_retry() -> None:
    assert deadlines.lease_seconds(0.0) == deadlines.MIN_LEASE_SECONDS
    assert deadlines.lease_seconds(60.0) == 60.0 * deadlines.LEASE_FACTOR
    assert deadlines.lease_seconds(0.0, transfer=200_000_000) == 200.0
    assert [deadlines.lease_seconds(0.0, attempt=n) for n in (1, 2, 3)] == [30.0, 60.0, 120.0]


@given(estimate=st.floats(0, 1e9), transfer=st.integers(0, 10**12), attempt=st.integers(0, 10**6))
def test_a_lease_is_finite_and_longer_than_the_work(estimate: float, transfer: int, attempt: int) -> None:
    lease = deadlines.lease_seconds(estimate, transfer, attempt)
    assert math.isfinite(lease)
    assert lease >= max(30.0, estimate, transfer / deadlines.SLOW_LINK)
    assert deadlines.lease_seconds(estimate, transfer, attempt + 1) >= lease


def test_a_failing_provider_rests_longer_each_time() -> None:
    rests = [deadlines.rest_seconds(n) for n in range(12)]
    assert rests[:5] == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert rests == sorted(rests)
    assert deadlines.rest_seconds(10**9) == deadlines.MAX_REST_SECONDS


def test_the_fixed_cost_of_a_run_counts_beside_its_flops() -> None:
    assert deadlines.effort(2e9, overhead=0.5).seconds(4.0) == 1.0
    assert deadlines.effort(2e9, overhead=0.5).times(3).seconds(4.0) == 3.0


def test_speed_is_one_figure_even_for_a_provider_that_measured_nothing() -> None:
    assert deadlines.speed(16.0, 4.0) == pytest.approx(8.0)
    assert deadlines.speed(0.0, 5.0) == 5.0
    assert deadlines.speed(0.0, 0.0) == DEFAULT_GFLOPS
    assert deadlines.speed(5e-324, 5e-324) == deadlines.MIN_GFLOPS


def test_the_time_left_needs_a_speed_to_go_by() -> None:
    assert deadlines.seconds_left(1e9, 0.0, 5.0) is None
    assert deadlines.seconds_left(1e9, 1e-9, 5.0) is None
    assert deadlines.seconds_left(100.0, 1.0, 5.0) == 500.0
    assert deadlines.seconds_left(0.9, 0.1, 5.0) == pytest.approx(45.0)
    assert deadlines.seconds_left(-1e-9, 1.0, 5.0) == 0.0


def test_silence_counts_from_the_last_sign_of_life() -> None:
    assert not deadlines.silent(100.0, 112.0)
    assert deadlines.silent(100.0, 112.1)


def test_many_providers_beat_less_often_and_may_be_silent_for_longer() -> None:
    assert [deadlines.beat_seconds(connected) for connected in (1, 3_000, 12_000)] == [5.0, 5.0, 20.0]
    assert not deadlines.silent(100.0, 142.0, 20.0)
    assert deadlines.silent(100.0, 142.1, 20.0)
