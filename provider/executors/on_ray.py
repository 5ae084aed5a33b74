"""A Ray cluster: its CPUs are slots. The only place that knows Ray; imported where it is installed."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import ray
from ray.exceptions import RayError

from provider.executors.clusters import Capacity
from provider.executors.site import answer
from ravop.errors import ClusterError


def connect(address: str, threads: int) -> RayCluster:
    """To the head at `address`. Raises `ClusterError`."""
    try:
        return RayCluster(address, threads)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ClusterError(
            "the Ray cluster does not answer",
            expected=f"a head at {address}",
            received=f"{type(error).__name__}: {error}",
            hint="start one with `ray start --head`, and give its address by --ray-address",
        ) from error


class RayCluster:
    def __init__(self, address: str, threads: int) -> None:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
        self._answer: Any = ray.remote(num_cpus=threads)(answer_on_ray)
        self._threads = threads

    def capacity(self, hello: bytes) -> Capacity:
        """Workers are processes that come and go: they are greeted with each job."""
        try:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        except (OSError, RuntimeError, RayError) as error:
            raise ClusterError("the Ray cluster does not answer", received=error) from error
        slots = [(int(node.get("CPU", 0)) // self._threads, int(node.get("memory", 0))) for node in nodes]
        memory = min((memory // count for count, memory in slots if count and memory), default=None)
        return Capacity(sum(count for count, _ in slots), memory)

    def submit(self, request: bytes) -> Future[bytes]:
        job = self._answer.remote(request)
        future: Future[bytes] = job.future()
        future.add_done_callback(lambda done: ray.cancel(job) if done.cancelled() else None)
        return future

    def close(self) -> None:
        ray.shutdown()


def answer_on_ray(request: bytes) -> bytes:
    """What a worker process runs. Ray interrupts it when it is cancelled."""
    return answer(request)
