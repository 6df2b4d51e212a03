"""Who an agent is, as coordinators of another make ask before they start it: its prompt and its skills."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

from pydantic import ConfigDict

from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.replies import BARE_LINE_BYTES, is_long_line
from aiagent_coordinator.server.tools import Arguments, Context
from aiagent_coordinator.skills import Skill
from aiagent_coordinator.store import projects, skills
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent

#: Of a long prompt, for those who cannot read long lines.
_PROMPT_CHARS: Final = 8000
#: Of all skills of an answer, packed: as text they leave room in a frame.
MAX_SKILL_BYTES: Final = 8 * 1024 * 1024
#: The same for those who cannot read long lines.
MAX_BARE_SKILL_BYTES: Final = BARE_LINE_BYTES // 4 * 3
#: Names of what was left out take room too.
_ROOM_FOR_NOTE: Final = " " * 4096


class LegacyArguments(Arguments):
    """Arguments of another make's calls; what is new in them is ignored."""

    model_config = ConfigDict(extra="ignore")


class Profile(LegacyArguments):
    """Arguments of `get_subordinate_profile`."""

    agent_id: str


def agent_named(unit: Unit, agent_id: str) -> Agent:
    """An agent.

    Raises:
        NotFoundError: there is none; in the words of the server that these clients know.
    """
    try:
        return projects.get_agent(unit, agent_id)
    except NotFoundError:
        raise NotFoundError(f"Agent not found: {agent_id}") from None


async def get_subordinate_profile(context: Context, arguments: Profile) -> Json:
    """Say who an agent is."""
    is_bare = context.call.is_bare

    def work(unit: Unit) -> tuple[Agent, list[tuple[Skill, bytes | None]]]:
        agent = agent_named(unit, arguments.agent_id)
        return agent, list(_archives(unit, agent, MAX_BARE_SKILL_BYTES if is_bare else None))

    agent, given = await context.board.store.read(work)
    profile: dict[str, Any] = {
        "id": agent.id,
        "name": agent.name,
        "role": agent.id,
        "type": "human" if agent.is_person else "ai",
        "hierarchy_type": agent.hierarchy.value,
        "parent_agent_id": agent.parent_id,
        "ai_type": agent.provider,
        "kick_method": "cli",
        "max_parallel_tasks": agent.max_concurrent,
        "status": "active" if agent.enabled else "inactive",
        "system_prompt": agent.role,
        "skills": [],
    }
    notes: list[str] = []
    if is_bare and is_long_line(agent.role):
        profile["system_prompt"] = agent.role[:_PROMPT_CHARS]
        notes.append("the prompt was cut: your client reads lines of 64 KiB at most")
    left_out = _put_skills(profile, given, is_bare=is_bare)
    if left_out:
        why = "your client reads lines of 64 KiB at most" if is_bare else "they are too large"
        notes.append(f"left out of the skills: {', '.join(left_out)}: {why}")
    return {**profile, "note": "; ".join(notes)} if notes else profile


def _archives(unit: Unit, agent: Agent, most: int | None) -> Iterator[tuple[Skill, bytes | None]]:
    """What an agent is given, with the archives that may fit into one answer."""
    left = MAX_SKILL_BYTES if most is None else most
    for skill in skills.of_agent(unit, agent.id):
        left -= skill.size
        fits = left >= 0
        left += 0 if fits else skill.size
        yield skill, skills.archive(unit, skill.sha256) if fits else None


def _put_skills(
    profile: Json, given: list[tuple[Skill, bytes | None]], *, is_bare: bool
) -> list[str]:
    """Put skills into a profile as long as it can be read; gives the names of those left out."""
    listed: list[Json] = profile["skills"]
    left_out: list[str] = []
    for skill, archive in given:
        if archive is None:
            left_out.append(skill.directory_name)
            continue
        listed.append(
            {
                "id": skill.id,
                "name": skill.name,
                "directory_name": skill.directory_name,
                "archive_base64": base64.b64encode(archive).decode("ascii"),
            }
        )
        # with room for the note
        if is_bare and is_long_line(json.dumps(profile) + _ROOM_FOR_NOTE):
            listed.pop()
            left_out.append(skill.directory_name)
    return left_out
