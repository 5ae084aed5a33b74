"""Time without jumps."""

import pytest

from ravsock.core.clock import JUMP_SECONDS, Clock

CLOCK = Clock(wall=1_000.0, steady=50.0)


@pytest.mark.parametrize("jump", [3600.0, -3600.0, JUMP_SECONDS + 1])
def test_the_steady_clock_does_not_feel_that_the_wall_clock_jumps(jump: float) -> None:
    assert CLOCK.at(60.0) == 1_010.0
    assert CLOCK.jump(1_010.0 + jump, 60.0) == pytest.approx(jump)
    followed = Clock(CLOCK.wall + jump, CLOCK.steady)
    assert followed.jump(1_010.0 + jump, 60.0) == 0.0
    assert followed.at(60.0) == pytest.approx(1_010.0 + jump)


def test_small_corrections_are_no_jumps() -> None:
    assert CLOCK.jump(1_010.5, 60.0) == 0.0
    assert CLOCK.jump(1_009.5, 60.0) == 0.0
