"""`Recent`: a dictionary that forgets what was used longest ago, so that memory of what comes and goes stays bounded.

Pure; everybody in `ravsock` may use it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, KeysView
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MANY = 10_000
"""Keys that are remembered of what is small."""


class Recent(Generic[K, V]):
    """At most `most` keys. Setting or reading `[key]` uses it; `get` and `in` only look, and may do so on any thread.

    Args:
        make: a value for a key that is read and not there.
    """

    def __init__(self, most: int = MANY, make: Callable[[], V] | None = None) -> None:
        self._most = most
        self._make = make
        self._kept: OrderedDict[K, V] = OrderedDict()

    def __getitem__(self, key: K) -> V:
        if key not in self._kept and self._make is not None:
            self[key] = self._make()
        self._kept.move_to_end(key)
        return self._kept[key]

    def __setitem__(self, key: K, value: V) -> None:
        self._kept.pop(key, None)
        self._kept[key] = value
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def keys(self) -> KeysView[K]:
        return self._kept.keys()

    def get(self, key: K) -> V | None:
        return self._kept.get(key)

    def pop(self, key: K) -> V | None:
        """The value, which is forgotten."""
        return self._kept.pop(key, None)
