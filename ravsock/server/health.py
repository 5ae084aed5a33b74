"""Whether the coordinator can do its work: what people are told while its database or disk is in trouble, and a log
that such trouble does not flood.
"""

from __future__ import annotations

import logging
import time

from ravop.errors import RavenError, StorageFullError, UnreachableError

QUIET_SECONDS = 60.0
"""The same trouble is logged so often."""

log = logging.getLogger(__name__)


class Health:
    """`failed` and `well` may be called from any thread."""

    def __init__(self) -> None:
        self._trouble = ""
        self._since = 0.0
        self._logged: dict[str, float] = {}
        self._end = ""
        self._notes: dict[str, str] = {}

    @property
    def notes(self) -> list[str]:
        """What is not as it should be, though everything works."""
        return list(self._notes.values())

    def note(self, what: str, why: str = "", error: object = "") -> None:
        """Something about `what` is not as it should be, or is again, without `why`. The `error` is for the log alone: notes
        are shown without a token."""
        if why and self._notes.get(what) != why:
            log.warning("%s: %s" if error else "%s%s", why, error)
        elif not why and what in self._notes:
            log.warning("well again: %s", self._notes[what])
        if why:
            self._notes[what] = why
        else:
            self._notes.pop(what, None)

    def ends(self, error: RavenError) -> None:
        """The coordinator can do no work any more."""
        self._end = _in_a_line(error)
        log.error("%s", error)

    @property
    def trouble(self) -> str:
        """What is wrong, in one line; empty while nothing is."""
        if self._end:
            return self._end
        trouble = self._trouble
        return f"{trouble} (for {time.monotonic() - self._since:.0f} s)" if trouble else ""

    def failed(self, what: str, error: BaseException) -> None:
        """Something failed that is tried again: logged, but no more often than is of use."""
        if not isinstance(error, UnreachableError | StorageFullError):
            log.error("%s", what, exc_info=error)
            return
        if not self._trouble:
            self._since = time.monotonic()
        self._trouble = _in_a_line(error)
        now = time.monotonic()
        if now - self._logged.get(what, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._logged[what] = now
            log.error("%s; it is tried again: %s", what, error)

    def well(self) -> None:
        """The database takes changes."""
        if self._trouble:
            log.warning("well again after %.0f s: %s", time.monotonic() - self._since, self._trouble)
            self._trouble = ""
            self._logged.clear()


def _in_a_line(error: RavenError) -> str:
    problem = error.problem
    return f"{problem.message}: {problem.hint}" if problem.hint else problem.message
