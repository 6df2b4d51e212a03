"""What went over a limit of a run, and what it left behind."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

# A frozen copy: the program's own types may change, this history may not.
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Add three columns."""
    op.add_column("run", sa.Column("warnings", DOCUMENT, nullable=True))
    op.add_column("run", sa.Column("leftovers", DOCUMENT, nullable=True))
    op.add_column("run", sa.Column("leftovers_ended", sa.Boolean(), nullable=True))
