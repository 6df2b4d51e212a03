"""The tables of what agents talk about among themselves: a part of the one schema. No queries."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text, text

from aiagent_coordinator.chats import DelegationState, Standing
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.columns import ID, Instant

metadata = tables.metadata

# SQLite takes an index of some rows only where a query has its very condition: with `NOT_OVER` and
# `UNFINISHED` beside their own, queries of what goes on read no history.
_NOT_OVER = "state IN ('pending', 'active', 'terminating')"
_UNFINISHED = "state IN ('pending', 'processing')"
NOT_OVER = text(f"conversation.{_NOT_OVER}")
UNFINISHED = text(f"delegation.{_UNFINISHED}")


def speak_postgresql() -> None:
    """Give PostgreSQL the conditions of all indexes, these among them."""
    tables.speak_postgresql()


def _state(words: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{word.value}'" for word in words)
    return CheckConstraint(f"state IN ({listed})", name="state")


def _index_some(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), info={"where": where})


# What a session for a task asked its agent's session for the chat to do.
delegation = Table(
    "delegation",
    metadata,
    Column("id", ID, primary_key=True),
    Column("agent_id", ID, ForeignKey("agent.id"), nullable=False),
    Column("project_id", ID, ForeignKey("project.id"), nullable=False),
    Column("task_id", ID, ForeignKey("task.id"), nullable=False),
    Column("run_id", ID, ForeignKey("run.id"), nullable=False),
    Column("target_agent_id", ID, ForeignKey("agent.id"), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("context", Text),
    Column("state", Text, nullable=False),
    # Sessions that took it, and the last of them.
    Column("tries", Integer, nullable=False),
    Column("chat_run_id", ID, ForeignKey("run.id")),
    Column("result", Text),
    Column("created_at", Instant, nullable=False),
    Column("finished_at", Instant),
    _state(DelegationState),
    Index("ix_delegation_task_id", "task_id", "created_at"),
    _index_some(
        "ix_delegation_open",
        "agent_id",
        "project_id",
        where=_UNFINISHED,
    ),
)

# Two agents that talk to each other.
conversation = Table(
    "conversation",
    metadata,
    Column("id", ID, primary_key=True),
    Column("project_id", ID, ForeignKey("project.id"), nullable=False),
    Column("initiator_agent_id", ID, ForeignKey("agent.id"), nullable=False),
    Column("participant_agent_id", ID, ForeignKey("agent.id"), nullable=False),
    # The sessions that talk; NULL: not taken up yet.
    Column("initiator_run_id", ID, ForeignKey("run.id"), nullable=False),
    Column("participant_run_id", ID, ForeignKey("run.id")),
    Column("purpose", Text),
    Column("task_id", ID, ForeignKey("task.id")),
    Column("delegation_id", ID, ForeignKey("delegation.id")),
    Column("state", Text, nullable=False),
    Column("max_turns", Integer, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    # When each side knew that it is over.
    Column("initiator_heard_at", Instant),
    Column("participant_heard_at", Instant),
    Column("ended_by", Text),
    Column("end_reason", Text),
    Column("ended_at", Instant),
    _state(Standing),
    Index("ix_conversation_task_id", "task_id"),
    Index("ix_conversation_created_at", "created_at", "id"),
    Index("ix_conversation_initiator_run_id", "initiator_run_id"),
    Index("ix_conversation_participant_run_id", "participant_run_id"),
    _index_some(
        "ix_conversation_open",
        "participant_agent_id",
        "project_id",
        where=_NOT_OVER,
    ),
)

# What they say there, numbered from 1.
conversation_message = Table(
    "conversation_message",
    metadata,
    Column("id", ID, primary_key=True),
    Column("conversation_id", ID, ForeignKey("conversation.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("sender_agent_id", ID, ForeignKey("agent.id"), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    # When the other side read it.
    Column("read_at", Instant),
    Index("uq_conversation_message_number", "conversation_id", "number", unique=True),
)
