"""`Calls`: how many nodes a model has once every call of a function is replaced by the function. Pure.

Functions that call functions twice double at each level, so that a file of a kilobyte may stand for more nodes than there
is time for: they are counted before any is looked at.
"""

from __future__ import annotations

from collections import Counter
from graphlib import CycleError, TopologicalSorter

from ravop.errors import InvalidModelError
from ravop.graph.limits import Limits

FunctionId = tuple[str, str, str]
_LIMITS = Limits()
MAX_LEVELS = 100
"""Of functions in functions, bodies counted as well."""


class Calls:
    """Who calls whom, how often. None is the model's main graph."""

    def __init__(self) -> None:
        self._nodes: Counter[FunctionId | None] = Counter()
        self._calls: dict[FunctionId | None, Counter[FunctionId | None]] = {None: Counter()}
        self._written = 0

    def count(self, caller: FunctionId | None, called: FunctionId | None) -> None:
        """One node in `caller`, or in a body in it; `called` is the function that it calls, None for an operator.

        Raises `InvalidModelError` where the model has too many nodes without the calls already.
        """
        self._nodes[caller] += 1
        self._written += 1
        if self._written > _LIMITS.nodes:
            raise _too_many(f"more than {_LIMITS.nodes:,}")
        if called is not None:
            self._calls.setdefault(caller, Counter())[called] += 1

    def check(self) -> int:
        """How many nodes there are with every call replaced. Raises `InvalidModelError` for too many, or recursion."""
        sizes: dict[FunctionId | None, int] = {}
        levels: dict[FunctionId | None, int] = {}
        try:
            order = list(TopologicalSorter(self._calls).static_order())
        except CycleError as error:
            names = " → ".join(_told(name) for name in error.args[1][:_SHOWN])
            raise InvalidModelError(
                "a function of the model is recursive: it calls itself", expected="functions that call others only",
                received=names, hint="write repeated work as a loop",
            ) from error  # fmt: skip
        for name in order:
            calls = self._calls.get(name, Counter())
            levels[name] = 1 + max((levels[each] for each in calls), default=0)
            found = self._nodes[name] + sum(times * sizes[each] for each, times in calls.items())
            sizes[name] = min(found, _LIMITS.nodes + 1)
        if levels[None] > MAX_LEVELS:
            raise InvalidModelError(
                "functions are nested too deeply",
                expected=f"at most {MAX_LEVELS} levels",
                received=levels[None],
            )
        if sizes[None] > _LIMITS.nodes:
            raise _too_many(f"more than {_LIMITS.nodes:,}")
        return sizes[None]


_SHOWN = 10
"""Functions that one error names."""


def _told(name: FunctionId | None) -> str:
    return "the model" if name is None else ".".join(filter(None, name))


def _too_many(received: str) -> InvalidModelError:
    return InvalidModelError(
        "the model has too many nodes", expected=f"at most {_LIMITS.nodes:,}, those of functions counted at every call",
        received=received, hint="write repeated work as a loop",
    )  # fmt: skip
