"""Names that AI Agent PM once had and took away: its old clients still call them.

They are answered as its newest server answers: by the result of a tool that failed, with its words. A
client that reads structured content is told by ours, and what to call instead.
"""

from __future__ import annotations

from typing import Final

from aiagent_coordinator.errors import CoordinatorError, NotFoundError

#: Name → what to call instead. Persons have two of them still, with another meaning.
INSTEAD: Final = {
    "list_agents": "get_my_profile tells who you are",
    "get_agent_profile": "get_my_profile tells who you are",
    "list_projects": "get_project shows your own project",
    "get_my_tasks": "get_my_task, or list_tasks for those of your project",
    "get_pending_tasks": "get_my_task; a coordinator hands out tasks",
    "save_context": "report_progress, and a summary with report_completed",
    "get_task_context": "get_my_task has what an attempt before left",
    "create_handoff": "hand_over",
    "accept_handoff": "take_handoff",
    "get_pending_handoffs": "list_handoffs; get_my_task has those of your task",
}


def words(name: str) -> str:
    """What their server says to who calls one of these."""
    return f"Authorization Error: Tool '{name}' is not registered in authorization system"


def refusal(name: str) -> CoordinatorError:
    """The same in our words."""
    return NotFoundError(f"Unknown tool: {name}", hint=f"it was removed: {INSTEAD[name]}")
