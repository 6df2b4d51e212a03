"""What people and agents say to each other beside tasks: messages, and notices to an agent. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from aiagent_coordinator.runs import Purpose


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
