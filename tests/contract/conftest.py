"""One suite, two databases: every test that takes `store_url`, `store` or `bench` runs on SQLite and on
PostgreSQL.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from databases import postgresql_server, schema
from plans import Bench

from ravsock.store import Store

T = TypeVar("T")
Fresh = Callable[[], AbstractContextManager[T]]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    with postgresql_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> Fresh[str]:
    """Opens an empty database each time it is called."""

    @contextmanager
    def sqlite() -> Iterator[str]:
        yield f"sqlite:///{tmp_path / uuid.uuid4().hex}.db"

    if request.param == "sqlite":
        return sqlite
    server = request.getfixturevalue("postgresql")
    return lambda: schema(server)


@pytest.fixture
def fresh_bench(fresh_url: Fresh[str]) -> Fresh[Bench]:
    """Opens a store with a requester and providers each time it is called: for tests that run many examples."""

    @contextmanager
    def bench() -> Iterator[Bench]:
        with fresh_url() as url:
            store = Store(url)
            store.migrate()
            try:
                yield Bench(store)
            finally:
                store.close()

    return bench


@pytest.fixture
def store_url(fresh_url: Fresh[str]) -> Iterator[str]:
    with fresh_url() as url:
        yield url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def bench(store: Store) -> Bench:
    return Bench(store)
