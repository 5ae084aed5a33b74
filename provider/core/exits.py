"""Exit codes of `provider start` and what each means; which problems end it, and which pass."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """0, and codes that a service manager can tell apart. 1 is Python's own, 2 the command line's."""

    STOPPED = 0
    TOKEN = 3
    ROLE = 4
    VERSION = 5
    RUNNING = 6
    BROKEN = 7
    CLUSTER = 8


MEANING: dict[Exit, str] = {
    Exit.STOPPED: "stopped as asked; tasks were finished or handed back",
    Exit.TOKEN: "the coordinator refused the token: get a provider token from its operator",
    Exit.ROLE: "the token is not a provider's: get a provider token from the coordinator's operator",
    Exit.VERSION: "coordinator and provider speak different versions: install the same release on both sides",
    Exit.RUNNING: "a provider of this name runs here already: stop it, or choose another --name",
    Exit.BROKEN: "the engine does not work on this machine: see the error above",
    Exit.CLUSTER: "the cluster cannot be used: see the error above",
}

FATAL: dict[str, Exit] = {"token": Exit.TOKEN, "role": Exit.ROLE, "version": Exit.VERSION}
"""Codes of problems that do not go away by trying again."""

PASSING = frozenset({"unreachable", "timeout", "storage_full", "token", "role", "graph_state", "error"})
"""Codes of problems of the line or the coordinator, not of a task: try again, perhaps after connecting anew."""
