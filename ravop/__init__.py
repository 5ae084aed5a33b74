"""Ravenverse for requesters: define a graph of ops, and have it computed by volunteers' machines.

`import ravop as R`. Operators are functions here and methods of every op; they only describe, nothing is
computed before the graph is activated and executed (or run locally).

What `R.` offers is listed in `ravop.public`, and loaded when the first of it is used: coordinators and
providers import modules of this package too, and should not pay for operators and client with time and
memory.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ravop.public import *  # noqa: F403


_TENSORS = "use ravop.t for a tensor of numbers, lists or an array"
_ELSEWHERE = dict.fromkeys(("array", "asarray", "constant", "tensor"), _TENSORS)
"""What other libraries call what is here under another name."""


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    if importlib.util.find_spec(f"{__name__}.{name}"):  # `from ravop import logs` asks here first
        return importlib.import_module(f"{__name__}.{name}")
    public = importlib.import_module("ravop.public")
    if not hasattr(public, name):
        hint = (
            _ELSEWHERE.get(name)
            or public.errors.did_you_mean(name, __dir__())
            or "dir(ravop) lists what it has"
        )
        raise AttributeError(f"ravop has no {name!r}; {hint}")
    value = globals()[name] = getattr(public, name)
    return value


def __dir__() -> list[str]:
    return sorted(name for name in vars(importlib.import_module("ravop.public")) if not name.startswith("_"))
