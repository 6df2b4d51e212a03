"""Which of an agent's tools each duty may call. The one table: the server and the checks of workflows read it."""

from __future__ import annotations

from typing import Final

from aiagent_coordinator.tasks import Duty
from aiagent_coordinator.wire.protocol import AGENT_TOOLS

#: Only those who have others work for them.
MANAGERS_ONLY: Final = frozenset(
    {
        *("approve_task_request", "assign_task", "get_subordinate_profile", "list_subordinates"),
        *("reject_task_request", "select_action"),
    }
)
#: Only those who judge what another did.
REVIEWERS_ONLY: Final = frozenset({"review_task"})
#: What a reviewer leaves alone: it has no sub-tasks, asks for no work, and leaves nothing but its verdict.
NOT_FOR_REVIEWERS: Final = frozenset(
    {
        *("create_task", "create_tasks_batch", "request_task", "split_task", "update_task_status"),
        *("hand_over", "take_handoff", "register_skill"),
    }
)


def may_call(duty: Duty, tool: str) -> bool:
    """Whether an agent with this duty may call a tool. What nobody knows, nobody may."""
    if tool not in AGENT_TOOLS:
        return False
    if duty is Duty.REVIEWER:
        return tool not in MANAGERS_ONLY | NOT_FOR_REVIEWERS
    return tool not in REVIEWERS_ONLY and (tool not in MANAGERS_ONLY or duty is Duty.MANAGER)
