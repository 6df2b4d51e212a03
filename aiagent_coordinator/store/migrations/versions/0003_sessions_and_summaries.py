"""What a run's CLI calls its session and how long its calls may take, diagnostics, and passkeys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

# A frozen copy: the program's own types may change, this history may not.
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Add four columns."""
    op.add_column("agent", sa.Column("passkey_hash", sa.Text(), nullable=True))
    op.add_column("run", sa.Column("tool_timeout_seconds", sa.Float(), nullable=True))
    op.add_column("run", sa.Column("resumed_session_id", sa.Text(), nullable=True))
    op.add_column("run", sa.Column("summary", DOCUMENT, nullable=True))
