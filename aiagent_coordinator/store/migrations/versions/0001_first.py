"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

# Frozen copies: the program's own types may change, this history may not.
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table and key."""
    op.create_table(
        "agent",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("approval", sa.Text(), nullable=False),
        sa.Column("max_concurrent", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("declared", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agent"),
        sa.CheckConstraint(
            "approval IN ('ask', 'edits', 'bypass')", name=op.f("ck_agent_approval")
        ),
    )
    op.create_table(
        "coordinator",
        sa.Column("id", ID, nullable=False),
        sa.Column("host_id", sa.Text(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", INSTANT, nullable=False),
        sa.Column("last_seen", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_coordinator"),
    )
    op.create_table(
        "event",
        sa.Column("seq", SEQUENCE, nullable=False, autoincrement=False),
        sa.Column("ts", INSTANT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("project_id", ID, nullable=True),
        sa.Column("task_id", ID, nullable=True),
        sa.Column("run_id", ID, nullable=True),
        sa.Column("agent_id", ID, nullable=True),
        sa.Column("data", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_event"),
    )
    op.create_index("ix_event_task_id", "event", ["task_id", "seq"], unique=False)
    op.create_table(
        "project",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("base_ref", sa.Text(), nullable=True),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("allow_dirty", sa.Boolean(), nullable=False),
        sa.Column("checks", DOCUMENT, nullable=False),
        sa.Column("max_concurrent", sa.Integer(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("declared", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_project"),
        sa.CheckConstraint(
            "status IN ('active', 'paused', 'archived')", name=op.f("ck_project_status")
        ),
        sa.CheckConstraint(
            "workspace IN ('worktree', 'clone', 'directory', 'scratch')",
            name=op.f("ck_project_workspace"),
        ),
    )
    op.create_table(
        "assignment",
        sa.Column("agent_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "project_id", name="pk_assignment"),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_assignment_agent_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_assignment_project_id"),
    )
    op.create_table(
        "task",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("agent_id", ID, nullable=True),
        sa.Column("parent_id", ID, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("acceptance", DOCUMENT, nullable=False),
        sa.Column("checks", DOCUMENT, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("wait_reason", sa.Text(), nullable=True),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("infra_requeues", sa.Integer(), nullable=False),
        sa.Column("not_before", INSTANT, nullable=True),
        sa.Column("handoff", sa.Text(), nullable=True),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("result", DOCUMENT, nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT, nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_task"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_task_project_id"),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_task_agent_id"),
        sa.ForeignKeyConstraint(["parent_id"], ["task.id"], name="fk_task_parent_id"),
        sa.CheckConstraint(
            "kind IN ('work', 'step', 'script', 'fix', 'reflection', 'answer')",
            name=op.f("ck_task_kind"),
        ),
        sa.CheckConstraint(
            "wait_reason IN ('input', 'subtasks', 'auth', 'review', 'blocked')",
            name=op.f("ck_task_wait_reason"),
        ),
        sa.CheckConstraint(
            "(wait_reason IS NOT NULL) = (status = 'waiting')",
            name=op.f("ck_task_waits_for_something"),
        ),
        sa.CheckConstraint(
            "status IN ('backlog', 'blocked', 'queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_task_status"),
        ),
    )
    op.create_index("ix_task_created_at", "task", ["created_at", "id"], unique=False)
    op.create_index("ix_task_parent_id", "task", ["parent_id"], unique=False)
    op.create_index(
        "ix_task_queue",
        "task",
        ["project_id", "agent_id"],
        unique=False,
        sqlite_where=sa.text("status = 'queued'"),
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_table(
        "run",
        sa.Column("id", ID, nullable=False),
        sa.Column("task_id", ID, nullable=True),
        sa.Column("agent_id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("verification", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("coordinator_id", ID, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("lease_until", INSTANT, nullable=False),
        sa.Column("token_sha256", sa.Text(), nullable=True),
        sa.Column("shim", DOCUMENT, nullable=True),
        sa.Column("host_id", sa.Text(), nullable=True),
        sa.Column("workspace", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("base_commit", sa.Text(), nullable=True),
        sa.Column("sealed_commit", sa.Text(), nullable=True),
        sa.Column("pushed", sa.Boolean(), nullable=True),
        sa.Column("log_path", sa.Text(), nullable=True),
        sa.Column("log", DOCUMENT, nullable=True),
        sa.Column("argv_masked", DOCUMENT, nullable=True),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("activity", sa.Text(), nullable=True),
        sa.Column("provider_session_id", sa.Text(), nullable=True),
        sa.Column("usage", DOCUMENT, nullable=True),
        sa.Column("checks", DOCUMENT, nullable=True),
        sa.Column("hello_at", INSTANT, nullable=True),
        sa.Column("authenticated_at", INSTANT, nullable=True),
        sa.Column("reported_result", sa.Text(), nullable=True),
        sa.Column("reported_summary", sa.Text(), nullable=True),
        sa.Column("reported_at", INSTANT, nullable=True),
        sa.Column("stop_reason", sa.Text(), nullable=True),
        sa.Column("stop_requested_at", INSTANT, nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("cpu_seconds", sa.Float(), nullable=True),
        sa.Column("peak_rss", sa.BigInteger(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT, nullable=True),
        sa.Column("ended_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name="fk_run_task_id"),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_run_agent_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_run_project_id"),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'failed', 'verify_failed', 'suspended', 'cancelled', 'stopped', 'lost', 'not_started')",
            name=op.f("ck_run_outcome"),
        ),
        sa.CheckConstraint(
            "verification IN ('verified', 'not_verified', 'refuted')",
            name=op.f("ck_run_verification"),
        ),
        sa.CheckConstraint(
            "phase IN ('starting', 'running', 'stopping', 'finishing', 'ended')",
            name=op.f("ck_run_phase"),
        ),
        sa.CheckConstraint("purpose IN ('task', 'chat')", name=op.f("ck_run_purpose")),
        sa.CheckConstraint(
            "(outcome IS NOT NULL) = (phase = 'ended')", name=op.f("ck_run_outcome_at_the_end")
        ),
        sa.CheckConstraint(
            "purpose <> 'task' OR task_id IS NOT NULL", name=op.f("ck_run_task_of_task_runs")
        ),
    )
    op.create_index("ix_run_created_at", "run", ["created_at", "id"], unique=False)
    op.create_index("ix_run_task_id", "run", ["task_id"], unique=False)
    op.create_index(
        "uq_run_live_slot",
        "run",
        ["agent_id", "project_id", "purpose", "slot"],
        unique=True,
        sqlite_where=sa.text("phase <> 'ended'"),
        postgresql_where=sa.text("phase <> 'ended'"),
    )
    op.create_index(
        "uq_run_live_task",
        "run",
        ["task_id"],
        unique=True,
        sqlite_where=sa.text("phase <> 'ended'"),
        postgresql_where=sa.text("phase <> 'ended'"),
    )
    op.create_index(
        "uq_run_token_sha256",
        "run",
        ["token_sha256"],
        unique=True,
        sqlite_where=sa.text("token_sha256 IS NOT NULL"),
        postgresql_where=sa.text("token_sha256 IS NOT NULL"),
    )
    op.create_table(
        "call_effect",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("params_digest", sa.Text(), nullable=False),
        sa.Column("effect_kind", sa.Text(), nullable=False),
        sa.Column("effect_id", sa.Text(), nullable=True),
        sa.Column("answer", DOCUMENT, nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "nonce", "request_id", name="pk_call_effect"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_call_effect_run_id"),
    )
    op.create_table(
        "report",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("answer", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq", name="pk_report"),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_report_run_id"),
    )
