"""Versions of the protocol: which this release speaks, what each added, and what is said where two programs have none
in common.

A client names one version in its `Hello`, the newest first; a coordinator that speaks it lets the client in, and both
speak it on that connection. Refused, the client tries the next older one. So both speak the newest that both know, also
where either is of a later release than the other. Pure.
"""

from __future__ import annotations

from ravop.errors import Problem, VersionError

VERSION = 3
"""The newest that this release speaks."""
OLDEST = 2
"""The oldest."""

ADDED: dict[str, dict[str, int]] = {
    "Activate": {"trace": 3},
    "Execute": {"trace": 3},
    "Report": {"trace": 3},
}
"""Fields of messages that came after `OLDEST`, and with which version. They have a default, their messages leave defaults out
(`omit_defaults`), and they are not sent to who speaks less. Fields of structs inside messages need no line here: who
does not know them passes over them. A message that is new is sent only where the connection's version has it.
"""


def spoken() -> str:
    """The versions that this release speaks, in words."""
    return f"version {OLDEST}" if OLDEST == VERSION else f"version {OLDEST} to {VERSION}"


def check_version(version: object, theirs: str, ours: str) -> None:
    """Raises `VersionError` for a version that this release does not speak; `theirs` and `ours`: name and release of the
    programs on both sides, such as `ravenverse 0.1.0`.
    """
    if isinstance(version, int) and OLDEST <= version <= VERSION:
        return
    here, there = ours or "the release of the coordinator", theirs or "the client's release"
    later = isinstance(version, int) and version > VERSION
    raise VersionError(
        "the two programs speak different versions of the protocol",
        expected=f"{spoken()}, as {here} does",
        received=f"version {version}"[:100] + (f", of {theirs}" if theirs else ""),
        hint=f"install {here} in place of {there}"
        + (", or let the coordinator be upgraded" if later else ", or a later one"),
    )


def no_common(refusal: Problem, ours: str) -> VersionError:
    """What a client says when a coordinator refused all that it speaks; `refusal`: what the coordinator said of the
    newest."""
    return VersionError(
        refusal.message,
        expected=f"a coordinator that speaks {spoken()}, as {ours or 'this release'} does",
        received=f"one that speaks {refusal.expected}",
        hint=refusal.hint,
    )
