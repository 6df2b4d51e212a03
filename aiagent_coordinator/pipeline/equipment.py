"""What of its agent's equipment a run's task is given: servers beside ours, and skills."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.pipeline.context import Context
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.providers.mcp_servers import Server
from aiagent_coordinator.providers.options import Chosen, in_force
from aiagent_coordinator.task_options import MCP_SERVERS, SKILLS, allowed

#: The option that says what becomes of servers of a CLI's own settings, and its values.
OWN_SERVERS, NO_OWN_SERVERS, INHERIT = "own_servers", "none", "inherit"


def servers_of(record: RunRecord, context: Context) -> tuple[Server, ...]:
    """The servers that the run's CLI is told of, beside ours."""
    if record.is_guest:
        return ()
    has = context.catalog.servers(record.project_id, record.agent_id)
    given = allowed(record.task.get("options"), MCP_SERVERS)
    return has if given is None else tuple(one for one in has if one.name in given)


def options_of(record: RunRecord, context: Context) -> Chosen:
    """What is wanted of the run's CLI.

    A task that is given no servers is given none of the CLI's own either, where that can be told it.
    """
    chosen = context.catalog.chosen(record.provider, record.agent_id, record.project_id)
    if allowed(record.task.get("options"), MCP_SERVERS) != frozenset():
        return chosen
    known = context.catalog.get(record.provider).options.get(OWN_SERVERS)
    can = known is not None and NO_OWN_SERVERS in known.allowed
    return Chosen({OWN_SERVERS: NO_OWN_SERVERS}).over(chosen) if can else chosen


def warnings_of(record: RunRecord, context: Context) -> dict[str, str]:
    """What a task that is given no servers has all the same."""
    definition = context.catalog.get(record.provider)
    is_off = allowed(record.task.get("options"), MCP_SERVERS) == frozenset()
    if not is_off or in_force(definition, options_of(record, context)).get(OWN_SERVERS) != INHERIT:
        return {}
    told = "cannot be told to leave out the servers of its own settings, which stay: see own_servers_denied"
    return {MCP_SERVERS: f"{definition.title} {told}"}


def check(record: RunRecord, context: Context) -> None:
    """See that its agent has what the task is to be given.

    Raises:
        ValidationError: it has not; what is missing is named, and what there is.
    """
    if record.is_guest:
        return
    servers = context.catalog.servers(record.project_id, record.agent_id)
    has = {
        MCP_SERVERS: {one.name for one in servers},
        SKILLS: set(_skills(record.agent.get("skills") or ())),
    }
    for kind, names in has.items():
        missing = sorted((allowed(record.task.get("options"), kind) or frozenset()) - names)
        if missing:
            what = "MCP servers" if kind == MCP_SERVERS else "skills"
            raise ValidationError(
                f"the task is to be given {what} that agent {record.agent_id} does not have in "
                f"project {record.project_id}: {', '.join(missing)}; it has: "
                f"{', '.join(sorted(names)) or 'none'}"
            )


def _skills(listed: Iterable[Any]) -> Iterable[str]:
    for one in listed:
        if isinstance(one, dict):
            yield str(cast("dict[str, Any]", one).get("directory_name"))
