"""What an agent is told next in a session that is for its chat. State in, instruction out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiagent_coordinator.chats import IDLE_SECONDS

#: Marker → the tool that a person's message with it lets the agent call.
MARKERS: Final[Mapping[str, str]] = {
    "@@タスク作成": "request_task",
    "@@通知": "notify_task_session",
    "@@調整": "update_task_from_chat",
    "@@開始": "start_task_from_chat",
}


Facts = Mapping[str, object]


@dataclass(frozen=True)
class ChatState:
    """What is known of a session when its agent asks."""

    unread: int = 0
    idle_seconds: float = 0.0
    stop_reason: str | None = None
    #: Its place is wanted for a task, and its coordinator drives one process of a pair at a time.
    is_in_the_way: bool = False
    #: What is told of a conversation that another agent wants, of one that is over, of one to begin.
    request: Facts | None = None
    end: Facts | None = None
    wish: Facts | None = None
    #: A conversation of it goes on.
    is_talking: bool = False
    #: Ids of the delegations that it has taken and not finished.
    held: tuple[str, ...] = ()
    #: It has read, said or taken something; False: what it was started for was gone before it came.
    was_needed: bool = True


@dataclass(frozen=True)
class ChatStep:
    """One answer."""

    action: str
    state: str
    instruction: str
    facts: Facts = field(default_factory=dict[str, object])


def next_step(state: ChatState) -> ChatStep:
    """Decide what the agent does next. Pure."""
    if state.stop_reason is not None:
        text = f"This session is being stopped ({state.stop_reason}). Call no more tools and exit."
        return ChatStep("exit", "session_terminating", text)
    step = _with_agents(state)
    if step is not None:
        return step
    if state.unread:
        text = (
            "Somebody wrote to you. Call get_pending_messages, answer with send_message (name the "
            "conversation_id where a message has one), then call get_next_action."
        )
        return ChatStep("get_pending_messages", "chat_session", text)
    makes_way = state.is_in_the_way and not state.is_talking
    if state.idle_seconds >= IDLE_SECONDS or makes_way or not state.was_needed:
        return ChatStep("logout", "chat_timeout", "Nothing is left to say. Call logout and exit.")
    minutes = int((IDLE_SECONDS - state.idle_seconds) // 60) + 1
    text = "Nobody has written. Do nothing else, and call get_next_action again."
    if state.held and not state.is_talking:
        text = (
            f"You have not said what came of {', '.join(state.held)}: call report_delegation_completed "
            "for each, then get_next_action."
        )
    facts = {"remaining_timeout_minutes": minutes}
    return ChatStep("wait_for_messages", "chat_waiting", text, facts)


def _with_agents(state: ChatState) -> ChatStep | None:
    """What there is to do with other agents, the oldest of each kind first."""
    if state.request is not None:
        text = (
            "Another agent wants to talk with you. Call get_pending_messages to read what it says, "
            "answer with send_message and this conversation_id, then call get_next_action."
        )
        return ChatStep("conversation_request", "conversation_active", text, state.request)
    if state.end is not None:
        text = "This conversation is over; send nothing there. Call get_next_action."
        if "delegation_id" in state.end:
            text = (
                "This conversation is over; send nothing there. When that settles what your task asked, "
                "call report_delegation_completed with the result; then call get_next_action."
            )
        return ChatStep("conversation_ended", "conversation_ended", text, state.end)
    if state.wish is not None:
        text = (
            "Your session that works on a task wants you to talk with another agent. Call "
            "start_conversation with participant_agent_id (the target_agent_id here), initial_message "
            "and max_turns; talk until the purpose is reached, end it with end_conversation, and call "
            "report_delegation_completed with the result."
        )
        return ChatStep("start_conversation", "process_delegation", text, state.wish)
    return None


def allows(body: str, tool: str) -> bool:
    """Whether a person's message has the marker of a tool, in narrow or wide signs."""
    narrow = body.replace("\N{FULLWIDTH COMMERCIAL AT}", "@")
    return any(marker in narrow for marker, meant in MARKERS.items() if meant == tool)


def marker_of(tool: str) -> str:
    """What a person must have written for a tool."""
    return next(marker for marker, meant in MARKERS.items() if meant == tool)
