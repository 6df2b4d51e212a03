"""Which schema this program speaks: asked with plain SQL, because Alembic would stay resident."""

from __future__ import annotations

#: Every revision there ever was, oldest first; a test compares this with the migrations folder.
REVISIONS = (
    *("0001", "0002", "0003", "0004", "0005", "0006"),
    *("0007", "0008", "0009", "0010", "0011", "0012", "0013", "0014"),
    *("0015",),
)
#: The one this program needs.
HEAD = REVISIONS[-1]
#: Alembic's own table, one row.
READ_REVISION = "SELECT version_num FROM alembic_version"
CREATE_VERSION_TABLE = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
#: HEAD is ours, so it may stand in the statement.
STAMP = f"INSERT INTO alembic_version (version_num) VALUES ('{HEAD}')"  # noqa: S608 - a constant
