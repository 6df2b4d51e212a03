"""What an agent is told next in a session that is for its chat. State in, instruction out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: So long after the last word a chat's session ends.
IDLE_SECONDS: Final = 600.0

#: Marker → the tool that a person's message with it lets the agent call.
MARKERS: Final[Mapping[str, str]] = {
    "@@タスク作成": "request_task",
    "@@通知": "notify_task_session",
    "@@調整": "update_task_from_chat",
    "@@開始": "start_task_from_chat",
}


@dataclass(frozen=True)
class ChatState:
    """What is known of a session when its agent asks."""

    unread: int = 0
    idle_seconds: float = 0.0
    stop_reason: str | None = None
    #: Its place is wanted for a task, and its coordinator drives one process of a pair at a time.
    is_in_the_way: bool = False


@dataclass(frozen=True)
class ChatStep:
    """One answer."""

    action: str
    state: str
    instruction: str
    facts: Mapping[str, int] = field(default_factory=dict[str, int])


def next_step(state: ChatState) -> ChatStep:
    """Decide what the agent does next. Pure."""
    if state.stop_reason is not None:
        text = f"This session is being stopped ({state.stop_reason}). Call no more tools and exit."
        return ChatStep("exit", "session_terminating", text)
    if state.unread:
        text = (
            "People wrote to you. Call get_pending_messages, answer with send_message, then call "
            "get_next_action."
        )
        return ChatStep("get_pending_messages", "chat_session", text)
    if state.idle_seconds >= IDLE_SECONDS or state.is_in_the_way:
        return ChatStep("logout", "chat_timeout", "Nothing is left to say. Call logout and exit.")
    minutes = int((IDLE_SECONDS - state.idle_seconds) // 60) + 1
    text = "Nobody has written. Do nothing else, and call get_next_action again."
    facts = {"remaining_timeout_minutes": minutes}
    return ChatStep("wait_for_messages", "chat_waiting", text, facts)


def allows(body: str, tool: str) -> bool:
    """Whether a person's message has the marker of a tool, in narrow or wide signs."""
    narrow = body.replace("\N{FULLWIDTH COMMERCIAL AT}", "@")
    return any(marker in narrow for marker, meant in MARKERS.items() if meant == tool)


def marker_of(tool: str) -> str:
    """What a person must have written for a tool."""
    return next(marker for marker, meant in MARKERS.items() if meant == tool)
