"""What agents talk about among themselves, and what sessions at work ask of those that talk."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

# Frozen copies: the program's own types may change, this history may not.
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Add three tables."""
    _add_delegation()
    _add_conversation()
    _add_conversation_message()


def _keys(table: str, **columns: str) -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}")
        for column, target in columns.items()
    ]


def _index_open(table: str, columns: list[str], where: str) -> None:
    op.create_index(
        f"ix_{table}_open",
        table,
        columns,
        unique=False,
        sqlite_where=sa.text(where),
        postgresql_where=sa.text(where),
    )


def _add_delegation() -> None:
    op.create_table(
        "delegation",
        sa.Column("id", ID, nullable=False),
        sa.Column("agent_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("task_id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("target_agent_id", ID, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("chat_run_id", ID, nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'processing', 'completed', 'failed')",
            name=op.f("ck_delegation_state"),
        ),
        *_keys(
            "delegation",
            agent_id="agent",
            project_id="project",
            task_id="task",
            run_id="run",
            target_agent_id="agent",
            chat_run_id="run",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_delegation"),
    )
    op.create_index("ix_delegation_task_id", "delegation", ["task_id", "created_at"], unique=False)
    _index_open("delegation", ["agent_id", "project_id"], "state IN ('pending', 'processing')")


def _add_conversation() -> None:
    op.create_table(
        "conversation",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("initiator_agent_id", ID, nullable=False),
        sa.Column("participant_agent_id", ID, nullable=False),
        sa.Column("initiator_run_id", ID, nullable=False),
        sa.Column("participant_run_id", ID, nullable=True),
        sa.Column("purpose", sa.Text(), nullable=True),
        sa.Column("task_id", ID, nullable=True),
        sa.Column("delegation_id", ID, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("max_turns", sa.Integer(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("last_at", INSTANT, nullable=False),
        sa.Column("initiator_heard_at", INSTANT, nullable=True),
        sa.Column("participant_heard_at", INSTANT, nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'active', 'terminating', 'ended', 'expired')",
            name=op.f("ck_conversation_state"),
        ),
        *_keys(
            "conversation",
            project_id="project",
            initiator_agent_id="agent",
            participant_agent_id="agent",
            initiator_run_id="run",
            participant_run_id="run",
            task_id="task",
            delegation_id="delegation",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_conversation"),
    )
    for column in ("task_id", "initiator_run_id", "participant_run_id"):
        op.create_index(f"ix_conversation_{column}", "conversation", [column], unique=False)
    op.create_index(
        "ix_conversation_created_at", "conversation", ["created_at", "id"], unique=False
    )
    _index_open(
        "conversation",
        ["participant_agent_id", "project_id"],
        "state IN ('pending', 'active', 'terminating')",
    )


def _add_conversation_message() -> None:
    op.create_table(
        "conversation_message",
        sa.Column("id", ID, nullable=False),
        sa.Column("conversation_id", ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sender_agent_id", ID, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("read_at", INSTANT, nullable=True),
        *_keys("conversation_message", conversation_id="conversation", sender_agent_id="agent"),
        sa.PrimaryKeyConstraint("id", name="pk_conversation_message"),
    )
    op.create_index(
        "uq_conversation_message_number",
        "conversation_message",
        ["conversation_id", "number"],
        unique=True,
    )
