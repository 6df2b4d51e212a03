"""What `config explain` says of MCP servers: those that an agent gets in a project, and who said so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aiagent_coordinator.cli import output
from aiagent_coordinator.config.mcp import OURS
from aiagent_coordinator.config.servers import Traced, own_servers, traced
from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.messages import text
from aiagent_coordinator.providers.options import Chosen, in_force
from aiagent_coordinator.task_options import MCP_SERVERS, allowed

if TYPE_CHECKING:
    from aiagent_coordinator.config import Loaded
    from aiagent_coordinator.config.source import KeyPath
    from aiagent_coordinator.providers.catalog import Catalog

_OWN = "own_servers"


def is_about(key: KeyPath) -> bool:
    """Whether a setting is of servers, of whatever level."""
    return bool({MCP_SERVERS, _OWN} & set(key))


def merged(
    loaded: Loaded,
    catalog: Catalog,
    key: KeyPath,
    *,
    agent_id: str | None,
    project_id: str | None,
    task: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """The servers of every agent in every project that the setting is about.

    Args:
        loaded: The settings.
        catalog: What the programs can be told.
        key: The setting: that of a project or an agent leaves the others out.
        agent_id: Only this agent; None: all.
        project_id: Only this project; None: all.
        task: As the board shows it; None: no task.

    Raises:
        NotFoundError: the file has no such agent, or no such project.
    """
    settings = loaded.settings
    if agent_id is not None and agent_id not in settings.agents:
        raise NotFoundError(text("config.no_agent", id=agent_id))
    if project_id is not None and project_id not in {one.id for one in settings.projects}:
        raise NotFoundError(text("config.no_project", id=project_id))
    if key[:1] == ("agents",) and len(key) > 1:
        agent_id = agent_id or str(key[1])
    if key[:1] == ("projects",) and len(key) > 1:
        project_id = project_id or settings.projects[int(key[1])].id
    return [
        _of(loaded, catalog, agent, project, task)
        for agent, project in _pairs(loaded, agent_id, project_id)
    ]


def _pairs(
    loaded: Loaded, agent_id: str | None, project_id: str | None
) -> Iterator[tuple[str, str]]:
    for project in loaded.settings.projects:
        for agent in project.agents:
            if agent_id in (None, agent) and project_id in (None, project.id):
                yield agent, project.id


def _of(
    loaded: Loaded, catalog: Catalog, agent_id: str, project_id: str, task: Mapping[str, Any] | None
) -> dict[str, Any]:
    given = None if task is None else allowed(task.get("options"), MCP_SERVERS)
    by = "" if task is None else f"task {task['id']}"
    servers = [_line(one, given, by) for one in traced(loaded, project_id, agent_id)]
    ours: dict[str, Any] = {"name": OURS, "is_on": True, "level": "ours", "origin": "", "what": ""}
    value, origin = own_servers(loaded, project_id, agent_id)
    definition = catalog.get(loaded.settings.agents[agent_id].provider)
    if given == frozenset() and "none" in _values(definition.options.get(_OWN)):
        value, origin = "none", by
    default = in_force(definition, Chosen()).get(_OWN)
    denied = catalog.chosen(definition.name, agent_id, project_id).values.get(f"{_OWN}_denied", ())
    return {
        "agent": agent_id,
        "project": project_id,
        "servers": [*servers, {**ours, "overrides": [], "off_by": None}],
        _OWN: value or default,
        "own_servers_origin": origin or "default",
        "own_servers_denied": list(denied),
    }


def _values(option: Any) -> tuple[str, ...]:  # noqa: ANN401 - an option of a definition, or none
    return () if option is None else option.allowed


def _line(one: Traced, given: frozenset[str] | None, by: str) -> dict[str, Any]:
    *outer, last = one.said
    off_by = None if last.is_on else last.origin
    if off_by is None and given is not None and one.name not in given:
        off_by = by
    return {
        "name": one.name,
        "is_on": off_by is None,
        "level": last.level,
        "origin": last.origin,
        "what": one.settings.command or ("at an address" if one.settings.url else ""),
        "overrides": [{"level": said.level, "origin": said.origin} for said in outer],
        "off_by": off_by,
    }


def show(found: list[dict[str, Any]]) -> None:
    """Print them for people."""
    for one in found:
        origin = one["own_servers_origin"]
        own = f"{one[_OWN]} ({origin})" if one[_OWN] else text("config.servers.as_it_does")
        if one["own_servers_denied"]:
            own = text(
                "config.servers.without", own=own, names=", ".join(one["own_servers_denied"])
            )
        output.result("")
        output.result(
            text("config.servers.of", agent=one["agent"], project=one["project"], own=own)
        )
        output.table(
            [text(f"table.{name}") for name in ("server", "level", "origin", "standing")],
            [
                (line["name"], line["level"], line["origin"], _standing(line))
                for line in one["servers"]
            ],
        )


def _standing(line: Mapping[str, Any]) -> str:
    over = ", ".join(f"{said['level']} {said['origin']}" for said in line["overrides"])
    if line["off_by"] and line["off_by"] != line["origin"]:
        return text("config.servers.off_by", by=line["off_by"])
    if line["off_by"]:
        return text("config.servers.off", over=over or "-")
    return text("config.servers.over", over=over) if over else text("config.servers.on")
