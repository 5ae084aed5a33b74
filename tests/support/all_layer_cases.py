"""The cases of all families of layers, by name."""

from __future__ import annotations

import layer_cases_plain
import layer_cases_series
import layer_cases_windows
from layer_cases import Case

CASES: dict[str, Case] = {
    **layer_cases_plain.CASES,
    **layer_cases_windows.CASES,
    **layer_cases_series.CASES,
}
