"""What an agent is told when it is started to talk with people, and not for a task. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiagent_coordinator.providers.values import SERVER_NAME

if TYPE_CHECKING:
    from aiagent_coordinator.pipeline.run import RunRecord

_HOW = (
    "You talk to the coordinator through the tools of the MCP server `{server}`:\n"
    "1. Call `authenticate` first; it needs no arguments.\n"
    "2. Call `get_next_action` and do what it says. Call it again after each step, until it says\n"
    "   `logout` or `exit`. It may take a while to answer: it waits for others.\n"
    "3. `get_pending_messages` gives what they wrote. Answer with `send_message`. What another agent\n"
    "   wrote has a `conversation_id`: name it in your answer.\n"
    "4. Then call `logout` and end. There is nothing to report.\n"
    "\n"
    "Tools that make, start or change tasks work only when a person ordered it; they say how.\n"
    "If a tool says that the coordinator is restarting, call it again."
)


def build(record: RunRecord, skills: str = "") -> str:
    """Write the prompt; `skills` is the section about the agent's skills, empty without any."""
    project = str(record.project.get("name") or record.project_id)
    sections = (
        f"You are the agent {record.agent_id} of the project {project}.",
        str(record.agent.get("role") or "").strip(),
        "# Chat\n\nSomebody has written to you, or you are to talk with another agent. You are here for that.",
        "# Workspace\n\nThe current directory is empty and yours alone. Change nothing outside of it.",
        skills,
        "# How to work\n\n" + _HOW.format(server=SERVER_NAME),
    )
    return "\n\n".join(section for section in sections if section) + "\n"
