"""Dependencies between tasks, questions of agents, evidence, and what is made by command."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

# Frozen copies: the program's own types may change, this history may not.
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
_OPEN = sa.text("answered_at IS NULL AND closed_at IS NULL")


def upgrade() -> None:
    """Add two tables and five columns."""
    for table in ("agent", "project"):
        op.add_column(table, sa.Column("origin", sa.Text(), nullable=False, server_default="file"))
    op.add_column("run", sa.Column("evidence", DOCUMENT, nullable=True))
    op.add_column("run", sa.Column("missing_evidence", DOCUMENT, nullable=True))
    op.add_column(
        "run", sa.Column("report_refusals", sa.Integer(), nullable=False, server_default="0")
    )
    op.create_table(
        "dependency",
        sa.Column("task_id", ID, nullable=False),
        sa.Column("depends_on", ID, nullable=False),
        sa.ForeignKeyConstraint(["depends_on"], ["task.id"], name="fk_dependency_depends_on"),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name="fk_dependency_task_id"),
        sa.PrimaryKeyConstraint("task_id", "depends_on", name="pk_dependency"),
    )
    op.create_index("ix_dependency_depends_on", "dependency", ["depends_on"], unique=False)
    op.create_table(
        "question",
        sa.Column("id", ID, nullable=False),
        sa.Column("task_id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("options", DOCUMENT, nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", INSTANT, nullable=False),
        sa.Column("hold_until", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("pending_at", INSTANT, nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("answered_by", sa.Text(), nullable=True),
        sa.Column("answered_at", INSTANT, nullable=True),
        sa.Column("closed_at", INSTANT, nullable=True),
        sa.Column("closed_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_question_run_id"),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name="fk_question_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_question"),
        sa.CheckConstraint(
            "(answer IS NOT NULL) = (answered_at IS NOT NULL)",
            name=op.f("ck_question_answer_has_time"),
        ),
    )
    op.create_index(
        "uq_question_open",
        "question",
        ["task_id"],
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
    op.create_index("ix_question_task_id", "question", ["task_id", "asked_at"], unique=False)
