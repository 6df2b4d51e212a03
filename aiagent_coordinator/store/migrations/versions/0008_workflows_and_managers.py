"""Workflows, who works for whom, what managers wait for, and whose word a task needs."""

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
        ("task", "approval", sa.Text()),
        ("task", "review_by", sa.Text()),
        ("task", "feedback", DOCUMENT),
        ("task", "reviews_id", ID),
    ):
        op.add_column(table, sa.Column(name, kind, nullable=True))
    op.add_column(
        "task", sa.Column("review_rounds", sa.Integer(), nullable=False, server_default="0")
    )
    for name, columns, where in (
        ("ix_task_awaiting", ["agent_id", "project_id"], "wait_reason = 'subtasks'"),
        ("ix_task_reviews_id", ["reviews_id"], "reviews_id IS NOT NULL"),
    ):
        op.create_index(
            name,
            "task",
            columns,
            unique=False,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )
