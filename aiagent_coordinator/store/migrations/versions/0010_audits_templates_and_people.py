"""Audits with what they lock, tasks made from templates, people among the agents and their folders."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"

# Frozen copies: the program's own types may change, this history may not.
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)
INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Add columns and tables."""
    op.add_column("agent", sa.Column("kind", sa.Text(), nullable=False, server_default="program"))
    op.add_column("task", sa.Column("audit_firing_id", ID, nullable=True))
    op.add_column(
        "task", sa.Column("is_locked", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    _index_some(
        "ix_task_audit_firing_id", "task", ["audit_firing_id"], "audit_firing_id IS NOT NULL"
    )
    op.create_table(
        "working_directory",
        sa.Column("agent_id", ID, sa.ForeignKey("agent.id", name="fk_working_directory_agent_id")),
        sa.Column(
            "project_id", ID, sa.ForeignKey("project.id", name="fk_working_directory_project_id")
        ),
        sa.Column("path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "project_id", name="pk_working_directory"),
    )
    op.create_table(
        "audit",
        sa.Column("id", ID),
        sa.Column(
            "project_id",
            ID,
            sa.ForeignKey("project.id", name="fk_audit_project_id"),
            nullable=False,
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("definition", DOCUMENT, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "status IN ('active', 'inactive', 'suspended')", name=op.f("ck_audit_status")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("uq_audit_name", "audit", ["project_id", "name"], unique=True)
    op.create_table(
        "audit_firing",
        sa.Column("id", ID),
        sa.Column(
            "audit_id",
            ID,
            sa.ForeignKey("audit.id", name="fk_audit_firing_audit_id"),
            nullable=False,
        ),
        sa.Column("rule", sa.Integer(), nullable=False),
        sa.Column(
            "task_id", ID, sa.ForeignKey("task.id", name="fk_audit_firing_task_id"), nullable=False
        ),
        sa.Column("task_version", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_firing"),
    )
    op.create_index(
        "uq_audit_firing_cause",
        "audit_firing",
        ["task_id", "task_version", "audit_id", "rule"],
        unique=True,
    )
    op.create_table(
        "audit_lock",
        sa.Column(
            "firing_id", ID, sa.ForeignKey("audit_firing.id", name="fk_audit_lock_firing_id")
        ),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_id", ID, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("released_at", INSTANT, nullable=True),
        sa.Column("released_by", sa.Text(), nullable=True),
        sa.CheckConstraint("subject IN ('task', 'agent')", name=op.f("ck_audit_lock_subject")),
        sa.PrimaryKeyConstraint("firing_id", "subject", name="pk_audit_lock"),
    )
    _index_some(
        "ix_audit_lock_open", "audit_lock", ["subject", "subject_id"], "released_at IS NULL"
    )
    op.create_table(
        "template_run",
        sa.Column("project_id", ID, sa.ForeignKey("project.id", name="fk_template_run_project_id")),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("template", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("tasks", DOCUMENT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "key", name="pk_template_run"),
    )


def _index_some(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        name,
        table,
        columns,
        unique=False,
        sqlite_where=condition,
        postgresql_where=condition,
    )
