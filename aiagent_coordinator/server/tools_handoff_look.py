"""How people and coordinators see what agents left each other."""

from __future__ import annotations

from aiagent_coordinator.server import rows
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import Arguments, Context, table, tool
from aiagent_coordinator.server.tools_person import Page, meant_agent, meant_project
from aiagent_coordinator.store import handoffs as handoff_store
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.unit import Unit


class ListHandoffs(Page):
    """Arguments of `list_handoffs`."""

    project_id: str | None = None
    task_id: str | None = None
    agent_id: str | None = None
    """For whom they are."""
    pending: bool = False
    """Only those that nobody has taken, of tasks that are not over."""


class OneHandoff(Arguments):
    """A hand-off by its id, or the beginning of it."""

    handoff_id: str


async def list_handoffs(context: Context, arguments: ListHandoffs) -> Json:
    """List hand-offs."""

    def work(unit: Unit) -> Json:
        project, task, agent = arguments.project_id, arguments.task_id, arguments.agent_id
        which = handoff_store.HandoffFilter(
            project_id=None if project is None else meant_project(unit, project),
            task_id=None if task is None else task_store.find_task(unit, task).id,
            to_agent_id=None if agent is None else meant_agent(unit, agent),
            is_pending=arguments.pending,
        )
        found = handoff_store.list_handoffs(
            unit,
            which,
            limit=arguments.limit + 1,
            after=arguments.after,
            newest=arguments.newest,
        )
        return rows.page("handoffs", [rows.plain(one) for one in found], arguments.limit)

    return await context.board.store.read(work)


async def get_handoff(context: Context, arguments: OneHandoff) -> Json:
    """Show one hand-off."""
    found = await context.board.store.read(
        lambda unit: handoff_store.find(unit, arguments.handoff_id)
    )
    return {"handoff": rows.plain(found)}


TOOLS = table(
    (
        tool(
            ListHandoffs,
            list_handoffs,
            "List what agents left each other.",
            Role.PERSON,
            Role.COORDINATOR,
        ),
        tool(OneHandoff, get_handoff, "Show a hand-off.", Role.PERSON),
    )
)
