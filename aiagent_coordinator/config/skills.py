"""The skills that the configuration gives to agents, read from where it says they lie."""

from __future__ import annotations

from pathlib import Path

from aiagent_coordinator.config.models import Settings
from aiagent_coordinator.errors import ConfigError, CoordinatorError
from aiagent_coordinator.skill_sources import from_path
from aiagent_coordinator.skills import Packed, packed


def declared_skills(settings: Settings) -> dict[str, list[Packed]]:
    """Read the skills of every agent. Blocks.

    Raises:
        ConfigError: one cannot be read, is no skill, or has the name of another; it is named.
    """
    read: dict[Path, Packed] = {}
    named: dict[str, tuple[str, str]] = {}
    found: dict[str, list[Packed]] = {}
    for agent_id, agent in settings.agents.items():
        for number, path in enumerate(agent.skills):
            key = f"agents.{agent_id}.skills.{number}"
            try:
                # an archive is called as it is without its ending, a folder by its whole name
                fallback = path.stem if path.suffix.lower() == ".zip" else path.name
                skill = read.get(path) or packed(from_path(path), fallback=fallback)
            except CoordinatorError as error:
                raise ConfigError(f"{key}: {path}: {error.message}", hint=error.hint) from error
            read[path] = skill
            first_key, digest = named.setdefault(skill.directory_name, (key, skill.sha256))
            if digest != skill.sha256:
                raise ConfigError(
                    f"{key}: {path}: {first_key} is another skill of the name {skill.directory_name}",
                    hint="give one of them another name in its SKILL.md",
                )
            found.setdefault(agent_id, []).append(skill)
    return found
