"""Whether the answers of a run's questions go to its program's standard input."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add one column."""
    op.add_column(
        "run",
        sa.Column("answers_on_stdin", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
