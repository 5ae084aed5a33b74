"""The engine for a database URL: its driver, its pool, and how each connection is set up. Used by `database` alone."""

from __future__ import annotations

import logging
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError as BadUrl
from sqlalchemy.exc import DisconnectionError, NoSuchModuleError

from ravop.errors import ArgumentError

CONNECTIONS = 16
"""To PostgreSQL at most: the writer, a few threads that read, and one to spare for each."""
POOL_SECONDS = 10.0
"""How long a thread waits for one of them."""
CONNECT_SECONDS = 5
LOCK_SECONDS, IDLE_SECONDS = 10, 30
"""How long a transaction waits for another one's lock; and how long it may do nothing, with what it has locked, before
PostgreSQL ends it: a coordinator that is frozen must not hold up the others."""
BUSY_SECONDS = 30
"""How long a writer waits for another one on SQLite."""

_DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}
_POSTGRESQL = {
    "connect_timeout": str(CONNECT_SECONDS),
    "fallback_application_name": "ravsock",
    "target_session_attrs": "read-write",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""Parameters of libpq, where the URL does not say otherwise. With several hosts in the URL, the one that takes changes is
chosen; a server that is gone without a word is noticed within half a minute."""
_SETTINGS = {
    "lock_timeout": f"{LOCK_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
}
"""Of each session; those in the URL's `options` come later, and win."""


def make_engine(url: str) -> sa.Engine:
    """Raises `ArgumentError` for a URL that is not one, or whose driver is missing."""
    try:
        parsed = sa.make_url(url)
        driver = _DRIVERS.get(parsed.drivername)
        if driver is None:
            raise NoSuchModuleError(f"{parsed.drivername} is not supported")
        parsed = parsed.set(drivername=driver)
        return _sqlite(parsed) if driver == "sqlite" else _postgresql(parsed)
    except (BadUrl, NoSuchModuleError, ImportError, ValueError) as error:
        missing = isinstance(error, ImportError)
        raise ArgumentError(
            "the driver of the database is not installed"
            if missing
            else "not a database URL this program can use",
            expected="sqlite:///path/to/file.db or postgresql://user:password@host/name",
            received=str(error),
            hint="pip install 'ravenverse[postgresql]'" if missing else "correct --database-url",
        ) from error


def _sqlite(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url)
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own transactions would begin too late: see _begin_sqlite
    for pragma in (
        f"busy_timeout={BUSY_SECONDS * 1000}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.info.get("begin", "BEGIN"))


def _postgresql(url: sa.URL) -> sa.Engine:
    given = dict(url.query)
    options = [f"-c {name}={value}" for name, value in _SETTINGS.items()]
    given["options"] = " ".join([*options, str(given.get("options", ""))])
    engine = sa.create_engine(
        url.set(query={**_POSTGRESQL, **given}),
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        pool_use_lifo=True,
        use_native_hstore=False,
    )
    gone: type[Exception] = engine.dialect.loaded_dbapi.OperationalError

    def check(connection: Any, _record: object, _proxy: object) -> None:
        """Before a connection of the pool is used again: has the server ended it? Asks nobody, so it costs nothing."""
        try:
            for _ in range(2):  # the server's last words, then the end
                connection.pgconn.consume_input()
        except gone as error:
            raise DisconnectionError(str(error)) from error

    sa.event.listen(engine, "checkout", check)
    logging.getLogger("sqlalchemy.pool").setLevel(
        logging.CRITICAL
    )  # whoever has a connection tells what ends it
    return engine
