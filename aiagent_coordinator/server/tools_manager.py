"""What only a manager calls: who works for it, who does what, and how it goes on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aiagent_coordinator.errors import ForbiddenError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server import delegation, following
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.statuses import outward
from aiagent_coordinator.server.tools import AgentArguments, Arguments, Context, table, tool
from aiagent_coordinator.server.tools_next import choose
from aiagent_coordinator.store import managing, projects, subtasks
from aiagent_coordinator.store.unit import Unit

_NEXT = "Call get_next_action."


class AssignTask(Arguments):
    """Arguments of `assign_task`; of the agent's own ids all but the task's may be repeated."""

    task_id: str
    """The sub-task."""
    assignee_id: str | None = None
    """Who is to do it: an agent that works for you; nobody when it is left away."""
    agent_id: str | None = None
    project_id: str | None = None
    run_id: str | None = None
    session_token: str | None = None


class SelectAction(AgentArguments):
    """Arguments of `select_action`."""

    action: Annotated[str, Field(min_length=1, max_length=100)]
    """One of the `choices` that get_next_action gave: dispatch_task, adjust, wait or complete."""
    reason: str | None = Field(None, max_length=2000)
    """Why, in one sentence."""


class OneSubordinate(Arguments):
    """Arguments of a manager's `get_subordinate_profile`."""

    agent_id: str
    """An agent that works for you."""
    project_id: str | None = None
    run_id: str | None = None
    session_token: str | None = None


async def list_subordinates(context: Context, arguments: AgentArguments) -> Json:
    """List the agents that work for the manager here."""
    del arguments

    def work(unit: Unit, run: Run) -> Json:
        found = subtasks.subordinates(unit, run.agent_id, run.project_id)
        return {"success": True, "subordinates": [delegation.subordinate(one) for one in found]}

    return await context.board.as_agent(context, work)


async def get_subordinate_profile(context: Context, arguments: OneSubordinate) -> Json:
    """Show one of the agents that work for the manager here."""
    named = arguments.agent_id

    def work(unit: Unit, run: Run) -> Json:
        mine = subtasks.subordinates(unit, run.agent_id, run.project_id)
        found = next((one for one in mine if one.id == named), None)
        if found is None:
            listed = ", ".join(one.id for one in mine) or "nobody"
            raise ForbiddenError(
                f"agent {named[:100]} does not work for you", hint=f"there are: {listed}"
            )
        return {
            "success": True,
            **delegation.subordinate(found),
            "parent_agent_id": found.parent_id,
            "ai_type": found.provider,
            "max_parallel_tasks": found.max_concurrent,
            "system_prompt": found.role,
        }

    return await context.board.as_agent(context, work)


async def assign_task(context: Context, arguments: AssignTask) -> Json:
    """Give a sub-task to somebody, or take it back."""

    def work(unit: Unit, run: Run) -> Json:
        parent = delegation.own_task(unit, run)
        after, before = managing.assign(unit, parent, arguments.task_id, arguments.assignee_id)
        agent = None if after.agent_id is None else projects.get_agent(unit, after.agent_id)
        return {
            "success": True,
            "message": f"It is {agent.id}'s now." if agent else "It is nobody's now.",
            "task_id": after.id,
            "status": outward(after),
            "assignee_id": after.agent_id,
            "assignee_name": agent.name if agent else None,
            "previous_assignee_id": before,
            "instruction": _NEXT,
        }

    return await context.board.as_agent(context, work)


async def select_action(context: Context, arguments: SelectAction) -> Json:
    """Take a manager's choice of how to go on."""

    def work(unit: Unit, run: Run) -> Json:
        workflow = following.workflow_of(unit, run, context.board.workflows)
        state = following.state_of(unit, run, following.parts_of(unit, run))
        choose(unit, run, workflow, state, arguments.action)
        return {
            "success": True,
            "selected_action": arguments.action,
            "reason": arguments.reason,
            "message": _NEXT,
        }

    return await context.board.as_agent(context, work)


TOOLS = table(
    (
        tool(AgentArguments, list_subordinates, "List the agents that work for you.", Role.AGENT),
        tool(
            OneSubordinate,
            get_subordinate_profile,
            "Read who one of the agents that work for you is.",
            Role.AGENT,
            names_agents=True,
        ),
        tool(
            AssignTask,
            assign_task,
            "Give a sub-task of yours to an agent that works for you, or take it back.",
            Role.AGENT,
            names_tasks=True,
        ),
        tool(SelectAction, select_action, "Choose how you go on.", Role.AGENT),
    )
)
