"""A Redis server of a test's own, which may be killed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from processes import free_port
from redis.backoff import ConstantBackoff
from redis.retry import Retry

STARTS = Retry(ConstantBackoff(0.05), 200)


@contextmanager
def redis_server(folder: Path, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its URL and its process. It answers, and keeps nothing."""
    program = shutil.which("redis-server")
    assert program, "these tests need the program redis-server: install Redis"
    port = port or free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port, retry=STARTS) as client:
            assert client.ping()
        yield f"redis://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()
