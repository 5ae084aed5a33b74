"""All that the daemon's decisions depend on: a value, which `lifecycle` replaces and others read."""

from __future__ import annotations

import enum

import msgspec

from provider.core.batches import Held
from provider.core.events import Instruction, Key
from provider.core.tasks import Limits
from ravop.errors import Problem


class Link(enum.Enum):
    """The connection to the coordinator."""

    OFFLINE = "offline"
    CONNECTING = "connecting"
    REGISTERING = "registering"
    ONLINE = "online"
    WAITING = "waiting"


class Stop(enum.IntEnum):
    """How urgently the daemon is stopping; each `StopAsked` goes one further."""

    NO = 0
    FINISHING = 1
    HANDING_BACK = 2
    LEAVING = 3


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Of one daemon, from its start to its end."""

    slots: int
    limits: Limits
    pace: float
    """Seconds per FLOP, as measured last."""
    link: Link = Link.OFFLINE
    losses: int = 0
    """Failed attempts to connect in a row."""
    problem: Problem | None = None
    """Why the connection was lost, while it is."""
    pause: float = 0.0
    """Seconds from the loss to the next attempt."""
    stop: Stop = Stop.NO
    held: tuple[Held, ...] = ()
    """In the order of arrival."""
    batches: int = 0
    """How many have come."""
    troubles: int = 0
    """Batches in a row that this machine could not work on."""
    done: int = 0
    failed: int = 0


Step = tuple[State, tuple[Instruction, ...]]
"""The state after an event, and what to do now."""


def holding(state: State) -> tuple[Key, ...]:
    """The attempts to name in `Register` and `Beat`."""
    return tuple(key for held in state.held for key in held.keys)


def find(state: State, batch: int) -> Held | None:
    """The held batch, if it is held."""
    return next((held for held in state.held if held.number == batch), None)
