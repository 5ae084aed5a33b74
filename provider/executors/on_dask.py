"""A Dask cluster: its threads are slots. The only place that knows Dask; imported where it is installed."""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import Future
from typing import Any

from distributed import Client, get_worker

from provider.executors.clusters import Capacity, unable
from provider.executors.jobs import Reply, Unable, unpack
from provider.executors.site import answer
from ravop.errors import ClusterError

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 10.0
CLOSE_SECONDS = 1.0
NOISY = ("distributed", "distributed.client", "tornado.application")
"""They log tracebacks of what is told here in words."""
NO_SCHEDULER = (OSError, TimeoutError, ValueError, TypeError, RuntimeError, MemoryError)
"""What connecting raises; the last ones where something else listens there, whose bytes Dask takes for a message."""


def connect(address: str, threads: int) -> DaskCluster:
    """To the scheduler at `address`. Raises `ClusterError`."""
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    try:
        return DaskCluster(address, threads)
    except NO_SCHEDULER as error:
        raise ClusterError(
            "the Dask scheduler does not answer",
            expected=f"a scheduler at {address}",
            received=f"{type(error).__name__}: {error}",
            hint="start one with `dask scheduler`, and give its address by --dask-scheduler",
        ) from error


class SafeClient(Client):  # type: ignore[misc]
    """Closes itself where it cannot connect: else it is tried at Python's end, which says so with a traceback."""

    def __init__(self, address: str) -> None:
        try:
            super().__init__(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except BaseException:
            with contextlib.suppress(AttributeError, *NO_SCHEDULER):
                self.close(timeout=CLOSE_SECONDS)
            raise

    def start(self, **options: Any) -> None:
        """Dask's own waits for ever where something takes the connection and says nothing."""
        self._loop_runner.start()
        self.sync(self._start, callback_timeout=2 * CONNECT_SECONDS, **options)


class DaskCluster:
    def __init__(self, address: str, threads: int) -> None:
        self._client: Any = SafeClient(address)
        self._executor: Any = self._client.get_executor(pure=False)
        self._threads = threads
        self._workers: dict[str, int] = {}
        """Threads of those that were seen, by address."""
        self._capacity = Capacity(0, None)

    def capacity(self, hello: bytes) -> Capacity:
        if self._client.status != "running":
            raise ClusterError("the connection to the Dask scheduler was lost")
        try:
            workers = self._client.sync(self._client.scheduler.ncores, callback_timeout=ANSWER_SECONDS)
            if workers != self._workers:
                self._greet([address for address in workers if address not in self._workers], hello)
                self._capacity = self._look(workers)
                self._workers = workers
        except (OSError, TimeoutError) as error:
            raise ClusterError("the Dask scheduler does not answer", received=error) from error
        return self._capacity

    def submit(self, request: bytes) -> Future[bytes]:
        future: Future[bytes] = self._executor.submit(answer_on_dask, request)
        return future

    def close(self) -> None:
        self._client.close(timeout=CONNECT_SECONDS)

    def _look(self, workers: dict[str, int]) -> Capacity:
        infos = self._client.scheduler_info(n_workers=-1)["workers"]
        slots = {address: threads // self._threads for address, threads in workers.items()}
        limits = [infos[a]["memory_limit"] // n for a, n in slots.items() if n and a in infos]
        memory = min((limit for limit in limits if limit), default=None)
        return Capacity(sum(slots.values()), memory)

    def _greet(self, addresses: list[str], hello: bytes) -> None:
        """Newcomers must be able to compute. Raises `ClusterError` for one that is not."""
        if not addresses:
            return
        engines = set()
        replies = self._client.run(answer, hello, workers=addresses, on_error="return")
        for address, reply in replies.items():
            if isinstance(reply, BaseException):
                raise ClusterError(
                    f"the Dask worker {address} cannot compute for this provider",
                    received=f"{type(reply).__name__}: {reply}",
                    hint="install the same release of ravenverse for all workers",
                )
            said = unpack(reply, Reply)
            if isinstance(said, Unable):
                raise unable(said.problem, address)
            engines.add(said.engine)
        if len(engines) > 1:
            raise ClusterError(
                "the Dask workers compute with different engines",
                expected="one",
                received=", ".join(sorted(engines)),
                hint="install the same releases for all workers",
            )


def answer_on_dask(request: bytes) -> bytes:
    """What a worker runs in one of its threads."""
    worker = get_worker()
    key = worker.get_current_task()

    def cancelled() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return answer(request, cancelled)
