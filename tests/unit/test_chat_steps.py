"""What a session for a chat is told next, decided from what is known of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aiagent_coordinator.chats import IDLE_SECONDS
from aiagent_coordinator.workflows.chat import ChatState, next_step

FULL = ChatState(
    unread=1,
    idle_seconds=IDLE_SECONDS,
    stop_reason="cancelled",
    request={"conversation_id": "cnv_1"},
    end={"conversation_id": "cnv_2"},
    wish={"delegation_id": "dlg_1"},
)


def test_what_there_is_to_do_comes_one_after_the_other_and_the_end_last() -> None:
    state, told = FULL, list[str]()
    for done in ("stop_reason", "request", "end", "wish"):
        told.append(next_step(state).action)
        state = replace(state, **{done: None})
    told.append(next_step(state).action)
    told.append(next_step(replace(state, unread=0)).action)
    told.append(next_step(replace(state, unread=0, idle_seconds=0.0)).action)
    assert told == [
        *("exit", "conversation_request", "conversation_ended", "start_conversation"),
        *("get_pending_messages", "logout", "wait_for_messages"),
    ]


@pytest.mark.parametrize(("is_talking", "action"), [(False, "logout"), (True, "wait_for_messages")])
def test_a_chat_makes_way_for_a_task_once_it_talks_with_nobody(
    is_talking: bool, action: str
) -> None:
    state = ChatState(is_in_the_way=True, is_talking=is_talking)
    assert next_step(state).action == action


def test_a_session_that_comes_too_late_leaves_at_once() -> None:
    assert next_step(ChatState(was_needed=False)).action == "logout"
    assert next_step(ChatState(was_needed=False, unread=1)).action == "get_pending_messages"


def test_what_its_task_asked_for_is_remembered_until_it_is_reported() -> None:
    waiting = next_step(ChatState(held=("dlg_1",)))
    assert "report_delegation_completed" in waiting.instruction
    assert "dlg_1" in waiting.instruction
    talking = next_step(ChatState(held=("dlg_1",), is_talking=True))
    assert "dlg_1" not in talking.instruction
    over = next_step(ChatState(end={"conversation_id": "cnv_1", "delegation_id": "dlg_1"}))
    assert "report_delegation_completed" in over.instruction
