"""Tasks that several providers run: gangs and second attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COPIED = sa.text("copy_provider IS NOT NULL")


def upgrade() -> None:
    op.add_column("tasks", sa.Column("ranks", sa.Integer(), nullable=True))
    op.add_column("tasks", sa.Column("copy_provider", sa.String(length=80), nullable=True))
    op.add_column("tasks", sa.Column("copy_attempt", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("tasks", sa.Column("copy_leased", sa.Double(), nullable=True))
    op.add_column("tasks", sa.Column("copy_deadline", sa.Double(), nullable=True))
    op.create_index("tasks_by_copy", "tasks", ["copy_provider"], sqlite_where=COPIED, postgresql_where=COPIED)
