"""Which of an agent's tools each duty may call. The one table: the server and the checks of workflows read it."""

from __future__ import annotations

from typing import Final

from aiagent_coordinator.tasks import Duty
from aiagent_coordinator.wire.protocol import AGENT_TOOLS

#: Only those who have others work for them.
MANAGERS_ONLY: Final = frozenset(
    {"assign_task", "get_subordinate_profile", "list_subordinates", "select_action"}
)


def may_call(duty: Duty, tool: str) -> bool:
    """Whether an agent with this duty may call a tool. What nobody knows, nobody may."""
    if tool not in AGENT_TOOLS:
        return False
    return tool not in MANAGERS_ONLY or duty is Duty.MANAGER
