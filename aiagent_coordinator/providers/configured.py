"""The catalogue as the configuration wants it: what its CLIs cannot do is refused with file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aiagent_coordinator.config import Loaded
from aiagent_coordinator.config.models import AgentSettings, ProjectSettings, Settings
from aiagent_coordinator.config.provider import ProviderSettings
from aiagent_coordinator.config.source import KeyPath, Problem, dotted, refuse, shown
from aiagent_coordinator.errors import ProviderError
from aiagent_coordinator.providers import options
from aiagent_coordinator.providers.catalog import Catalog, Choices, load_catalog
from aiagent_coordinator.providers.mcp_servers import Server, merged
from aiagent_coordinator.providers.modes import can_ask, mode_of
from aiagent_coordinator.providers.options import Chosen
from aiagent_coordinator.providers.shape import Definition, McpStyle

_LINE = re.compile(r":(\d+)\Z")
#: Those have no CLI that could be held to anything.
_UNBOUND = frozenset({"command", "rehearsal"})


def configured_catalog(loaded: Loaded) -> Catalog:
    """The definitions, with what the configuration wants of each.

    Raises:
        ProviderError: a definition is wrong, or an entry of `ai_providers` makes none.
        ConfigError: a CLI cannot do what is wanted of it; every such line is told.
    """
    settings = loaded.settings
    catalog = load_catalog(settings.ai_providers)
    problems = [
        Problem(_line(loaded, key), key, reason) for key, reason in refusals(settings, catalog)
    ]
    if problems:
        raise refuse(shown(loaded.file) if loaded.file else "settings", problems)
    return catalog.choosing(choices_of(settings))


def choices_of(settings: Settings) -> Choices:
    """What is wanted of each provider and by each agent."""
    return Choices(
        by_provider={name: _of_provider(one) for name, one in settings.ai_providers.items()},
        by_agent={name: Chosen(one.options()) for name, one in settings.agents.items()},
        by_project={one.id: _of_project(one) for one in settings.projects},
        extra_of_provider={name: one.extra_args for name, one in settings.ai_providers.items()},
        extra_of_agent={name: one.extra_args for name, one in settings.agents.items()},
        servers=_servers(settings),
    )


def _servers(settings: Settings) -> dict[tuple[str, str], tuple[Server, ...]]:
    """The servers of each agent in each project; a project or agent of the board alone has the outer ones."""
    projects = {"": {}} | {one.id: one.mcp_servers for one in settings.projects}
    agents = {"": {}} | {name: one.mcp_servers for name, one in settings.agents.items()}
    return {
        (project, agent): merged((settings.mcp_servers, of_project, of_agent))
        for project, of_project in projects.items()
        for agent, of_agent in agents.items()
    }


def refusals(settings: Settings, catalog: Catalog) -> Iterator[tuple[KeyPath, str]]:
    """What the CLIs cannot do of what is wanted: the setting and the reason."""
    for name, entry in settings.ai_providers.items():
        definition = catalog.get(name)
        yield from _refused(("ai_providers", name), definition, _of_provider(entry), entry)
    for name, agent in settings.agents.items():
        if agent.provider not in catalog:
            continue  # told by whoever reads the settings
        definition = catalog.get(agent.provider)
        yield from _refused(("agents", name), definition, Chosen(agent.options()), agent)
        yield from _conflicts(settings, name, agent, definition)
        yield from _mode_refusals(name, agent, definition)
        for server in agent.mcp_servers:
            if not definition.can_report:
                yield ("agents", name, "mcp_servers", server), f"{definition.title} has no servers"
        for reason in _server_refusals(settings, name, definition):
            yield ("agents", name, "provider"), reason
        can = definition.can.approval
        if agent.approval not in can and agent.provider not in _UNBOUND:
            reason = (
                f"{definition.title} cannot be held to {agent.approval!r}; it can: {', '.join(can)}"
            )
            yield ("agents", name, "approval"), reason
    yield from _project_refusals(settings, catalog)


def _project_refusals(settings: Settings, catalog: Catalog) -> Iterator[tuple[KeyPath, str]]:
    """What agents of a project cannot do of what the project wants of each."""
    for index, project in enumerate(settings.projects):
        for name in project.agents:
            agent = settings.agents.get(name)
            if agent is None or agent.provider not in catalog:
                continue
            definition = catalog.get(agent.provider)
            for option, reason in options.refusals(definition, _of_project(project)):
                yield ("projects", index, option), f"agent {name}: {reason}"


def _mode_refusals(
    name: str, agent: AgentSettings, definition: Definition
) -> Iterator[tuple[KeyPath, str]]:
    """Whether its program can be driven so, and can ask for leave then."""
    try:
        mode = mode_of(definition, agent.mode)
    except ProviderError as error:
        yield ("agents", name, "mode"), error.message
        return
    if agent.asks_leave and not can_ask(definition, mode):
        reason = f"{definition.title} cannot ask for leave: its approval alone says what it may do"
        yield ("agents", name, "permissions"), reason


def _server_refusals(settings: Settings, name: str, definition: Definition) -> Iterator[str]:
    """Which servers of an agent, in any project, its program cannot be told of."""
    mine = {one for pair, all_of in _servers(settings).items() if pair[1] == name for one in all_of}
    for server in sorted(mine, key=lambda one: one.name):
        if not server.url or not definition.can_report:
            continue
        if not definition.mcp.http:
            yield f"{definition.title} takes no server at an address: mcp_servers.{server.name}"
        elif server.headers and definition.mcp.style is McpStyle.INLINE:
            told = "the headers would stand in an argument that everybody can read"
            yield f"{definition.title} cannot be told of mcp_servers.{server.name}: {told}"


def _refused(
    here: KeyPath, definition: Definition, chosen: Chosen, entry: ProviderSettings | AgentSettings
) -> Iterator[tuple[KeyPath, str]]:
    for option, reason in options.refusals(definition, chosen):
        yield (*here, option), reason
    if entry.extra_args and options.EXTRA_ARGS not in options.supported(definition):
        reason = f"the definition {definition.name} says nowhere where they stand; use cli_args"
        yield (*here, "extra_args"), reason


def _conflicts(
    settings: Settings, name: str, agent: AgentSettings, definition: Definition
) -> Iterator[tuple[KeyPath, str]]:
    """Options of an agent, or of its provider, that have no effect beside another of either."""
    own = Chosen(agent.options())
    entry = settings.ai_providers.get(agent.provider)
    for option, reason in options.conflicts(
        definition, own.over(_of_provider(entry)) if entry else own
    ):
        where = ("agents", name) if option in own.names() else ("ai_providers", agent.provider)
        yield (*where, option), reason


def _of_provider(entry: ProviderSettings) -> Chosen:
    secrets = {} if entry.api_key is None else {"api_key": entry.api_key}
    return Chosen(entry.options(), secrets)


def _of_project(entry: ProjectSettings) -> Chosen:
    return Chosen({} if entry.own_servers is None else {"own_servers": entry.own_servers})


def _line(loaded: Loaded, key: KeyPath) -> int:
    """The line of a setting, else the first one of what is nearest around it, else 0."""
    for length in range(len(key), 0, -1):
        name = dotted(key[:length])
        inside = (f"{name}.", f"{name}[")
        found = [
            int(match[1])
            for one, where in loaded.origins.items()
            if (one == name or one.startswith(inside)) and (match := _LINE.search(where))
        ]
        if found:
            return min(found)
    return 0
