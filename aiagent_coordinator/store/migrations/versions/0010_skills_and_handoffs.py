"""Skills that agents are given, and what agents leave each other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

# Frozen copies: the program's own types may change, this history may not.
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Add four tables."""
    _add_skill()
    _add_agent_skill()
    _add_handoff()


def _add_skill() -> None:
    op.create_table(
        "skill_archive",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_skill_archive"),
    )
    op.create_table(
        "skill",
        sa.Column("id", ID, nullable=False),
        sa.Column("directory_name", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("unpacked_size", sa.Integer(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["skill_archive.sha256"], name="fk_skill_sha256"),
        sa.PrimaryKeyConstraint("id", name="pk_skill"),
    )
    op.create_index("uq_skill_directory_name", "skill", ["directory_name"], unique=True)
    op.create_index("ix_skill_sha256", "skill", ["sha256"], unique=False)


def _add_agent_skill() -> None:
    op.create_table(
        "agent_skill",
        sa.Column("agent_id", ID, nullable=False),
        sa.Column("skill_id", ID, nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_agent_skill_agent_id"),
        sa.ForeignKeyConstraint(["skill_id"], ["skill.id"], name="fk_agent_skill_skill_id"),
        sa.PrimaryKeyConstraint("agent_id", "skill_id", name="pk_agent_skill"),
    )
    op.create_index("ix_agent_skill_skill_id", "agent_skill", ["skill_id"], unique=False)


def _add_handoff() -> None:
    op.create_table(
        "handoff",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("task_id", ID, nullable=False),
        sa.Column("from_agent_id", ID, nullable=False),
        sa.Column("from_run_id", ID, nullable=False),
        sa.Column("to_agent_id", ID, nullable=True),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=True),
        sa.Column("recommendations", sa.Text(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("accepted_at", INSTANT, nullable=True),
        sa.Column("accepted_by", ID, nullable=True),
        sa.Column("accepted_run_id", ID, nullable=True),
        sa.CheckConstraint(
            "(accepted_at IS NULL) = (accepted_by IS NULL)",
            name=op.f("ck_handoff_accepted_by_somebody"),
        ),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_handoff_project_id"),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name="fk_handoff_task_id"),
        sa.ForeignKeyConstraint(["from_agent_id"], ["agent.id"], name="fk_handoff_from_agent_id"),
        sa.ForeignKeyConstraint(["from_run_id"], ["run.id"], name="fk_handoff_from_run_id"),
        sa.ForeignKeyConstraint(["to_agent_id"], ["agent.id"], name="fk_handoff_to_agent_id"),
        sa.ForeignKeyConstraint(["accepted_by"], ["agent.id"], name="fk_handoff_accepted_by"),
        sa.ForeignKeyConstraint(["accepted_run_id"], ["run.id"], name="fk_handoff_accepted_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_handoff"),
    )
    op.create_index("ix_handoff_task_id", "handoff", ["task_id", "created_at", "id"], unique=False)
    op.create_index(
        "ix_handoff_pending",
        "handoff",
        ["project_id", "to_agent_id"],
        unique=False,
        sqlite_where=sa.text("accepted_at IS NULL"),
        postgresql_where=sa.text("accepted_at IS NULL"),
    )
