"""What a report tells of its provider: how fast it is, what it has, whether it must rest. Called by `work` when the store has
decided what counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from ravop.errors import error_from_problem
from ravop.protocol.messages import HeldTask, Report, TaskFailure, TaskResult
from ravop.protocol.tensors import blobs_of
from ravsock.core import deadlines
from ravsock.core.history import History, Run
from ravsock.server.leases import RETURN_SECONDS, Leases
from ravsock.server.metrics import Metrics
from ravsock.server.provider import Provider
from ravsock.store import Outcome

log = logging.getLogger(__name__)


class Lessons:
    """For the event loop's thread only."""

    def __init__(self, leases: Leases, history: History, metrics: Metrics) -> None:
        self._leases = leases
        self._history = history
        self._metrics = metrics

    def note(self, provider: Provider, message: Report, outcomes: Sequence[Outcome]) -> None:
        """A report was taken in. `outcomes`: of its results, then of its failures."""
        now = time.monotonic()
        if message.failed and any(provider.holds(f.task_id, f.attempt) for f in message.failed):
            self._leases.rest_after_failure(provider)
        elif message.returned and not message.failed:
            self._leases.rest(provider, RETURN_SECONDS, "after handing a task back")
        for failure in message.failed:
            problem = error_from_problem(failure.problem)
            about = _about(provider, failure)
            name, task = provider.provider_id, failure.task_id
            log.info("provider %s failed task %d: %s", name, task, problem, extra=about)
        good: list[tuple[TaskResult, Outcome]] = []
        for result, outcome in zip(message.done, outcomes, strict=False):
            if outcome.accepted:
                provider.succeeded()
                good.append((result, outcome))
            elif outcome.problem is not None:
                why = outcome.problem.text()
                about = _about(provider, result)
                log.warning("a result of provider %s is wrong: %s", about["provider"], why, extra=about)
                self._leases.rest_after_failure(provider)
        given = [output.ref for result, _ in good for output in result.outputs]
        provider.blobs.add(blob.sha for ref in given for blob in blobs_of(ref))
        self._learn(provider, good, now)
        settled: list[TaskResult | TaskFailure | HeldTask] = [
            *message.done,
            *message.failed,
            *message.returned,
        ]
        self._leases.forget(provider.provider_id, settled)
        provider.reported = now
        self._leases.settle(outcomes)

    def _learn(self, provider: Provider, good: Sequence[tuple[TaskResult, Outcome]], now: float) -> None:
        """How fast the accepted results of a batch were computed."""
        runs, batch = [], None
        for result, outcome in good:
            held = provider.held.get(result.task_id)
            if held is None or held.attempt != result.attempt:
                continue
            batch = held.batch
            runs.append(
                Run(
                    model=outcome.model,
                    effort=deadlines.effort(
                        outcome.flops, held.ready.seconds_overhead if held.ready else 0.0
                    ),
                    iterations=outcome.iterations,
                    seconds=result.seconds,
                    expected=held.estimate,
                )
            )
        if batch is not None:
            self._metrics.lease_seconds.observe(now - batch.since)
            began = max(batch.since, provider.reported) if provider.profile.slots == 1 else batch.since
            self._history.learn(provider.provider_id, runs, now - began, batch.moving)


def _about(provider: Provider, end: TaskResult | TaskFailure) -> dict[str, Any]:
    """What a log line about an attempt's end tells."""
    held = provider.held.get(end.task_id)
    graph = {} if held is None else {"graph": held.batch.graph_id}
    return {"provider": provider.provider_id, "task": end.task_id, "attempt": end.attempt, **graph}
