"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
LEASED = sa.text("state = 'leased'")


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("touched", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("sha"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("revoked", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tokens_name", "tokens", ["name"], unique=False)
    op.create_table(
        "blob_owners",
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("owner", NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["tokens.id"],
        ),
        sa.ForeignKeyConstraint(["sha"], ["blobs.sha"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha", "owner"),
    )
    op.create_table(
        "graphs",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("owner", NUMBER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("approach", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("model_sha", sa.String(length=64), nullable=False),
        sa.Column("manifest_sha", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("started", sa.Double(), nullable=True),
        sa.Column("resumed", sa.Double(), nullable=True),
        sa.Column("resumed_work", sa.Double(), server_default="0", nullable=False),
        sa.Column("finished", sa.Double(), nullable=True),
        sa.Column("work_done", sa.Double(), server_default="0", nullable=False),
        sa.Column("steps_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tasks_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("problem", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["owner"],
            ["tokens.id"],
        ),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_graphs_owner", "graphs", ["owner"], unique=False)
    op.create_index("ix_graphs_state", "graphs", ["state"], unique=False)
    op.create_table(
        "providers",
        sa.Column("id", sa.String(length=80), nullable=False),
        sa.Column("token", NUMBER, nullable=False),
        sa.Column("profile", sa.LargeBinary(), nullable=False),
        sa.Column("first_seen", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.Column("tasks_done", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["token"],
            ["tokens.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_providers_token", "providers", ["token"], unique=False)
    op.create_table(
        "documents",
        sa.Column("graph", NUMBER, nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["graph"], ["graphs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("graph"),
    )
    op.create_table(
        "bindings",
        sa.Column("graph", NUMBER, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("elements", sa.BigInteger(), nullable=True),
        sa.Column("has_blobs", sa.Integer(), nullable=False),
        sa.Column("ref", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["graph"], ["graphs.number"], ondelete="CASCADE"),
    )
    op.create_index("bindings_by_place", "bindings", ["graph", "path", "name", "start"], unique=True)
    op.create_table(
        "scopes",
        sa.Column("graph", NUMBER, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("remaining", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["graph"], ["graphs.number"], ondelete="CASCADE"),
    )
    op.create_index("scopes_by_path", "scopes", ["graph", "path"], unique=True)
    op.create_table(
        "tasks",
        sa.Column("id", NUMBER, nullable=False),
        sa.Column("graph", NUMBER, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("unit", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("waiting_for", sa.Integer(), nullable=False),
        sa.Column("start", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("stop", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("provider", sa.String(length=80), nullable=True),
        sa.Column("leased", sa.Double(), nullable=True),
        sa.Column("deadline", sa.Double(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("expiries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed_on", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["graph"], ["graphs.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("tasks_by_deadline", "tasks", ["deadline"], sqlite_where=LEASED, postgresql_where=LEASED)
    op.create_index("tasks_by_provider", "tasks", ["provider"], sqlite_where=LEASED, postgresql_where=LEASED)
    op.create_index("tasks_by_state", "tasks", ["graph", "state", "id"], unique=False)
    op.create_index("tasks_by_unit", "tasks", ["graph", "path", "unit"], unique=True)
