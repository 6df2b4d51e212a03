"""The table of what people tell agents at work: a part of the one schema. No queries."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Table, Text, text

from aiagent_coordinator.store import talk_tables
from aiagent_coordinator.store.columns import ID, Instant
from aiagent_coordinator.tells import Way

#: Of the whole schema.
metadata = talk_tables.metadata
_WAYS = ", ".join(f"'{way.value}'" for way in Way)
_UNHEARD = "delivered_at IS NULL"

# What people tell the agent of a task while it works.
tell = Table(
    "tell",
    metadata,
    Column("id", ID, primary_key=True),
    Column("task_id", ID, ForeignKey("task.id"), nullable=False),
    Column("author", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("interrupts", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    # Which run is to hear it, or did; NULL: the next one.
    Column("run_id", ID, ForeignKey("run.id")),
    Column("way", Text),
    Column("notice_id", ID, ForeignKey("notification.id")),
    Column("delivered_at", Instant),
    CheckConstraint(f"way IN ({_WAYS})", name="way"),
    Index("ix_tell_task_id", "task_id", "created_at", "id"),
    Index("ix_tell_unheard", "run_id", sqlite_where=text(_UNHEARD), info={"where": _UNHEARD}),
)
