"""What an agent reads of what it was told without having asked."""

from __future__ import annotations

from aiagent_coordinator.chats import Notice
from aiagent_coordinator.clock import iso
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import ANY_PURPOSE, AgentArguments, Context, table, tool
from aiagent_coordinator.store import notifications, tells
from aiagent_coordinator.store.unit import Unit


class GetNotifications(AgentArguments):
    """Arguments of `get_notifications`."""

    mark_as_read: bool = True
    """False: they are told again."""


async def get_notifications(context: Context, arguments: GetNotifications) -> Json:
    """Tell an agent what waits for it."""

    def work(unit: Unit, run: Run) -> Json:
        found = notifications.unread(unit, run)
        if arguments.mark_as_read:
            notifications.mark_read(unit, run, found)
            tells.noticed(unit, run, (one.id for one in found))
        return {
            "success": True,
            "count": len(found),
            "notifications": [_shown(one) for one in found],
        }

    return await context.board.as_agent(context, work)


def _shown(notice: Notice) -> Json:
    shown: Json = {
        "id": notice.id,
        "type": notice.kind.value,
        "action": notice.action,
        "message": notice.message,
        "instruction": notice.instruction,
        "created_at": iso(notice.created_at),
    }
    return shown if notice.task_id is None else {**shown, "task_id": notice.task_id}


TOOLS = table(
    (
        tool(
            GetNotifications,
            get_notifications,
            "Read what you are to know beside your task.",
            Role.AGENT,
            purposes=ANY_PURPOSE,
        ),
    )
)
