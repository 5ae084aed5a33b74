"""What a database says when it does not do what it was asked, in our words. Used by `database` alone."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError

from ravop.errors import RavenError, StorageFullError, UnreachableError

LOCKED = "55P03"
"""PostgreSQL's code for a lock that was waited for in vain."""
_CONFLICTS = frozenset({"40P01", "40001", "25P03", "23503", "23505", LOCKED})
"""Deadlocks and the like, and rows that another program made or deleted in the same moment."""
_FULL = ("53100", "database or disk is full", "no space left on device", "could not extend file")
FORBIDDEN = "the database does not allow its user what a coordinator does"
GRANT = (
    "GRANT USAGE, CREATE on the schema, and ALL on its tables and sequences, to the user of --database-url"
)


class ConflictError(UnreachableError):
    """The database ended the transaction for the sake of another one, or the connection was lost: trying
    again may succeed."""


class AwayError(UnreachableError):
    """PostgreSQL takes no connection or no changes, for reasons outside this program: what it was asked may be asked
    again when it is back."""


@dataclass(frozen=True)
class _Trouble:
    """`signs`: codes of SQL, or words of the message. A connection that is refused has no code."""

    signs: tuple[str, ...]
    message: str
    hint: str


_TROUBLES = (
    _Trouble(("42501", "permission denied"), FORBIDDEN, GRANT),
    _Trouble(
        ("25006", "session is read-only", "server is in hot standby", "session is not read-only"),
        "the database takes no changes: it is read-only",
        "give the primary in --database-url, or look at default_transaction_read_only",
    ),
    _Trouble(
        ("53300", "too many clients", "too many connections", "connection slots are reserved"),
        "the database has no connection left",
        "raise max_connections of PostgreSQL, or end other programs: a coordinator opens up to 16 connections",
    ),
    _Trouble(
        ("28P01", "28000", "password authentication failed", "no password supplied", "pg_hba.conf", "role \""),
        "the database does not let this user in",
        "correct user and password in --database-url, or the server's pg_hba.conf",
    ),
    _Trouble(
        ("3F000",),
        "the database has no schema to make tables in",
        "CREATE SCHEMA, or correct the search_path of --database-url",
    ),
    _Trouble(
        ("57P03", "57P01", "57P02", "starting up", "shutting down", "not yet accepting", "recovery mode"),
        "the database starts or stops",
        "try again when it runs",
    ),
    _Trouble(
        ("3D000", "database \""),
        "there is no such database",
        "make it with createdb, or correct its name in --database-url",
    ),
    _Trouble(
        ("could not translate host", "failed to resolve host", "name or service not known", "getaddrinfo"),
        "the host of the database is not known",
        "correct --database-url",
    ),
    _Trouble(
        ("invalid response to", "expected authentication request", "unexpected response", "lost synchronization"),
        "what answers there is no PostgreSQL",
        "correct host and port in --database-url",
    ),
    _Trouble(
        ("42P01", "42703"),
        "the tables of the database are not those of this program",
        "start a coordinator of this version on it once, which brings them up to date",
    ),
)  # fmt: skip


def in_our_words(error: DBAPIError) -> RavenError | DBAPIError:
    """The error to raise instead; the same one where it is a mistake of this program."""
    text = str(error.orig).strip()
    code = code_of(error)
    told = text.lower()

    def has(signs: tuple[str, ...]) -> bool:
        return code in signs or any(sign in told for sign in signs)

    if code in _CONFLICTS or error.connection_invalidated:
        return ConflictError("the database broke a transaction off", received=text)
    if has(_FULL):
        return storage_full(text)
    postgresql = hasattr(error.orig, "sqlstate")
    found = next((trouble for trouble in _TROUBLES if has(trouble.signs)), None) if postgresql else None
    if found is not None:
        return AwayError(found.message, received=text, hint=found.hint)
    if isinstance(error, OperationalError) or type(error) is DatabaseError:
        kind = AwayError if postgresql else UnreachableError
        return kind(
            "the database does not answer",
            received=text,
            hint="check --database-url, and that the server runs",
        )
    return error


def code_of(error: DBAPIError) -> str | None:
    """PostgreSQL's code of an error; None where there is none."""
    return getattr(error.orig, "sqlstate", None)


def storage_full(received: str) -> StorageFullError:
    return StorageFullError(
        "the coordinator's disk is full",
        received=received,
        hint="free space on the coordinator, or flush old graphs",
    )
