"""Which servers and skills of its agent a task is given."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"

# A frozen copy: the program's own types may change, this history may not.
DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Add a column."""
    op.add_column("task", sa.Column("options", DOCUMENT, nullable=True))
