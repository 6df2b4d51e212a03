"""What an agent is told when a server of another make, AI Agent PM, says what it works on. Pure.

There the server leads: the agent asks it for each step. Its task, its folder's rules and its chats are
the server's to tell; nothing here is sealed or committed for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiagent_coordinator.providers.values import SERVER_NAME

if TYPE_CHECKING:
    from aiagent_coordinator.pipeline.run import RunRecord

_HOW = (
    "You talk to its server through the tools of the MCP server `{server}`:\n"
    "1. Call `authenticate`. Its arguments are filled in for you, whatever you write there. Keep the\n"
    "   `session_token` of the answer, and give it with every later call.\n"
    "2. Call `get_next_action`, and do only what its `instruction` says.\n"
    "3. Call `get_next_action` again after each step. Never skip this.\n"
    "4. When the action is `exit` or `logout`, or `authenticate` fails, end.\n"
    "\n"
    "If a tool says that the coordinator is restarting, call it again."
)


def build(record: RunRecord, folder: Path) -> str:
    """Write the prompt.

    Args:
        record: The run; its claim holds what the server told of the agent.
        folder: The run's own folder, where its skills lie.
    """
    project = str(record.project.get("name") or record.project_id)
    who = f"You are the agent {record.agent_id}, working on the project {project}."
    sections = (
        who,
        str(record.agent.get("role") or "").strip(),
        _place(record),
        _skills(record, folder),
        "# How to work\n\n" + _HOW.format(server=SERVER_NAME),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _place(record: RunRecord) -> str:
    return (
        "# Workspace\n\n"
        f"You work in the current directory, {record.workspace_path}. It is shared: discard nothing\n"
        "that is not yours, and change nothing outside of it."
    )


def _skills(record: RunRecord, folder: Path) -> str:
    names: list[str] = list(record.agent.get("skills") or ())
    if not names:
        return ""
    listed = "\n".join(f"- {folder / 'skills' / name / 'SKILL.md'}" for name in names)
    return f"# Skills\n\nRead the one that fits before you begin:\n\n{listed}"
