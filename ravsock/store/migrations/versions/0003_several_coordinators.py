"""Several coordinators on one database, blobs in a store of their own, quotas, and where a run was asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WITH_BLOBS = sa.text("has_blobs = 1")
DOOMED = sa.text("doomed = 1")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "coordinators",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("software", sa.String(length=80), nullable=False),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("heard", sa.Double(), nullable=False),
        sa.Column("draining", sa.Integer(), server_default="0", nullable=False),
        sa.Column("blobs", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("providers", sa.Column("coordinator", sa.String(length=40), nullable=True))
    op.add_column("providers", sa.Column("graph", sa.String(length=80), nullable=True))
    op.add_column("providers", sa.Column("measured", sa.LargeBinary(), nullable=True))
    op.create_index("ix_providers_coordinator", "providers", ["coordinator"], unique=False)
    op.add_column("tokens", sa.Column("quota", sa.BigInteger(), nullable=True))
    op.add_column("graphs", sa.Column("trace", sa.String(length=80), nullable=True))
    op.add_column("blobs", sa.Column("checked", sa.Integer(), server_default="1", nullable=False))
    op.add_column("blobs", sa.Column("doomed", sa.Integer(), server_default="0", nullable=False))
    op.create_index("ix_blobs_touched", "blobs", ["touched"], unique=False)
    op.create_index("blobs_doomed", "blobs", ["touched"], sqlite_where=DOOMED, postgresql_where=DOOMED)
    op.create_index(
        "bindings_with_blobs", "bindings", ["graph"], sqlite_where=WITH_BLOBS, postgresql_where=WITH_BLOBS
    )
    op.add_column("blob_owners", sa.Column("place", NUMBER, nullable=True))
    op.add_column("blob_owners", sa.Column("size", sa.BigInteger(), nullable=True))
    op.create_index("ix_blob_owners_owner", "blob_owners", ["owner"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("owner", NUMBER, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=False),
        sa.Column("touched", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["tokens.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("uploads_by_blob", "uploads", ["sha", "owner"], unique=True)
