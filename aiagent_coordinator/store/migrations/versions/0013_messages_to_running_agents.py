"""Messages to agents while they work, what programs take in meanwhile, and who is asked for permission."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"

# Frozen copies: the program's own types may change, this history may not.
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)
INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Add columns and a table."""
    op.add_column("agent", sa.Column("mode", sa.Text(), nullable=True))
    op.add_column("agent", sa.Column("permissions", DOCUMENT, nullable=True))
    op.add_column("run", sa.Column("listens", sa.Text(), nullable=True))
    op.add_column(
        "question", sa.Column("kind", sa.Text(), nullable=False, server_default="question")
    )
    op.create_table(
        "tell",
        sa.Column("id", ID),
        sa.Column("task_id", ID, sa.ForeignKey("task.id", name="fk_tell_task_id"), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("interrupts", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("run_id", ID, sa.ForeignKey("run.id", name="fk_tell_run_id"), nullable=True),
        sa.Column("way", sa.Text(), nullable=True),
        sa.Column(
            "notice_id",
            ID,
            sa.ForeignKey("notification.id", name="fk_tell_notice_id"),
            nullable=True,
        ),
        sa.Column("delivered_at", INSTANT, nullable=True),
        sa.CheckConstraint("way IN ('turn', 'call', 'start')", name=op.f("ck_tell_way")),
        sa.PrimaryKeyConstraint("id", name="pk_tell"),
    )
    op.create_index("ix_tell_task_id", "tell", ["task_id", "created_at", "id"])
    op.create_index(
        "ix_tell_unheard",
        "tell",
        ["run_id"],
        sqlite_where=sa.text("delivered_at IS NULL"),
        postgresql_where=sa.text("delivered_at IS NULL"),
    )
