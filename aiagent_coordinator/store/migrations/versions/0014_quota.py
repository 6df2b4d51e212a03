"""Limits of providers, what the configuration says of them, and what runs work on and may use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"

# Frozen copies: the program's own types may change, this history may not.
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)
INSTANT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    """Add columns and tables."""
    op.add_column("run", sa.Column("account", sa.Text(), nullable=False, server_default="default"))
    op.add_column("run", sa.Column("model", sa.Text(), nullable=True))
    for name in ("used_tokens", "used_usd", "reserved_tokens", "reserved_usd"):
        op.add_column("run", sa.Column(name, sa.Float(), nullable=False, server_default="0"))
    op.create_index("ix_run_ended_at", "run", ["ended_at"])
    op.add_column("task", sa.Column("budget", DOCUMENT, nullable=True))
    op.create_table(
        "quota_terms",
        sa.Column("name", ID),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("document", DOCUMENT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_quota_terms"),
    )
    op.create_table(
        "limit_window",
        sa.Column("provider", ID),
        sa.Column("account", ID),
        sa.Column("model", ID),
        sa.Column("period", ID),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("used", sa.Float(), nullable=True),
        sa.Column("resets_at", INSTANT, nullable=True),
        sa.Column("until", INSTANT, nullable=True),
        sa.Column("confidence", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("run_id", ID, nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("accepted_at", INSTANT, nullable=True),
        sa.Column("seen_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "status IN ('allowed', 'warning', 'rejected')", name=op.f("ck_limit_window_status")
        ),
        sa.PrimaryKeyConstraint("provider", "account", "model", "period", name="pk_limit_window"),
    )
