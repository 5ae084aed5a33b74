"""Names of what is persisted, and values by name.

`match` tells which persisted op a name stands for; the coordinator, the client and `run_local` use it alike. `Results`
is the mapping that a local run gives. Pure.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ravop.errors import UnknownNameError, did_you_mean
from ravop.graph.manifest import Persisted
from ravop.protocol.tensors import Array

_SHOWN = 10
_ALIKE = 0.4
"""How alike names are, from 0 to 1, for one to be told first."""


def match(persisted: Sequence[Persisted], name: str) -> tuple[Persisted, tuple[int, ...]]:
    """What `name` stands for: a persisted op, and the index into its leading axes where it names an element of a series.

    A name is that of a persisted op, an element of a series such as `loss_epoch_2_batch_3` of `loss_epoch_{}_batch_{}`,
    or the series itself, by its name with the `{}`; then, and for plain ops, the index is empty. Whether
    the index lies within the op's
    shape is not known here, except that it is not negative. Raises `UnknownNameError`.
    """
    series: list[Persisted] = []
    for entry in persisted:
        if entry.name == name:
            return entry, ()
        if entry.axes:
            series.append(entry)
    for entry in series:
        found = _pattern(entry.name).fullmatch(name)
        if found is not None:
            index = tuple(
                int(number) - first for number, first in zip(found.groups(), entry.first, strict=True)
            )
            if all(i >= 0 for i in index):
                return entry, index
    raise unknown(persisted, name)


def unknown(persisted: Sequence[Persisted], name: str) -> UnknownNameError:
    """The error for a name that stands for nothing: the names that look like it, then the script's own."""
    names = [entry.name for entry in sorted(persisted, key=lambda entry: entry.inner)]
    alike = difflib.get_close_matches(name, names, n=_SHOWN // 2, cutoff=_ALIKE)
    listed = list(dict.fromkeys(alike + names))
    shown = ", ".join(listed[:_SHOWN])
    if len(listed) > _SHOWN:
        shown += f", … and {len(listed) - _SHOWN} more"
    return UnknownNameError(
        f"no op is persisted as {name!r}", expected=shown or "nothing is persisted", received=repr(name),
        hint=did_you_mean(name, alike) or "give ops a name with op.persist_op(name=...)",
    )  # fmt: skip


@functools.lru_cache(maxsize=1024)
def _pattern(name: str) -> re.Pattern[str]:
    # At most 18 digits: an index that fits 64 bits, and no long numbers to convert for a stranger.
    return re.compile("(0|[1-9][0-9]{0,17})".join(re.escape(part) for part in name.split("{}")))


class Results(Mapping[str, Array]):
    """Values by name. A series is one value here; its elements are named and cut out when they are asked for.

    Iterating gives every name that can be fetched: of a series the names of its elements.
    """

    def __init__(self, persisted: Sequence[Persisted], values: Mapping[str, Array]) -> None:
        """`values` by the names of graph outputs, `Persisted.value`."""
        self._persisted = tuple(persisted)
        self._values = values

    def __getitem__(self, name: str) -> Array:
        """Raises `UnknownNameError`, a `KeyError`."""
        entry, index = match(self._persisted, name)
        value = self._values[entry.value]
        if any(i >= size for i, size in zip(index, value.shape, strict=False)):
            last = [size - 1 + first for size, first in zip(value.shape, entry.first, strict=False)]
            raise UnknownNameError(
                f"the series {entry.name!r} is shorter",
                expected=f"at most {_named(entry.name, last)}",
                received=repr(name),
            )
        return np.asarray(value[index])

    def __iter__(self) -> Iterator[str]:
        for entry in self._persisted:
            if not entry.axes:
                yield entry.name
                continue
            shape = self._values[entry.value].shape[: entry.axes]
            for number in range(math.prod(shape)):
                index = np.unravel_index(number, shape)
                yield _named(
                    entry.name, [int(i) + first for i, first in zip(index, entry.first, strict=True)]
                )

    def __len__(self) -> int:
        return sum(math.prod(self._values[e.value].shape[: e.axes]) for e in self._persisted)

    def __repr__(self) -> str:
        return f"<Results {', '.join(entry.name for entry in self._persisted)}>"


def _named(name: str, numbers: Sequence[int]) -> str:
    """The series' name with its `{}` replaced."""
    parts = name.split("{}")
    return parts[0] + "".join(f"{number}{part}" for number, part in zip(numbers, parts[1:], strict=True))
