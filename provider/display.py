"""`Display`: what a running provider shows: one live line on a terminal, lines in a log elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from provider.status import Status

LIVE_SECONDS = 0.2
PLAIN_SECONDS = 5.0
"""Between two lines of a log; what went on between is in the counts."""

log = logging.getLogger("provider")


class Display:
    """Shows a status soon after it has changed; does nothing while nothing changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Callable[[], Status] | None = None
        self._live: Live | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._shown = ""

    @contextlib.contextmanager
    def showing(self, status: Callable[[], Status]) -> Iterator[None]:
        """Show `status` as long as the block lasts."""
        self._status = status
        with contextlib.ExitStack() as stack:
            if self._console.is_terminal:
                self._live = stack.enter_context(
                    Live(console=self._console, auto_refresh=False, transient=True)
                )
            try:
                yield
            finally:
                if self._timer is not None:
                    self._timer.cancel()
                self._status = self._live = self._timer = None

    def changed(self) -> None:
        """Something may look different."""
        if self._timer is None and self._status is not None:
            seconds = PLAIN_SECONDS if self._live is None and self._shown else LIVE_SECONDS
            self._timer = asyncio.get_running_loop().call_later(seconds, self._show)

    def _show(self) -> None:
        self._timer = None
        if self._status is None:
            return
        line = line_of(self._status())
        if line == self._shown:
            return
        self._shown = line
        if self._live is None:
            log.info("%s", line)
        else:
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)


def line_of(status: Status) -> str:
    """One line: what it does, and what it has done."""
    failed = f", {status.failed} failed" if status.failed else ""
    return f"{status.text} · {status.done} done{failed}"
