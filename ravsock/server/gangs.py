"""The gangs that run now: several providers that compute one chunk of a loop together, as one attempt of one task.

Who makes a gang is decided in `muster`; what the ranks send each other goes through `exchange`. The store knows
one lease, that of the first rank, and gets one result: all ranks' outputs together, when all have reported. If one
rank fails, leaves or is silent, the attempt is over for all, and the chunk goes back to the queue. For the event loop's
thread only; after a restart nothing of this is left, and neither are the gangs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from ravop.errors import (
    DeadlineError,
    GraphStateError,
    MessageError,
    Problem,
    RoleError,
    error_from_problem,
)
from ravop.protocol.exchange import DONE
from ravop.protocol.messages import HeldTask, OutputSpec, Report, Reported, Task, TaskFailure, TaskResult
from ravop.protocol.tensors import blobs_of
from ravsock.core.recent import Recent
from ravsock.core.tasks import check_outputs
from ravsock.core.teams import Team
from ravsock.server import clock
from ravsock.server.exchange import Exchange
from ravsock.server.gang import Gang, Key, Past
from ravsock.server.leases import RETURN_SECONDS, Leases
from ravsock.server.peers import Peers
from ravsock.server.provider import Provider
from ravsock.server.providers import Providers
from ravsock.server.writer import Writer
from ravsock.store import (
    Attempt,
    BlobStore,
    Failure,
    Identity,
    ReadyTask,
    Recall,
    Release,
    Result,
    Store,
)
from ravsock.store.values import StoredBlob

JOIN_SECONDS = 20.0
"""Time for all ranks to come to the exchange, beside that for what they must fetch first."""
LOST_SECONDS = 2.0
"""A rank that left the exchange has so long to say why, before its gang is broken off."""
DISCARDED = Reported()
V = TypeVar("V")

log = logging.getLogger(__name__)


class Gangs:
    def __init__(
        self,
        store: Store,
        writer: Writer,
        blobs: BlobStore,
        providers: Providers,
        leases: Leases,
        peers: Peers,
    ) -> None:
        self.past = Past()
        self._store = store
        self._writer = writer
        self._blobs = blobs
        self._providers = providers
        self._leases = leases
        self._peers = peers
        self._running: dict[Key, Gang] = {}
        self._over: Recent[Key, None] = Recent()

    async def start(self) -> None:
        """Give back what gangs of processes had that are gone: their exchange is lost."""
        try:
            found = await asyncio.to_thread(self._store.unattended, self._peers.attended)
            held = [attempt for attempt in found if attempt.ranks is not None]
            await self._writer.do(self._store.release, [_release(h, h.provider_id) for h in held])
        except Exception:
            log.exception("gangs of before could not be ended; their leases will")
        else:
            self._leases.wake()

    def stop(self) -> None:
        """End the exchanges. Leases stay until the next coordinator gives them back."""
        for gang in list(self._running.values()):
            self._end(gang, DISCARDED)

    def begin(self, ready: ReadyTask, team: Team, tasks: tuple[Task, ...]) -> Gang:
        """The ranks of a gang may come to the exchange; they are given their parts next."""
        exchange = Exchange(len(tasks), lambda rank, why: self._lost(gang, rank, why))
        gang = Gang(ready, team, tasks, exchange, time.monotonic())
        self._running[gang.key] = gang
        self.past.met(ready.graph_id, ready.model, team.providers)
        loop = asyncio.get_running_loop()
        gang.timer = loop.call_later(JOIN_SECONDS + 2 * team.fetching, self._late, gang)
        log.debug("task %d goes to a gang of %s", ready.task_id, ", ".join(team.providers))
        return gang

    # ── what the exchange says ────────────────────────────────────────────────────────────────────
    def has(self, task_id: int, attempt: int) -> bool:
        """Whether this attempt is made here."""
        return (task_id, attempt) in self._running

    def seat(self, task_id: int, attempt: int, rank: int, who: Identity) -> Exchange:
        """Where a rank belongs. Raises `GraphStateError` for a gang that is over, `RoleError` for a stranger."""
        gang = self._running.get((task_id, attempt))
        if gang is None:
            raise GraphStateError(
                "this gang is over, or never was", expected="a part that was assigned and not recalled",
                received=f"task {task_id}, attempt {attempt}",
            )  # fmt: skip
        name = gang.team.providers[rank] if rank < len(gang.tasks) else ""
        provider = self._providers.get(name)
        if provider is None or provider.token_id != who.token_id:
            raise RoleError("this rank is another's", expected="the rank of the part that was assigned")
        return gang.exchange

    def _late(self, gang: Gang) -> None:
        missing = [gang.team.providers[rank] for rank in gang.exchange.missing]
        if missing and not gang.over:
            self._rest(missing)
            self._leases.start(self.break_off(gang, f"{', '.join(missing)} did not come to the exchange"))

    def _lost(self, gang: Gang, rank: int, why: str) -> None:
        """A rank that failed says so over its control connection, one that is dead has lost that as well."""
        log.info("rank %d of task %d left the exchange: %s", rank, gang.held.task_id, why, extra=gang.about)
        asyncio.get_running_loop().call_later(LOST_SECONDS, self._left, gang, rank, why)

    def _left(self, gang: Gang, rank: int, why: str) -> None:
        if not gang.over and rank not in gang.results:
            self._rest([gang.team.providers[rank]])
            self._leases.start(self.break_off(gang, f"{gang.team.providers[rank]} left the exchange: {why}"))

    def _rest(self, names: Iterable[str]) -> None:
        for name in names:
            if (provider := self._providers.get(name)) is not None:
                self._leases.rest_after_failure(provider)

    # ── what members report ───────────────────────────────────────────────────────────────────────
    async def report(self, provider: Provider, message: Report) -> tuple[Report, Reported]:
        """Take in what the report says of gangs; the rest of it, and what is to be answered to this part.

        A rank's result is answered when the whole chunk is recorded, or the gang is broken off.
        """
        done, done_rest = _split(message.done, self._known)
        failed, failed_rest = _split(message.failed, self._known)
        returned, returned_rest = _split(message.returned, self._known)
        for failure in failed:
            await self._failed(provider, failure)
        for held in returned:
            if (found := self._gang(provider, held)) is not None:
                self._leases.rest(provider, RETURN_SECONDS, "after giving back its part of a gang's work")
                await self.break_off(
                    found[0], f"{provider.provider_id} gave its part back", provider.provider_id
                )
        replies = [await self._result(provider, result) for result in done]
        told = Reported(
            accepted=sum(reply.accepted for reply in replies),
            missing=tuple(sorted({sha for reply in replies for sha in reply.missing})),
        )
        rest = msgspec.structs.replace(message, done=done_rest, failed=failed_rest, returned=returned_rest)
        return rest, told

    def _known(self, held: HeldTask | TaskResult | TaskFailure) -> bool:
        key = (held.task_id, held.attempt)
        return key in self._running or key in self._over

    def _gang(self, provider: Provider, held: HeldTask | TaskResult | TaskFailure) -> tuple[Gang, int] | None:
        """The running gang of this attempt, and the provider's rank in it."""
        gang = self._running.get((held.task_id, held.attempt))
        if gang is None or provider.provider_id not in gang.team.providers:
            return None
        return gang, gang.team.providers.index(provider.provider_id)

    async def _result(self, provider: Provider, result: TaskResult) -> Reported:
        found = self._gang(provider, result)
        if found is None:
            return DISCARDED
        gang, rank = found
        problem = await asyncio.to_thread(self._wrong, gang.tasks[rank].outputs, result, provider.token_id)
        if gang.over:
            return DISCARDED
        if problem is not None:
            about = {**gang.about, "provider": provider.provider_id}
            log.warning(
                "a result of provider %s is wrong: %s", about["provider"], problem.text(), extra=about
            )
            self._leases.rest_after_failure(provider)
            await self._blame(gang, provider.provider_id, problem)
            return DISCARDED
        gang.results[rank] = result
        answer = gang.answer(rank)
        if len(gang.results) == len(gang.tasks) and not gang.committing:
            gang.committing = True
            self._leases.start(self._commit(gang))
        return await asyncio.shield(answer)

    def _wrong(self, specs: Sequence[OutputSpec], result: TaskResult, token: int) -> Problem | None:
        """On a thread; `token`: the provider's. Blobs that are not there are the store's business."""
        copies: dict[str, StoredBlob] = {}
        for blob in (blob for output in result.outputs for blob in blobs_of(output.ref)):
            found = self._store.find_blob(blob.sha, token) or self._store.find_blob(blob.sha, None)
            if found is None:
                return None
            copies[blob.sha] = found
        sizes = {sha: copy.size for sha, copy in copies.items()}
        head = self._blobs.head
        return check_outputs(specs, result.outputs, lambda blob: head(blob, copies[blob.sha].place), sizes)

    async def _commit(self, gang: Gang) -> None:
        results = [gang.results[rank] for rank in range(len(gang.tasks))]
        merged = Result(
            task_id=gang.held.task_id, attempt=gang.held.attempt, provider_id=gang.leader,
            outputs=tuple(output for result in results for output in result.outputs),
            seconds=max(result.seconds for result in results), others=gang.team.providers[1:],
        )  # fmt: skip
        try:
            (outcome,) = await self._writer.do(self._store.complete, [merged], clock.now())
        except Exception as error:
            log.exception("a gang's result could not be recorded")
            return self._ask_again(gang, error)
        gang.committing = False
        if outcome.missing and not gang.over:
            return self._ask_for(gang, set(outcome.missing))
        if not gang.over:
            self._end(gang, Reported(accepted=int(outcome.accepted)))
        if outcome.accepted:
            self._learn(gang, merged.seconds, results)
        self._leases.settle([outcome])
        return None

    def _ask_again(self, gang: Gang, error: Exception) -> None:
        """Every rank reports once more."""
        gang.committing = False
        for answer in gang.answers.values():
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # a rank whose connection is gone does not ask for it
        gang.answers.clear()

    def _ask_for(self, gang: Gang, missing: set[str]) -> None:
        """The ranks whose blobs are not there upload them and report again; the others wait."""
        for rank, result in list(gang.results.items()):
            lacking = missing & {blob.sha for output in result.outputs for blob in blobs_of(output.ref)}
            if lacking:
                del gang.results[rank]
                _settle(gang.answers.pop(rank), Reported(missing=tuple(sorted(lacking))))
                name = gang.team.providers[rank]
                if self._providers.get(name) is None:
                    self._leases.start(self.break_off(gang, f"{name} left without what it reported"))

    def _learn(self, gang: Gang, seconds: float, results: Sequence[TaskResult]) -> None:
        """The members did well; the slowest says that it computed for `seconds`."""
        for name, result in zip(gang.team.providers, results, strict=True):
            if (provider := self._providers.get(name)) is not None:
                provider.succeeded()
                provider.blobs.add(blob.sha for output in result.outputs for blob in blobs_of(output.ref))
        self.past.done(gang, seconds, time.monotonic())

    # ── their end ─────────────────────────────────────────────────────────────────────────────────
    async def _failed(self, provider: Provider, failure: TaskFailure) -> None:
        found = self._gang(provider, failure)
        if found is None:
            return None
        if failure.problem.code == DeadlineError.code:  # it is the gang that is slow, not this rank
            self.past.late(found[0], time.monotonic())
            return await self.break_off(found[0], "its lease ended", provider.provider_id)
        if (
            failure.problem.code == MessageError.code
        ):  # it heard nonsense: who tells of it is not at fault, as a rule
            why = f"{provider.provider_id} cannot read what it hears: {failure.problem.message}"
            return await self.break_off(found[0], why, provider.provider_id)
        cause = error_from_problem(failure.problem)
        name, about = provider.provider_id, {**found[0].about, "provider": provider.provider_id}
        log.info("provider %s failed its part of task %d: %s", name, failure.task_id, cause, extra=about)
        self._leases.rest_after_failure(provider)
        return await self._blame(
            found[0], provider.provider_id, failure.problem, failure.node, failure.subgraph
        )

    async def _blame(
        self, gang: Gang, name: str, problem: Problem, node: int | None = None, subgraph: str | None = None
    ) -> None:
        """The attempt failed at one of them."""
        self._dissolve(gang, name)
        failure = Failure(
            task_id=gang.held.task_id, attempt=gang.held.attempt, provider_id=gang.leader, problem=problem,
            node=node, subgraph=subgraph, blame=name,
        )  # fmt: skip
        self._leases.settle(await self._writer.do(self._store.fail, [failure], clock.now()))

    async def break_off(self, gang: Gang, why: str, but: str = "") -> None:
        """Nobody is to blame: the chunk goes back to the queue. `but` knows already."""
        if gang.over or gang.committing:
            return
        log.info("the gang of task %d is broken off: %s", gang.held.task_id, why, extra=gang.about)
        self._dissolve(gang, but)
        await self._writer.do(self._store.release, [_release(gang.held, gang.leader)])
        self._leases.wake()

    async def without(self, provider_id: str, tasks: Iterable[HeldTask]) -> list[HeldTask]:
        """Break off the gangs among attempts that a provider gives back or has lost; the other attempts."""
        others = []
        for held in tasks:
            gang = self._running.get((held.task_id, held.attempt))
            if gang is None or provider_id not in gang.team.providers:
                others.append(held)
            elif gang.team.providers.index(provider_id) not in gang.results:  # who has reported may go
                await self.break_off(gang, f"{provider_id} does not go on", provider_id)
        return others

    def spread(self, recalls: Iterable[Recall]) -> list[Recall]:
        """The same recalls, those of a gang for all its members: the store has ended it."""
        told: list[Recall] = []
        for recall in recalls:
            gang = self._running.get((recall.task.task_id, recall.task.attempt))
            names = (recall.provider_id,) if gang is None else gang.team.providers
            told += [Recall(provider_id=name, task=recall.task) for name in names]
            if gang is not None:
                if gang.tasks[0].lease_seconds <= time.monotonic() - gang.since:
                    self.past.late(gang, time.monotonic())
                self._end(gang, DISCARDED)
        return told

    def _dissolve(self, gang: Gang, but: str) -> None:
        self._end(gang, DISCARDED)
        others = [name for name in gang.team.providers if name != but]
        self._leases.recall([Recall(provider_id=name, task=gang.held) for name in others])

    def _end(self, gang: Gang, told: Reported) -> None:
        """At once: nothing of the attempt is taken in any more."""
        gang.over = True
        self._running.pop(gang.key, None)
        self._over[gang.key] = None
        if gang.timer is not None:
            gang.timer.cancel()
        gang.exchange.close(DONE) if told.accepted else gang.exchange.close()
        for answer in gang.answers.values():
            _settle(answer, told)
        for name in gang.team.providers:
            self._leases.forget(name, [gang.held])


def _release(held: Attempt | HeldTask, provider_id: str) -> Release:
    return Release(task_id=held.task_id, attempt=held.attempt, provider_id=provider_id)


def _split(values: tuple[V, ...], wanted: Callable[[V], bool]) -> tuple[tuple[V, ...], tuple[V, ...]]:
    """Those that are wanted, and the others."""
    return tuple(v for v in values if wanted(v)), tuple(v for v in values if not wanted(v))


def _settle(answer: asyncio.Future[Reported], told: Reported) -> None:
    if not answer.done():
        answer.set_result(told)
