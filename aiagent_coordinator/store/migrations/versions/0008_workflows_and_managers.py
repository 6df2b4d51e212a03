"""Workflows of tasks and agents, who works for whom, and what managers wait for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"

# Frozen copies: the program's own types may change, this history may not.
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Add columns."""
    for table, name in (("agent", "hierarchy"), ("run", "duty")):
        op.add_column(table, sa.Column(name, sa.Text(), nullable=False, server_default="worker"))
    for table, name, kind in (
        ("agent", "parent_id", ID),
        ("agent", "workflow", sa.Text()),
        ("task", "workflow", sa.Text()),
        ("task", "workflow_state", DOCUMENT),
        ("task", "awaited", DOCUMENT),
        ("task", "batch_key", sa.Text()),
        ("task", "local_id", sa.Text()),
    ):
        op.add_column(table, sa.Column(name, kind, nullable=True))
