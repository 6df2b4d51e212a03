"""What of its agent's equipment a run's task is given: servers beside ours, and skills."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.pipeline.context import Context
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.providers.mcp_servers import Server
from aiagent_coordinator.task_options import MCP_SERVERS, SKILLS, allowed


def servers_of(record: RunRecord, context: Context) -> tuple[Server, ...]:
    """The servers that the run's CLI is told of, beside ours."""
    if record.is_guest:
        return ()
    has = context.catalog.servers(record.project_id, record.agent_id)
    given = allowed(record.task.get("options"), MCP_SERVERS)
    return has if given is None else tuple(one for one in has if one.name in given)


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
