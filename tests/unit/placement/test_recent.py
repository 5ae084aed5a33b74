"""What is remembered, and what is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ravsock.core.recent import Recent

USES = st.lists(st.tuples(st.sampled_from(["set", "read", "look"]), st.integers(0, 6)))


@given(USES)
def test_the_keys_that_were_used_last_are_there(uses: list[tuple[str, int]]) -> None:
    recent: Recent[int, int] = Recent(3, lambda: -1)
    used: list[int] = []
    for use, key in uses:
        if use == "look":
            assert (recent.get(key) is not None) == (key in recent) == (key in used[-3:])
            continue
        if use == "set":
            recent[key] = key
        else:
            assert recent[key] in (key, -1)
        used = [other for other in used if other != key] + [key]
    assert len(recent) == len(used[-3:])
    assert all(key in recent for key in used[-3:])
