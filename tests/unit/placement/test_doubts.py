"""When a result with NaN is accepted."""

from __future__ import annotations

import numpy as np
import pytest

from ravop.protocol.messages import Output
from ravop.protocol.tensors import Blob, Inline, encode_tensor
from ravsock.core.doubts import Verdict, holds_nan, judge

CASES = [
    (False, None, True, Verdict.ACCEPTED),
    (True, None, False, Verdict.ACCEPTED),
    (True, None, True, Verdict.DOUBTED),
    (True, "me", True, Verdict.ACCEPTED),
    (True, "another", True, Verdict.GENUINE),
    (True, "another", False, Verdict.GENUINE),
    (False, "another", True, Verdict.REFUTED),
    (False, "me", True, Verdict.ACCEPTED),
]


@pytest.mark.parametrize(("nan", "doubted", "others", "verdict"), CASES)
def test_verdicts(nan: bool, doubted: str | None, others: bool, verdict: Verdict) -> None:
    assert judge(nan, "me", doubted, others) is verdict


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_is_seen_in_floats_that_are_inline(dtype: str) -> None:
    values = np.ones((3, 4), dtype)
    fine = Output(name="y", ref=Inline(encode_tensor(values)))
    values[2, 1] = np.nan
    bad = Output(name="y", ref=Inline(encode_tensor(values)))
    assert not holds_nan([fine, fine])
    assert holds_nan([fine, bad])


@pytest.mark.parametrize(
    "ref", [Inline(encode_tensor(np.array(7))), Inline(b"no tensor"), Blob("0" * 64, 9)], ids=repr
)
def test_what_holds_no_floats_is_not_looked_into(ref: Inline | Blob) -> None:
    assert not holds_nan([Output(name="y", ref=ref)])
