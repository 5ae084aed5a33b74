"""The blob cache: what it keeps, what it lets go, and what it believes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider.cache import Cache
from ravop.protocol.tensors import sha256


async def adopt(cache: Cache, data: bytes) -> str:
    file = cache.incoming(sha256(data))
    file.write_bytes(data)
    return (await cache.adopt(file))[0]


async def test_adopted_blobs_are_there_under_their_hash(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    sha = await adopt(cache, b"hello")
    assert sha == sha256(b"hello")
    assert await cache.has(sha)
    assert cache.path(sha).read_bytes() == b"hello"
    assert cache.size == 5
    assert not await cache.has(sha256(b"other"))


async def test_a_full_disk_gets_back_all_that_no_task_needs(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    needed, idle = await adopt(cache, b"needed"), await adopt(cache, b"idle")
    cache.pin("task", [needed])
    cache.incoming("half.part").write_bytes(b"half a download")
    cache.make_room()
    assert [await cache.has(sha) for sha in (needed, idle)] == [True, False]
    assert (cache.size, list(cache.incoming("x").parent.iterdir())) == (6, [])


async def test_the_least_recently_used_goes_first_and_pinned_ones_stay(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 300)
    a, b, c = [await adopt(cache, letter * 100) for letter in (b"a", b"b", b"c")]
    cache.pin("task", [b])
    assert await cache.has(a)
    d = await adopt(cache, b"d" * 100)
    e = await adopt(cache, b"e" * 100)
    assert [await cache.has(sha) for sha in (a, b, c, d, e)] == [False, True, False, True, True]
    cache.unpin("task")
    await adopt(cache, b"f" * 200)
    assert cache.size == 300


async def test_pins_may_exceed_the_budget_and_add_up(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 100)
    first = await adopt(cache, b"1" * 80)
    cache.pin("task", [first])
    second = await adopt(cache, b"2" * 80)
    cache.pin("task", [second])
    assert cache.size == 160
    cache.unpin("task")
    assert cache.size == 80


async def test_a_restart_keeps_what_is_whole_and_only_that(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    good, swapped, short = [await adopt(cache, data * 10) for data in (b"good", b"swap", b"short")]
    cache.path(swapped).write_bytes(b"evil" * 10)
    cache.path(short).write_bytes(b"sh")
    cache.incoming("half").write_bytes(b"half a download")
    again = Cache(tmp_path, 1000)
    assert [await again.has(sha) for sha in (good, swapped, short)] == [True, False, False]
    assert not again.incoming("half").exists()
    assert not again.path(swapped).exists()


async def test_a_blob_truncated_while_running_is_noticed(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    sha = await adopt(cache, b"0123456789")
    cache.path(sha).write_bytes(b"01234")
    assert not await cache.has(sha)


STEPS = st.lists(st.tuples(st.sampled_from(["adopt", "pin", "unpin", "has"]), st.integers(0, 7)), max_size=40)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.integers(1, 400))
def test_within_budget_but_for_pins(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], budget: int
) -> None:
    async def play() -> None:
        cache = Cache(tmp_path_factory.mktemp("cache"), budget)
        blobs = [bytes([number]) * (20 * number + 1) for number in range(8)]
        pinned: set[int] = set()
        last = 0
        for step, number in steps:
            sha = sha256(blobs[number])
            if step == "adopt":
                await adopt(cache, blobs[number])
                assert await cache.has(sha), "what was just brought stays until something else moves"
                last = len(blobs[number])
            elif step == "pin":
                cache.pin(number, [sha])
                pinned.add(number)
            elif step == "unpin":
                cache.unpin(number)
                pinned.discard(number)
                last = 0
            assert cache.size <= budget + sum(len(blobs[n]) for n in pinned) + last
            for n in range(8):
                if await cache.has(sha256(blobs[n])):
                    assert cache.path(sha256(blobs[n])).read_bytes() == blobs[n]

    asyncio.run(play())
