"""Who computes a loop's next chunk together: pure, from what is known of the chunk and of the free providers.

`choose` compares the gangs that the plan offers, each with the providers that suit it best, with the best provider alone.
Leases, clocks and sockets are in `ravsock.server.gangs`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ravsock.core.deadlines import FIRST_CHUNK_SECONDS, Effort, Pace, iterations
from ravsock.core.fleet import DEFAULT_GFLOPS
from ravsock.core.jobs import LINK
from ravsock.core.plan import Gang, PartPlan

ROUND_TRIP = 0.001
"""Seconds that ranks on one machine wait for each other."""
NEAR = 0.005
"""A control connection that answers within so many seconds says nothing about an exchange: it waits for other things."""
WORTH_IT = 1.05
"""A gang must be so many times as fast as one provider alone: it keeps several from other work."""
TRY_ALONE_SECONDS = 1.0
"""A loop whose iteration takes no longer on one provider is run there first: what is measured then tells what a gang
may bring."""
MISTAKEN = 1.5
"""A plan may be wrong by so much for gangs and single providers alike; what a gang takes beyond that is its own."""
AROUND_SHARE = 0.03
"""Of a chunk's time that may go into all around it."""
CHUNK_SECONDS = 5.0
"""Longer than one provider's: coming together again takes a tenth of a second."""
MAX_CHUNK_SECONDS = 90.0
"""So much work at most is lost when a gang is broken off."""
GROWTH = 8
"""A gang's chunk has at most so many times the iterations of the one before."""
MAX_TRIES = 4
"""A range of iterations that was leased so often is left to one provider."""
FORGIVING = 0.98
"""How a gang that was slower than expected is judged each time it is passed over: once in a while it is tried again."""
SAME_SPEED = math.log(1.05)


@dataclass(frozen=True)
class Member:
    """A provider with a free slot."""

    provider_id: str
    gflops: float
    memory: int
    link: float = LINK
    """Bytes a second."""
    round_trip: float = ROUND_TRIP
    lacking: int = 0
    """Bytes of the chunk's inputs that it does not have."""
    lacks: Mapping[str, int] = field(default_factory=dict)
    """The same by port of the chunk's model, where it lacks any."""

    def needs(self, part: PartPlan) -> int:
        """Bytes that it would have to fetch for a part."""
        return sum(self.lacks[port] for port in part.inputs if port in self.lacks)


@dataclass(frozen=True)
class Seen:
    """How a gang of some number of ranks did on a chunk."""

    ratio: float
    """Measured seconds of an iteration over those expected from the plan."""
    length: int
    """Iterations of the last chunk."""
    around: float = 0.0
    """Seconds that a chunk takes beside computing: coming together, fetching inputs, bringing outputs."""
    doubt: float = 1.0
    """So many times slower was the first chunk, which may have been for other reasons."""

    def passed_over(self) -> Seen:
        return replace(self, ratio=self.ratio**FORGIVING)


@dataclass(frozen=True)
class Chunk:
    """The iterations of a loop that are left, ready to run."""

    left: int
    gangs: tuple[Gang, ...]
    effort: Effort
    """Of one iteration on one provider, from the plan."""
    pace: Pace | None = None
    """The same as measured, where it was."""
    seen: Mapping[int, Seen] = field(default_factory=dict)
    """By the number of ranks."""
    bytes_out: int = 0
    peak_memory: int = 0
    tries: int = 0
    failed: bool = False
    """An attempt at these iterations failed: whose fault it is shows best on one provider."""


@dataclass(frozen=True)
class Team:
    """`providers` in rank order compute the next `length` iterations as `gang`."""

    gang: int
    providers: tuple[str, ...]
    length: int
    expected: float
    """Seconds of one iteration, from the plan alone: what `Seen.ratio` refers to."""
    estimate: float
    """Seconds that the whole chunk should take."""
    fetching: float
    """Seconds that the slowest should need for what it lacks."""


def choose(
    chunk: Chunk, members: Sequence[Member], usual: Sequence[str] = (), most: int | None = None
) -> Team | None:
    """The best team, or None where one provider alone is as good or the chunk should go to one for now.

    `usual` did the chunk before, in rank order: who is as good as another stays, at its rank. `most` bounds the ranks.
    """
    if chunk.tries >= MAX_TRIES or chunk.failed:
        return None
    teams = [
        (chunk.left * _seconds(chunk, gang, ranks) + _fetching(gang, ranks), index, ranks)
        for index, gang in enumerate(chunk.gangs)
        if most is None or len(gang.parts) <= most
        if (chosen := _best(gang, members, usual)) is not None
        for ranks in [_ranked(gang, chosen, usual)]
    ]
    if not teams:
        return None
    whole, index, chosen = min(teams, key=lambda team: team[:2])
    alone = [m for m in members if m.memory >= chunk.peak_memory]
    if alone and _rather_alone(chunk, whole, alone):
        return None
    return _team(chunk, index, chosen)


def learn(before: Seen | None, team: Team, seconds: float, around: float) -> Seen:
    """What a team's chunk that took so long, and so much around it, adds to what is known.

    The first one fetches data, loads models and makes connections: where it was slow, the next one tells.
    """
    ratio = min(max(seconds / (team.length * team.expected), 1e-6), 1e6)
    if before is None:
        return Seen(min(ratio, 1.0), team.length, doubt=max(ratio, 1.0))
    known = ratio if before.doubt > 1.0 else before.ratio
    less = min(max(around, 0.0), 1.5 * before.around) if before.around else max(around, 0.0)
    return Seen(math.sqrt(known * ratio), team.length, less)


def late(team: Team, seconds: float) -> Seen:
    """What is known of a team that was not done after so long: it is as slow as that, or slower."""
    return Seen(seconds / (team.length * team.expected), max(1, team.length // GROWTH))


def round_trip(latency: float) -> float:
    """Seconds of an exchange with a provider that acknowledges messages after `latency`."""
    return ROUND_TRIP if latency < NEAR else latency


def expected_seconds(gang: Gang, members: Iterable[Member], calibration: float = 1.0) -> float:
    """Of one iteration: the slowest rank's computing, the slowest line's bytes, and waiting for each other."""
    listed = list(members)
    computing = gang.seconds * calibration * DEFAULT_GFLOPS / min(m.gflops for m in listed)
    exchanging = gang.bytes / min(m.link for m in listed) + gang.exchanges * max(m.round_trip for m in listed)
    return computing + exchanging


def chunk_length(left: int, seconds: float, transfer: float, tries: int, seen: Seen | None) -> int:
    """Iterations of a gang's next chunk: `seconds` is one of them, `transfer` the time that carrying the outputs should
    take, as long as nothing was seen.

    Worth a few seconds; more where that is little beside the transfer; less after each try that was broken off.
    """
    if seen is None:
        return iterations(left, seconds, _halved(max(FIRST_CHUNK_SECONDS, transfer), tries))
    # no iteration is cut: rather one more than too large a share of the time around them
    around = _halved(seen.around / AROUND_SHARE, tries)
    enough = max(1, math.ceil(around / seconds)) if seconds > 0 else left
    enough = left // max(1, round(left / enough))  # and no short rest remains
    usual, longest = (
        iterations(left, seconds, _halved(t, tries)) for t in (CHUNK_SECONDS, MAX_CHUNK_SECONDS)
    )
    return max(1, min(max(usual, enough), longest, GROWTH * seen.length))


def _halved(target: float, tries: int) -> float:
    return min(target, MAX_CHUNK_SECONDS) / 2.0 ** min(tries, 10)


def _rather_alone(chunk: Chunk, whole: float, alone: Sequence[Member]) -> bool:
    effort = chunk.effort if chunk.pace is None else Effort(chunk.pace.work)
    if chunk.pace is None:
        trial = min(effort.seconds(m.gflops) + m.lacking / m.link for m in alone)
        if trial <= TRY_ALONE_SECONDS:
            return True
        # what made gangs a little slower than planned would make one provider slower too
        ratio = min((seen.ratio for seen in chunk.seen.values()), default=1.0)
        ratio = min(max(ratio, 1.0), MISTAKEN)
        effort = Effort(effort.work * ratio, effort.overhead * ratio)
    single = min(chunk.left * effort.seconds(m.gflops) + m.lacking / m.link for m in alone)
    return single <= whole * WORTH_IT


def _fetching(gang: Gang, ranks: Sequence[Member]) -> float:
    """Seconds until all have what they need."""
    return max(m.needs(part) / m.link for m, part in zip(ranks, gang.parts, strict=True))


def _seconds(chunk: Chunk, gang: Gang, members: Sequence[Member]) -> float:
    seen = chunk.seen.get(len(gang.parts))
    if seen is not None:
        return seen.ratio * expected_seconds(gang, members)
    planned = expected_seconds(gang, members, _calibration(chunk))
    if not chunk.seen:
        return planned
    # what made other gangs slower than planned makes this one slower too
    nearest = min(chunk.seen, key=lambda ranks: (abs(ranks - len(gang.parts)), ranks))
    return max(planned, chunk.seen[nearest].ratio * expected_seconds(gang, members))


def _calibration(chunk: Chunk) -> float:
    """How much slower one provider was than the plan expected."""
    planned = chunk.effort.seconds(DEFAULT_GFLOPS) * DEFAULT_GFLOPS
    return chunk.pace.work / planned if chunk.pace is not None and planned > 0 else 1.0


def _best(gang: Gang, members: Sequence[Member], usual: Sequence[str]) -> list[Member] | None:
    """The members that make the gang fastest: of all whose line is at least so fast, those that compute fastest."""
    needed = max(part.peak_memory for part in gang.parts)
    able = sorted(
        (m for m in members if m.memory >= needed),
        key=lambda m: (-round(math.log(m.gflops) / SAME_SPEED), m.provider_id not in usual, m.provider_id),
    )
    sets = [[m for m in able if m.link >= line][: len(gang.parts)] for line in sorted({m.link for m in able})]
    whole = [chosen for chosen in sets if len(chosen) == len(gang.parts)]
    return min(whole, key=lambda chosen: expected_seconds(gang, chosen), default=None)


def _ranked(gang: Gang, members: Sequence[Member], usual: Sequence[str]) -> list[Member]:
    """By rank: who needs least for a part gets it, and where that is equal, who had the rank before."""
    pairs = sorted(
        (member.needs(part), usual[rank : rank + 1] != (member.provider_id,), rank, place)
        for rank, part in enumerate(gang.parts)
        for place, member in enumerate(members)
    )
    ranks: dict[int, int] = {}
    for _, _, rank, place in pairs:
        if rank not in ranks and place not in ranks.values():
            ranks[rank] = place
    return [members[ranks[rank]] for rank in range(len(gang.parts))]


def _team(chunk: Chunk, index: int, ranks: Sequence[Member]) -> Team:
    gang = chunk.gangs[index]
    seconds = _seconds(chunk, gang, ranks)
    # from the leader, and to those who go on from it
    transfer = 2 * chunk.bytes_out / min(m.link for m in ranks)
    seen = chunk.seen.get(len(gang.parts))
    doubt = 1.0 if seen is None else seen.doubt
    length = chunk_length(chunk.left, seconds * doubt, transfer, chunk.tries, seen)
    return Team(
        gang=index,
        providers=tuple(m.provider_id for m in ranks),
        length=length,
        expected=expected_seconds(gang, ranks),
        estimate=length * seconds,
        fetching=_fetching(gang, ranks),
    )
