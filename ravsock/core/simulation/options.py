"""What is simulated: the fleet, its faults, the work, and the policy that is tried. Values only."""

from __future__ import annotations

import msgspec

from ravsock.core.deadlines import COORDINATOR, Policy
from ravsock.core.jobs import PREFETCH

WORKLOADS = ("tasks", "loops", "layers")
SPEEDS = ("measured", "claimed", "equal")


class Fleet(msgspec.Struct, frozen=True):
    """Of whom the fleet is made; each provider is drawn from this.

    Speeds and lines are log-uniform between their limits, sessions and absences exponential.
    """

    providers: int = 1000
    """Connected at a time, on average."""
    gflops: tuple[float, float] = (2.0, 200.0)
    """Of one slot."""
    link: tuple[float, float] = (1.25e6, 12.5e6)
    """Bytes a second, each way."""
    latency: tuple[float, float] = (0.01, 0.15)
    """Seconds there and back."""
    slots: int = 1
    claims: float = 0.2
    """How far claims are from the truth (sigma of a log-normal factor)."""
    churn: float = 0.2
    """The share of the connected providers that leave within an hour."""
    away_hours: float = 0.5
    """Until one that left comes back, on average."""
    silent: float = 0.3
    """The share of those that leave whose connection is not closed."""
    failing: float = 0.005
    """The share of providers on which everything fails."""
    nan: float = 0.005
    """The share of providers that give NaN."""
    failures: float = 0.002
    """The share of runs that fail on a good provider."""
    noise: float = 0.1
    """How far runs differ (sigma of a log-normal factor)."""
    slow: float = 0.05
    """The share of its time in which a provider is slow, since somebody uses it."""
    slow_factor: float = 4.0
    slow_hours: float = 0.25
    """How long it then is, on average."""


class Work(msgspec.Struct, frozen=True):
    """What is to be done."""

    kind: str = "tasks"
    """`tasks`: independent ones. `loops`: independent loops, in chunks. `layers`: each layer needs all of the one before."""
    hours: float = 2.0
    """So much for the fleet, if it did nothing else and lost nothing."""
    task_seconds: float = 300.0
    """Of a task on a provider of median speed; of a loop as a whole."""
    iterations: int = 1000
    """Of a loop."""
    requesters: int = 3
    graphs: int = 4
    """Of each requester."""
    sizes: float = 0.5
    """How far tasks of different graphs are from that (sigma of a log-normal factor)."""
    guesses: float = 0.5
    """How far the planner's estimates are from the truth (sigma of a log-normal factor)."""
    bytes_in: int = 1_000_000
    shared: int = 20
    """Tasks that read the same blob."""
    bytes_out: int = 200_000
    model_bytes: int = 100_000


class Trial(msgspec.Struct, frozen=True):
    """The policy that is tried; as the coordinator's, where nothing else is said."""

    times: Policy = COORDINATOR
    copies: bool = True
    """Whether late batches get a second attempt."""
    prefetch: int = PREFETCH
    speeds: str = "measured"
    """What placement goes by: speeds as `measured`, as `claimed`, or `equal` ones."""
    round_seconds: float = 0.2
    """From something that happens until a round is handed out."""


class Options(msgspec.Struct, frozen=True):
    fleet: Fleet = Fleet()
    work: Work = Work()
    trial: Trial = Trial()
    most_hours: float = 48.0
    """The simulation ends then, whatever is left."""
