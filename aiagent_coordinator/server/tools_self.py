"""What an agent calls about itself: who it is, which model it is, and what it may call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from aiagent_coordinator.clock import iso
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import ANY_PURPOSE, AgentArguments, Context, table, tool
from aiagent_coordinator.store import projects
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Duty

_NEXT = "Call get_next_action."


class Model(AgentArguments):
    """Arguments of `report_model`."""

    provider: str = Field(max_length=200)
    model_id: str = Field(max_length=200)


class Help(AgentArguments):
    """Arguments of `help`."""

    tool_name: str | None = None


async def get_my_profile(context: Context, arguments: AgentArguments) -> Json:
    """Tell an agent who it is."""
    del arguments

    def work(unit: Unit, run: Run) -> Json:
        agent = projects.get_agent(unit, run.agent_id)
        return {
            "success": True,
            "id": agent.id,
            "name": agent.name,
            "role": agent.role,
            "type": "ai",
            "role_type": agent.hierarchy.value,
            "hierarchy_type": agent.hierarchy.value,
            "parent_agent_id": agent.parent_id,
            "capabilities": [],
            "status": "active" if agent.enabled else "inactive",
            "ai_type": agent.provider,
            "model": agent.model,
            "started_at": iso(run.created_at),
        }

    return await context.board.as_agent(context, work)


async def report_model(context: Context, arguments: Model) -> Json:
    """Compare the model that an agent says it is with the one that it was started with."""

    def work(unit: Unit, run: Run) -> Json:
        agent = projects.get_agent(unit, run.agent_id)
        is_same = arguments.provider == run.provider and (
            agent.model is None or arguments.model_id.startswith(agent.model)
        )
        said = "as expected" if is_same else "another one than was asked for; it was noted"
        return {
            "success": True,
            "verified": is_same,
            "message": f"The model is {said}.",
            "instruction": _NEXT,
        }

    return await context.board.as_agent(context, work)


async def help(context: Context, arguments: Help) -> Json:  # noqa: A001 - the tool's name
    """List what the caller may call, or one tool's arguments."""
    identity = context.identity
    offered = {name: one.info for name, one in context.board.tools_of(identity).items()}
    about: Json = {
        "caller_type": (identity.duty or Duty.WORKER).value,
        "session_purpose": str(identity.purpose),
        "agent_id": identity.agent_id,
        "project_id": identity.project_id,
    }
    if arguments.tool_name is None:
        listed = [{"name": one.name, "description": one.description} for one in offered.values()]
        return {"success": True, "context": about, "tools": listed}
    found = offered.get(arguments.tool_name)
    if found is None:
        return {"success": False, "context": about, "error": "there is no such tool for you"}
    parameters: Mapping[str, Any] = found.input_schema
    return {
        "success": True,
        "context": about,
        "tool": {"name": found.name, "description": found.description, "parameters": parameters},
    }


TOOLS = table(
    (
        tool(AgentArguments, get_my_profile, "Read who you are.", Role.AGENT, purposes=ANY_PURPOSE),
        tool(Model, report_model, "Say which model you are.", Role.AGENT, purposes=ANY_PURPOSE),
        tool(
            Help,
            help,
            "List what you may call, or one tool's arguments.",
            Role.AGENT,
            purposes=ANY_PURPOSE,
        ),
    )
)
