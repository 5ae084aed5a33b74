"""What child processes that look at strangers' models get of their parent's environment. Used by coordinators and providers."""

from __future__ import annotations

from collections.abc import Mapping

PASSED_ON = frozenset(
    {"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH"}
)
"""None of these could hold a secret."""


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are passed on."""
    return {name: value for name, value in environment.items() if name.upper() in PASSED_ON}
