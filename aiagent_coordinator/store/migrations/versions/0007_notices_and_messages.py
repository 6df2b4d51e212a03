"""What agents are told beside answers, and what people and agents say to each other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

# Frozen copies: the program's own types may change, this history may not.
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Add two tables."""
    _add_notification()
    _add_message()


def _add_notification() -> None:
    op.create_table(
        "notification",
        sa.Column("id", ID, nullable=False),
        sa.Column("agent_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=True),
        sa.Column("purpose", sa.Text(), nullable=True),
        sa.Column("task_id", ID, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("instruction", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("read_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "kind IN ('status_change', 'interrupt', 'message', 'chat_session_notification')",
            name=op.f("ck_notification_kind"),
        ),
        sa.CheckConstraint("purpose IN ('task', 'chat')", name=op.f("ck_notification_purpose")),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_notification_agent_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_notification_project_id"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_notification_run_id"),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name="fk_notification_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_notification"),
    )
    op.create_index(
        "ix_notification_unread",
        "notification",
        ["agent_id", "project_id"],
        unique=False,
        sqlite_where=sa.text("read_at IS NULL"),
        postgresql_where=sa.text("read_at IS NULL"),
    )


def _add_message() -> None:
    op.create_table(
        "message",
        sa.Column("id", ID, nullable=False),
        sa.Column("agent_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("task_id", ID, nullable=True),
        sa.Column("run_id", ID, nullable=True),
        sa.Column("delivered_run_id", ID, nullable=True),
        sa.Column("delivered_at", INSTANT, nullable=True),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.Column("answered_at", INSTANT, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "author IN ('person', 'agent', 'system')", name=op.f("ck_message_author")
        ),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_message_agent_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_message_project_id"),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name="fk_message_task_id"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_message_run_id"),
        sa.ForeignKeyConstraint(
            ["delivered_run_id"], ["run.id"], name="fk_message_delivered_run_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_message"),
    )
    op.create_index(
        "ix_message_pair",
        "message",
        ["agent_id", "project_id", "created_at", "id"],
        unique=False,
    )
    unanswered = sa.text("answered_at IS NULL AND author = 'person'")
    op.create_index(
        "ix_message_unanswered",
        "message",
        ["agent_id", "project_id"],
        unique=False,
        sqlite_where=unanswered,
        postgresql_where=unanswered,
    )
