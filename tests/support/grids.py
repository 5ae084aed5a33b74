"""Dask clusters for tests: a scheduler and workers as processes of a `Lab`, on the same port each time."""

from __future__ import annotations

import re

from processes import Lab, Process, free_port


class Grid:
    """`dask scheduler` and `dask worker`, as people start them."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._port = free_port()
        self.address = f"tcp://127.0.0.1:{self._port}"

    def scheduler(self) -> Process:
        place = ["--host", "127.0.0.1", "--port", str(self._port), "--no-dashboard"]
        process = self._lab.module("dask", "scheduler", *place)
        process.wait_for(r"Scheduler at: +" + re.escape(self.address))
        return process

    def worker(self, threads: int) -> Process:
        """Has started to compute when this returns. Without a nanny: whoever is killed stays dead."""
        limits = ["--nthreads", str(threads), "--memory-limit", "2GiB", "--no-nanny", "--no-dashboard"]
        place = ["--host", "127.0.0.1", "--local-directory", str(self._lab.folder)]
        process = self._lab.module("dask", "worker", self.address, *limits, *place)
        process.wait_for("Registered to")
        return process
