"""Which results deserve a second opinion: pure.

NaN is what a broken machine gives most often, and also what a training gives that diverges. So a result with NaN is computed
once more, by another provider; if that has NaN too, it is genuine, and the graph's results are not doubted any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

import numpy as np

from ravop.errors import MessageError
from ravop.graph.dtypes import is_float
from ravop.protocol.messages import Output
from ravop.protocol.tensors import Inline, decode_tensor


class Verdict(Enum):
    ACCEPTED = auto()
    DOUBTED = auto()
    """Another provider shall compute it too."""
    GENUINE = auto()
    """Accepted; another had NaN as well."""
    REFUTED = auto()
    """Accepted; the NaN of another was wrong."""


def holds_nan(outputs: Sequence[Output]) -> bool:
    """Whether an inline output does: those in blobs are not looked into."""
    return any(_is_nan(output.ref.data) for output in outputs if isinstance(output.ref, Inline))


def _is_nan(data: bytes) -> bool:
    try:
        array = decode_tensor(data)
    except MessageError:  # told by whoever checks the result
        return False
    return is_float(array.dtype) and bool(np.isnan(array).any())


def judge(nan: bool, provider: str, doubted: str | None, others: bool) -> Verdict:
    """`doubted`: whose NaN for this task was not accepted, None for nobody's; `others`: whether another provider could
    compute it now."""
    if doubted not in (None, provider):
        return Verdict.GENUINE if nan else Verdict.REFUTED
    if nan and doubted is None and others:
        return Verdict.DOUBTED
    return Verdict.ACCEPTED
