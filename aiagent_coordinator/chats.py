"""What people and agents say to each other beside tasks, and agents among themselves. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from aiagent_coordinator.runs import Purpose

#: So long after the last word a chat's session ends, and a conversation is over.
IDLE_SECONDS: Final = 600.0


class NoticeKind(StrEnum):
    """What a notice is; an interrupt wants to be read at once."""

    STATUS_CHANGE = "status_change"
    INTERRUPT = "interrupt"
    MESSAGE = "message"
    CHAT = "chat_session_notification"


class Author(StrEnum):
    """Who wrote a message of a chat; which agent, its chat says."""

    PERSON = "person"
    AGENT = "agent"
    SYSTEM = "system"


@dataclass(frozen=True)
class Notice:
    """Something that an agent is told without having asked."""

    id: str
    agent_id: str
    project_id: str
    kind: NoticeKind
    #: What happened, or what is wanted, in one word.
    action: str
    message: str
    instruction: str
    created_at: datetime
    #: Only for this run; None: for whichever session of the pair comes first.
    run_id: str | None = None
    purpose: Purpose | None = None
    task_id: str | None = None
    read_at: datetime | None = None


@dataclass(frozen=True)
class Message:
    """One message of the chat of an agent in a project."""

    id: str
    agent_id: str
    project_id: str
    author: Author
    body: str
    created_at: datetime
    task_id: str | None = None
    run_id: str | None = None
    #: The session that read it last.
    delivered_run_id: str | None = None
    delivered_at: datetime | None = None
    deliveries: int = 0
    answered_at: datetime | None = None


class Standing(StrEnum):
    """How a conversation stands. Over: `terminating` until both sides know, then `ended` or `expired`."""

    PENDING = "pending"
    ACTIVE = "active"
    TERMINATING = "terminating"
    ENDED = "ended"
    EXPIRED = "expired"


#: Standings in which something can be said.
OPEN_STANDINGS = frozenset({Standing.PENDING, Standing.ACTIVE})


@dataclass(frozen=True)
class Conversation:
    """Two agents of a project that talk to each other, each in a session for its chat."""

    id: str
    project_id: str
    initiator_agent_id: str
    participant_agent_id: str
    state: Standing
    max_turns: int
    turns: int
    created_at: datetime
    #: When somebody last said something, or took it up.
    last_at: datetime
    initiator_run_id: str
    #: None: nobody has taken it up yet.
    participant_run_id: str | None = None
    purpose: str | None = None
    task_id: str | None = None
    delegation_id: str | None = None
    #: When each side knew that it is over.
    initiator_heard_at: datetime | None = None
    participant_heard_at: datetime | None = None
    #: An agent, `person` or `system`.
    ended_by: str | None = None
    end_reason: str | None = None
    ended_at: datetime | None = None

    def partner_of(self, agent_id: str) -> str:
        """The other one."""
        is_first = agent_id == self.initiator_agent_id
        return self.participant_agent_id if is_first else self.initiator_agent_id


@dataclass(frozen=True)
class Spoken:
    """One thing said in a conversation."""

    id: str
    conversation_id: str
    #: From 1.
    number: int
    sender_agent_id: str
    body: str
    created_at: datetime
    read_at: datetime | None = None


class DelegationState(StrEnum):
    """How far what a session at work asked its agent's chat to talk about is."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True)
class Delegation:
    """A wish of an agent's session for a task to its session for the chat: talk with another agent."""

    id: str
    agent_id: str
    project_id: str
    task_id: str
    #: The run that wishes it.
    run_id: str
    target_agent_id: str
    purpose: str
    state: DelegationState
    created_at: datetime
    context: str | None = None
    #: Sessions for the chat that have taken it, and the last of them.
    tries: int = 0
    chat_run_id: str | None = None
    result: str | None = None
    finished_at: datetime | None = None
