"""A whole Ravenverse in virtual time: the coordinator's decisions, on providers and work that are drawn by chance. Pure.

`coordinator` runs the very functions that the server runs (placement, deadlines, second attempts, learnt speeds, rests,
doubts, the states of tasks) on tables in memory. `machines` are the providers as they really are, `work` is what there is
to do, `world` moves time from event to event, `result` keeps the books, `options` says what is drawn. Not simulated: the
database, messages that are lost, gangs, tasks that run ahead, limits of the coordinator's own line.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ravsock.core.simulation.options import Options
from ravsock.core.simulation.result import Result
from ravsock.core.simulation.world import World


def simulate(
    options: Options,
    random: np.random.Generator,
    stopwatch: Callable[[], float] = float,
    tell: Callable[[float], None] = lambda hours: None,
) -> Result:
    """Run it until all work is done. `stopwatch` gives real seconds, for how long decisions take; `tell` is told each
    virtual minute how many hours are over."""
    return World(options, random, stopwatch, tell).run()
