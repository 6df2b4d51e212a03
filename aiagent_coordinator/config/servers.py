"""The MCP servers that an agent gets in a project beside ours, and which line of which level said so. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aiagent_coordinator.config.load import Loaded
from aiagent_coordinator.config.mcp import McpServerSettings, layers
from aiagent_coordinator.config.source import KeyPath, dotted

#: The levels by name, outermost first.
EVERYWHERE, PROJECT, AGENT = "everywhere", "project", "agent"
_PLACE = re.compile(r"\A(.*):(\d+)\Z", re.DOTALL)


@dataclass(frozen=True)
class Said:
    """What one level says of a server."""

    level: str
    #: `FILE:LINE`.
    origin: str
    #: False: it switches the server of an outer level off.
    is_on: bool


@dataclass(frozen=True)
class Traced:
    """One server, and every level that says something of it, outermost first; the last one counts."""

    name: str
    settings: McpServerSettings
    said: tuple[Said, ...]


def traced(loaded: Loaded, project_id: str, agent_id: str) -> list[Traced]:
    """Say of each server that any level names what it is for this agent in this project, by name."""
    levels = list(_levels(loaded, project_id, agent_id))
    found: list[Traced] = []
    for name, numbers in layers([servers for _, _, servers in levels]).items():
        said = tuple(
            Said(
                levels[number][0],
                origin_of(loaded.origins, (*levels[number][1], "mcp_servers", name)),
                levels[number][2][name].enabled,
            )
            for number in numbers
        )
        found.append(Traced(name, levels[numbers[-1]][2][name], said))
    return found


def own_servers(loaded: Loaded, project_id: str, agent_id: str) -> tuple[str | None, str]:
    """What is set of the program's own servers, and where; None, and nowhere, when nothing is."""
    settings = loaded.settings
    agent = settings.agents.get(agent_id)
    if agent is not None and agent.own_servers is not None:
        return agent.own_servers, origin_of(loaded.origins, ("agents", agent_id, "own_servers"))
    for number, project in enumerate(settings.projects):
        if project.id == project_id and project.own_servers is not None:
            key = ("projects", number, "own_servers")
            return project.own_servers, origin_of(loaded.origins, key)
    provider = settings.ai_providers.get(agent.provider) if agent else None
    if agent is None or provider is None or provider.own_servers is None:
        return None, ""
    key = ("ai_providers", agent.provider, "own_servers")
    return provider.own_servers, origin_of(loaded.origins, key)


def _levels(
    loaded: Loaded, project_id: str, agent_id: str
) -> Iterator[tuple[str, KeyPath, Mapping[str, McpServerSettings]]]:
    settings = loaded.settings
    yield EVERYWHERE, (), settings.mcp_servers
    for number, project in enumerate(settings.projects):
        if project.id == project_id:
            yield PROJECT, ("projects", number), project.mcp_servers
    if agent_id in settings.agents:
        yield AGENT, ("agents", agent_id), settings.agents[agent_id].mcp_servers


def origin_of(origins: Mapping[str, str], key: KeyPath) -> str:
    """Where a setting was set: its own place, or the first line of what stands inside it."""
    name = dotted(key)
    if name in origins:
        return origins[name]
    places = [where for one, where in origins.items() if one.startswith((f"{name}.", f"{name}["))]
    return min(places, key=_place, default="default")


def _place(where: str) -> tuple[str, int]:
    match = _PLACE.match(where)
    return (match[1], int(match[2])) if match else (where, 0)
