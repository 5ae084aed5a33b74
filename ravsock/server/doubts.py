"""Asks a second provider about results that hold NaN; remembers which, for as long as this process lives.

The decision is in `ravsock.core.doubts`. For the event loop's thread only.
"""

from __future__ import annotations

import logging

import msgspec

from ravop.protocol.messages import HeldTask, Report, TaskResult
from ravsock.core import doubts
from ravsock.core.doubts import Verdict
from ravsock.core.recent import Recent
from ravsock.server.leases import Leases
from ravsock.server.provider import Provider
from ravsock.server.providers import Providers

ASIDE_SECONDS = 5.0
"""The provider with the NaN gets no work for so long, so that another gets the task."""

log = logging.getLogger(__name__)


class Doubts:
    def __init__(self, providers: Providers, leases: Leases) -> None:
        self._providers = providers
        self._leases = leases
        self._genuine: Recent[str, None] = Recent()
        """Graphs that give NaN."""
        self._doubted: Recent[int, tuple[str, int]] = Recent()
        """By task: whose result was not accepted, of which attempt."""

    def sift(self, provider: Provider, report: Report) -> tuple[Report, tuple[HeldTask, ...]]:
        """The report without results that another provider shall compute too, and their attempts, to be released."""
        again = {result.task_id for result in report.done if self._doubts(provider, result)}
        if not again:
            return report, ()
        back = tuple(
            HeldTask(task_id=r.task_id, attempt=r.attempt) for r in report.done if r.task_id in again
        )
        self._leases.forget(provider.provider_id, back)
        self._leases.rest(provider, ASIDE_SECONDS, "while another computes what gave NaN")
        done = tuple(result for result in report.done if result.task_id not in again)
        return msgspec.structs.replace(report, done=done), back

    def _doubts(self, provider: Provider, result: TaskResult) -> bool:
        name, before = provider.provider_id, self._doubted.get(result.task_id)
        if before == (name, result.attempt):  # the report was sent again
            return True
        held = provider.held.get(result.task_id)
        if held is None or held.attempt != result.attempt or held.batch.graph_id in self._genuine:
            return False
        graph_id, nan = held.batch.graph_id, doubts.holds_nan(result.outputs)
        if not nan and before is None:
            return False
        memory = held.ready.peak_memory if held.ready else 0
        whose = before[0] if before else None
        verdict = doubts.judge(nan, name, whose, nan and self._another(provider, graph_id, memory))
        self._doubted.pop(result.task_id)
        if verdict is Verdict.DOUBTED:
            task, about = result.task_id, {"graph": graph_id, "task": result.task_id, "provider": name}
            log.info("task %d gave NaN at provider %s; another shall compute it too", task, name, extra=about)
            self._doubted[result.task_id] = (name, result.attempt)
        elif verdict is Verdict.GENUINE:
            self._genuine[graph_id] = None
        elif verdict is Verdict.REFUTED and whose is not None:
            about = {"graph": graph_id, "task": result.task_id, "provider": whose}
            log.warning("provider %s gave NaN where %s gives none", whose, name, extra=about)
            if (wrong := self._providers.get(whose)) is not None:
                self._leases.rest_after_failure(wrong)
        return verdict is Verdict.DOUBTED

    def _another(self, provider: Provider, graph_id: str, memory: int) -> bool:
        return any(
            other is not provider
            and other.profile.memory >= memory
            and other.graph_id in (None, graph_id)
            and not other.resting(provider.heard)
            for other in self._providers
        )
