"""The tables of audits, of what templates made, and of people's folders: a part of the one schema. No queries."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text, text

from aiagent_coordinator.audits import AuditStatus, LockSubject
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.columns import DOCUMENT, ID, Instant

metadata = tables.metadata
#: Of a lock: it was not released.
_HELD: Final = "released_at IS NULL"


def _words(column: str, words: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{word.value}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


# Where a person has a project on its own machine.
working_directory = Table(
    "working_directory",
    metadata,
    Column("agent_id", ID, ForeignKey("agent.id"), primary_key=True),
    Column("project_id", ID, ForeignKey("project.id"), primary_key=True),
    Column("path", Text, nullable=False),
)

# The rules of a project as they were when somebody activated them.
audit = Table(
    "audit",
    metadata,
    Column("id", ID, primary_key=True),
    Column("project_id", ID, ForeignKey("project.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("definition", DOCUMENT, nullable=False),
    # Of the file that it was read from.
    Column("digest", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    _words("status", AuditStatus),
    Index("uq_audit_name", "project_id", "name", unique=True),
)

# One change of a task that met one rule: never twice.
audit_firing = Table(
    "audit_firing",
    metadata,
    Column("id", ID, primary_key=True),
    Column("audit_id", ID, ForeignKey("audit.id"), nullable=False),
    Column("rule", Integer, nullable=False),
    Column("task_id", ID, ForeignKey("task.id"), nullable=False),
    # Negative: numbers what did not change the task.
    Column("task_version", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("uq_audit_firing_cause", "task_id", "task_version", "audit_id", "rule", unique=True),
)

audit_lock = Table(
    "audit_lock",
    metadata,
    Column("firing_id", ID, ForeignKey("audit_firing.id"), primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("subject_id", ID, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("released_at", Instant),
    Column("released_by", Text),
    _words("subject", LockSubject),
    Index(
        "ix_audit_lock_open",
        "subject",
        "subject_id",
        sqlite_where=text(_HELD),
        info={"where": _HELD},
    ),
)

# What a template made under a key: said again, it is shown.
template_run = Table(
    "template_run",
    metadata,
    Column("project_id", ID, ForeignKey("project.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("template", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("tasks", DOCUMENT, nullable=False),
    Column("created_at", Instant, nullable=False),
)
