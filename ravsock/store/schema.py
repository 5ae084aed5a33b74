"""The tables, for SQLite and PostgreSQL alike. Changes come with a migration in `migrations/versions`.

Refs, problems and profiles are MessagePack of typed structs; times are seconds since 1970. Used by the store
alone.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()
Number = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only for INTEGER."""
LEASED = text("state = 'leased'")
COPIED = text("copy_provider IS NOT NULL")
WITH_BLOBS = text("has_blobs = 1")
DOOMED = text("doomed = 1")

tokens = Table(
    "tokens",
    metadata,
    Column("id", Number, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("name", Text, nullable=False, index=True),
    Column("created", Double, nullable=False),
    Column("revoked", Double),
    Column("quota", BigInteger),
    sqlite_autoincrement=True,
)
"""`quota`: bytes of blobs that the requester may own; NULL: what the coordinator says for all."""

coordinators = Table(
    "coordinators",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("address", Text, nullable=False),
    Column("software", String(80), nullable=False),
    Column("started", Double, nullable=False),
    Column("heard", Double, nullable=False),
    Column("draining", Integer, nullable=False, server_default="0"),
    Column("blobs", String(80), nullable=False),
)
"""The processes that serve this database. `address`: where others reach this one alone; `blobs`: which store of blobs it has."""

providers = Table(
    "providers",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("token", Number, ForeignKey("tokens.id"), nullable=False, index=True),
    Column("profile", LargeBinary, nullable=False),
    Column("first_seen", Double, nullable=False),
    Column("last_seen", Double, nullable=False),
    Column("tasks_done", Integer, nullable=False, server_default="0"),
    Column("coordinator", String(40), index=True),
    Column("graph", String(80)),
    Column("measured", LargeBinary),
)
"""`coordinator`: where it is connected, or was last, if that coordinator did not live to say that it left; NULL: nowhere.
`graph`: the only one it works for. `measured`: what was seen of its speed and line."""

graphs = Table(
    "graphs",
    metadata,
    Column("number", Number, primary_key=True),
    Column("id", String(80), nullable=False, unique=True),
    Column("owner", Number, ForeignKey("tokens.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("algorithm", Text, nullable=False),
    Column("approach", Text, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("model_sha", String(64), nullable=False),
    Column("manifest_sha", String(64), nullable=False),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("resumed", Double),
    Column("resumed_work", Double, nullable=False, server_default="0"),
    Column("finished", Double),
    Column("work_done", Double, nullable=False, server_default="0"),
    Column("steps_done", BigInteger, nullable=False, server_default="0"),
    Column("tasks_done", BigInteger, nullable=False, server_default="0"),
    Column("problem", LargeBinary),
    Column("trace", String(80)),
    sqlite_autoincrement=True,
)
"""`number` is never used again, so what is remembered of a graph by its number stays true. `trace`: the span of the
requester that asked for the run, as W3C's `traceparent`."""


def _graph() -> Column[int]:
    return Column("graph", Number, ForeignKey("graphs.number", ondelete="CASCADE"), nullable=False)


documents = Table(
    "documents",
    metadata,
    Column("graph", Number, ForeignKey("graphs.number", ondelete="CASCADE"), primary_key=True),
    Column("plan", LargeBinary, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
)
"""What is large and never changes of a graph: apart, since SQLite writes a whole row when a counter in it
changes.
"""

tasks = Table(
    "tasks",
    metadata,
    Column("id", Number, primary_key=True),
    _graph(),
    Column("path", Text, nullable=False),
    Column("unit", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("waiting_for", Integer, nullable=False),
    Column("start", BigInteger, nullable=False, server_default="0"),
    Column("stop", BigInteger),
    Column("attempt", BigInteger, nullable=False, server_default="0"),
    Column("provider", String(80)),
    Column("leased", Double),
    Column("deadline", Double),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("expiries", Integer, nullable=False, server_default="0"),
    Column("failed_on", Text, nullable=False, server_default=""),
    Column("ranks", Integer),
    Column("copy_provider", String(80)),
    Column("copy_attempt", BigInteger, nullable=False, server_default="0"),
    Column("copy_leased", Double),
    Column("copy_deadline", Double),
    Index("tasks_by_unit", "graph", "path", "unit", unique=True),
    Index("tasks_by_state", "graph", "state", "id"),
    Index("tasks_by_provider", "provider", sqlite_where=LEASED, postgresql_where=LEASED),
    Index("tasks_by_deadline", "deadline", sqlite_where=LEASED, postgresql_where=LEASED),
    Index("tasks_by_copy", "copy_provider", sqlite_where=COPIED, postgresql_where=COPIED),
    sqlite_autoincrement=True,
)
"""`ranks`: how many providers of a gang have it. `copy_…`: a second attempt, where there is a `copy_provider`; the
higher of `attempt` and `copy_attempt` only grows.
`start`: a loop's next iteration. `provider` stays after a release, until the next
lease, and is NULL once no result of the attempt is welcome. `tries`: leases of this range of iterations.
`failed_on`: one provider per failed attempt of it, separated by spaces. Ids are never used again, so a late
message cannot mean another task."""

scopes = Table(
    "scopes",
    metadata,
    _graph(),
    Column("path", Text, nullable=False),
    Column("remaining", Integer, nullable=False),
    Index("scopes_by_path", "graph", "path", unique=True),
)
"""Instances of scopes, and how many of their units are not done."""

bindings = Table(
    "bindings",
    metadata,
    _graph(),
    Column("path", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("elements", BigInteger),
    Column("has_blobs", Integer, nullable=False),
    Column("ref", LargeBinary, nullable=False),
    Index("bindings_by_place", "graph", "path", "name", "start", unique=True),
    Index("bindings_with_blobs", "graph", sqlite_where=WITH_BLOBS, postgresql_where=WITH_BLOBS),
)
"""Values: one row with `elements` NULL, or the parts of a stacked value. `ref` is a `TensorRef`."""

blobs = Table(
    "blobs",
    metadata,
    Column("sha", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("checked", Integer, nullable=False, server_default="1"),
    Column("touched", Double, nullable=False, index=True),
    Column("doomed", Integer, nullable=False, server_default="0"),
    Index("blobs_doomed", "touched", sqlite_where=DOOMED, postgresql_where=DOOMED),
)
"""`checked`: whether there is a copy whose bytes were checked against the name; `size` is that copy's. `touched`: when it
was last uploaded or used, which keeps it from being collected for a while. `doomed`: its bytes are being deleted; it is not
there any more, and cannot be stored again until its row has gone."""

blob_owners = Table(
    "blob_owners",
    metadata,
    Column("sha", String(64), ForeignKey("blobs.sha", ondelete="CASCADE"), primary_key=True),
    Column("owner", Number, ForeignKey("tokens.id"), primary_key=True, index=True),
    Column("place", Number),
    Column("size", BigInteger),
)
"""Which requesters may read a blob: they uploaded it, or a graph of theirs gave it. And which providers uploaded it, and
so may name it in a result. `place`: NULL for the copy whose bytes were checked against its name; else the token
of who uploaded the copy that this owner has, which nobody has checked: nobody else is given it;
`size` is that copy's."""

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("sha", String(64), nullable=False),
    Column("owner", Number, ForeignKey("tokens.id"), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("handle", Text, nullable=False),
    Column("touched", Double, nullable=False),
    Index("uploads_by_blob", "sha", "owner", unique=True),
)
"""Uploads in parts that are under way. `handle`: what the blob store calls it."""
