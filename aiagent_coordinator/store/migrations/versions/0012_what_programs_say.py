"""What the program of a run says of itself while it runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"

# A frozen copy: the program's own types may change, this history may not.
DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Add four columns."""
    op.add_column("run", sa.Column("context", DOCUMENT, nullable=True))
    op.add_column("run", sa.Column("compactions", sa.Integer(), nullable=True))
    op.add_column("run", sa.Column("limits", DOCUMENT, nullable=True))
    op.add_column("run", sa.Column("counts", DOCUMENT, nullable=True))
