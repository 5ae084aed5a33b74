"""Shared by all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ravop.graph.graph import set_current_graph

if TYPE_CHECKING:
    from buckets import S3Server

ENVIRONMENT = (
    "RAVENVERSE_URL", "RAVENVERSE_TOKEN", "RAVENVERSE_HOME", "RAVENVERSE_S3_ENDPOINT", "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees the developer's coordinator, or the graph that another test left."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    yield
    set_current_graph(None)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A store with an S3 interface, for all tests of a process."""
    from buckets import s3_server

    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, and the credentials for it in the environment."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return s3.bucket()
