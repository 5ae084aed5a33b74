"""What the coordinators of one database know of each other: who lives, which providers each has, and what these hold.

On PostgreSQL any number of processes serve a database, and go by its clock. On SQLite there is one, which is told no news
and says to nobody that it lives. What follows is decided in `ravsock.server.peers`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql

from ravop.errors import VersionError
from ravop.protocol.messages import HeldTask, Profile
from ravsock.core import deadlines, states
from ravsock.store.database import MIGRATIONS
from ravsock.store.schema import coordinators, providers, tasks
from ravsock.store.times import Times
from ravsock.store.values import Attempt, ConnectedRow, CoordinatorRow, Measured, Pulse, Release

FORGET_SECONDS = 600.0
"""A coordinator that was not heard for so long has no row any more."""
NOTICE_SECONDS = 0.5
"""How soon whoever listens notices that it shall stop."""
_NOW: Any = sa.literal_column("extract(epoch FROM clock_timestamp())::float8")
_HOLDS = sa.or_(tasks.c.provider == providers.c.id, tasks.c.copy_provider == providers.c.id)
_LEASED = tasks.c.state == states.LEASED


class Coordinators(Times):
    # ── one schema for all ────────────────────────────────────────────────────────────────────────
    def migrate(self) -> None:
        """As in `Database`. Raises `VersionError` as well where coordinators live that know the present schema only."""
        with self.write() as connection:
            if (
                not self.is_sqlite
                and (older := self._older(connection))
                and (living := self._living(connection))
            ):
                raise VersionError(
                    "coordinators of an older version use this database",
                    expected=f"none, before its schema, revision {older}, is changed",
                    received=", ".join(f"{row.address} ({row.software})" for row in living[:10]),
                    hint="stop them, then start this one; their providers and graphs go on here",
                )
            super().migrate()

    def _older(self, connection: sa.Connection) -> str | None:
        """The revision of the database, if this program would change it."""
        current = MigrationContext.configure(connection).get_current_revision()
        known = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
        return current if current in known[1:] else None

    def _living(self, connection: sa.Connection) -> list[Any]:
        if not sa.inspect(connection).has_table(coordinators.name):
            return []
        living = sa.select(coordinators).where(coordinators.c.heard > _NOW - deadlines.DEAD_SECONDS)
        return list(connection.execute(living.order_by(coordinators.c.id)).all())

    # ── who lives ─────────────────────────────────────────────────────────────────────────────────
    def beat(self, coordinator_id: str, address: str, software: str, draining: bool, blobs: str) -> Pulse:
        """A coordinator lives: it is heard at this moment of the database's clock. For PostgreSQL."""
        row = {
            "id": coordinator_id, "address": address, "software": software, "draining": int(draining),
            "started": _NOW, "heard": _NOW, "blobs": blobs,
        }  # fmt: skip
        changed = ("address", "software", "draining", "heard")
        with self.write() as connection:
            connection.execute(sa.text("SET LOCAL synchronous_commit = off"))  # a lost beat does no harm
            insert = postgresql.insert(coordinators).values(row)
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["id"], set_={name: insert.excluded[name] for name in changed}
                )
            )
            connection.execute(sa.delete(coordinators).where(coordinators.c.heard < _NOW - FORGET_SECONDS))
            found = connection.execute(
                sa.select(coordinators, (_NOW - coordinators.c.heard).label("silent"), _NOW.label("now"))
                .order_by(coordinators.c.id)
            ).all()  # fmt: skip
            revision = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
        return Pulse(now=found[0].now, revision=revision, coordinators=tuple(map(_coordinator, found)))

    def forget_coordinator(self, coordinator_id: str) -> None:
        """It ends in order: from now on the others look after what its providers have."""
        with self.write() as connection:
            connection.execute(sa.delete(coordinators).where(coordinators.c.id == coordinator_id))

    # ── who is connected where ────────────────────────────────────────────────────────────────────
    def provider_left(self, provider_id: str, coordinator_id: str, held: Sequence[Release]) -> bool:
        """It is not connected to this coordinator any more, which gives back what it held. False where it has come to
        another one meanwhile, and has all of that there: then nothing changes."""
        with self.write() as connection:
            left = connection.execute(
                sa.update(providers)
                .where(providers.c.id == provider_id, providers.c.coordinator == coordinator_id)
                .values(coordinator=None)
                .returning(providers.c.id)
            ).one_or_none()
            if left is None:
                return False
            if held:
                self.release(held)
            return True

    def write_measured(self, seen: dict[str, Measured], coordinator_id: str) -> None:
        """What this coordinator has seen of its providers lately."""
        update = (
            sa.update(providers)
            .where(providers.c.id == sa.bindparam("p"), providers.c.coordinator == coordinator_id)
            .values(measured=sa.bindparam("m"))
        )
        with self.write() as connection:
            connection.execute(
                update, [{"p": name, "m": msgspec.msgpack.encode(one)} for name, one in sorted(seen.items())]
            )

    def connected(self, coordinator_ids: Collection[str]) -> list[ConnectedRow]:
        """The providers that are connected to one of these."""
        having = sa.select(sa.func.count()).where(_LEASED, _HOLDS).scalar_subquery()
        query = sa.select(providers, having.label("tasks")).where(
            providers.c.coordinator.in_(sorted(coordinator_ids))
        )
        with self.read() as connection:
            return [_connected(row) for row in connection.execute(query).all()]

    def where_is(self, task_id: int, attempt: int) -> str | None:
        """The address of the coordinator at whose provider this attempt is."""
        query = (
            sa.select(coordinators.c.address)
            .join(providers, providers.c.coordinator == coordinators.c.id)
            .join(tasks, tasks.c.provider == providers.c.id)
            .where(tasks.c.id == task_id, tasks.c.attempt == attempt, _LEASED)
        )
        with self.read() as connection:
            found: str | None = connection.execute(query).scalar_one_or_none()
            return found

    def addresses_of(self, token_id: int) -> list[str]:
        """Of the coordinators that providers of this token are connected to."""
        query = (
            sa.select(coordinators.c.address)
            .join(providers, providers.c.coordinator == coordinators.c.id)
            .where(providers.c.token == token_id)
            .distinct()
        )
        with self.read() as connection:
            return sorted(connection.execute(query).scalars())

    # ── what they hold ────────────────────────────────────────────────────────────────────────────
    def attempts_at(self, coordinator_id: str) -> tuple[frozenset[str], dict[HeldTask, str]]:
        """The providers that are connected to it, and the attempts that they have: of a gang, its first rank."""
        here = providers.c.coordinator == coordinator_id
        with self.read() as connection:
            names = connection.execute(sa.select(providers.c.id).where(here)).scalars()
            firsts = sa.select(tasks.c.id, tasks.c.attempt, tasks.c.provider).join(
                providers, providers.c.id == tasks.c.provider
            )
            copies = sa.select(tasks.c.id, tasks.c.copy_attempt, tasks.c.copy_provider).join(
                providers, providers.c.id == tasks.c.copy_provider
            )
            there = frozenset(names)
            found = [
                row for query in (firsts, copies) for row in connection.execute(query.where(_LEASED, here))
            ]
            return there, {HeldTask(task_id=task, attempt=attempt): by for task, attempt, by in found}

    def unattended(self, living: Collection[str]) -> list[Attempt]:
        """The attempts of providers that are connected to none of these coordinators."""
        away = sa.or_(providers.c.coordinator.is_(None), providers.c.coordinator.not_in(sorted(living)))
        firsts = sa.select(tasks.c.id, tasks.c.attempt, tasks.c.provider, tasks.c.ranks).join(
            providers, providers.c.id == tasks.c.provider
        )
        copies = sa.select(tasks.c.id, tasks.c.copy_attempt, tasks.c.copy_provider, tasks.c.ranks).join(
            providers, providers.c.id == tasks.c.copy_provider
        )
        with self.read() as connection:
            return [
                Attempt(task_id=task, attempt=attempt, provider_id=by, ranks=ranks)
                for query in (firsts, copies)
                for task, attempt, by, ranks in connection.execute(query.where(_LEASED, away)).all()
            ]

    def may_write(self, token_id: int) -> bool:
        """Whether a provider of this token has a task, or had one last that nobody else was given since; or may have a
        part of a gang's, whose first rank alone is written down."""
        mates = providers.alias()
        mate = sa.select(mates.c.id).where(mates.c.coordinator == providers.c.coordinator)
        has = sa.or_(
            sa.and_(tasks.c.state.in_((states.LEASED, states.READY)), _HOLDS),
            sa.and_(_LEASED, tasks.c.ranks.is_not(None), tasks.c.provider.in_(mate)),
        )
        query = sa.select(providers.c.id).where(
            providers.c.token == token_id, sa.exists(sa.select(tasks.c.id).where(has))
        )
        with self.read() as connection:
            return connection.execute(query.limit(1)).one_or_none() is not None

    # ── news ──────────────────────────────────────────────────────────────────────────────────────
    def channel(self) -> str:
        """A name for news of this database, the same for all who use it."""
        with self.read() as connection:
            place = connection.execute(sa.text("SELECT current_database(), current_schema()")).one()
        return "ravenverse_" + hashlib.sha256("/".join(place).encode()).hexdigest()[:16]

    def notify(self, channel: str, payloads: Sequence[str]) -> None:
        """Tell whoever listens. A payload has less than 8,000 bytes."""
        with self.write() as connection:
            for payload in payloads:
                connection.execute(sa.select(sa.func.pg_notify(channel, payload)))

    def listen(self, channel: str, heard: Callable[[str], None], stopped: threading.Event) -> None:
        """Call `heard` with each payload until `stopped`; first with an empty one, when it listens. Raises what the
        driver raises when the connection breaks."""
        with self._engine.connect() as pooled:
            connection: Any = pooled.connection.driver_connection
            pooled.detach()  # nobody else shall get it: it hears what is not meant for them
            connection.autocommit = True
            connection.execute(f'LISTEN "{channel}"')
            heard("")
            while not stopped.is_set():
                for notice in connection.notifies(timeout=NOTICE_SECONDS):
                    heard(notice.payload)


def _coordinator(row: Any) -> CoordinatorRow:
    return CoordinatorRow(
        coordinator_id=row.id, address=row.address, software=row.software, silent=row.silent,
        draining=bool(row.draining), blobs=row.blobs,
    )  # fmt: skip


def _connected(row: Any) -> ConnectedRow:
    measured = None if row.measured is None else msgspec.msgpack.decode(row.measured, type=Measured)
    return ConnectedRow(
        provider_id=row.id, profile=msgspec.msgpack.decode(row.profile, type=Profile),
        coordinator=row.coordinator, graph_id=row.graph, measured=measured, tasks=row.tasks,
    )  # fmt: skip
