"""Hand-offs: what agents leave each other for a task."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from aiagent_coordinator import handoffs
from aiagent_coordinator.chats import NoticeKind
from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.handoffs import Handoff
from aiagent_coordinator.redaction import printable
from aiagent_coordinator.runs import Purpose, Run
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import (
    ANY_PURPOSE,
    AgentArguments,
    Context,
    table,
    tool,
)
from aiagent_coordinator.store import handoffs as handoff_store
from aiagent_coordinator.store import notifications
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task

#: Of one list that an agent is given.
MAX_LISTED: Final = 50
_NEXT = "Call get_next_action."


class HandOver(AgentArguments):
    """Arguments of `hand_over`."""

    summary: Annotated[str, Field(min_length=1, max_length=handoffs.MAX_SUMMARY_CHARS)]
    """What was done, and how it stands."""
    context: Annotated[str, Field(max_length=handoffs.MAX_CONTEXT_CHARS)] | None = None
    """What one must know to go on."""
    recommendations: Annotated[str, Field(max_length=handoffs.MAX_RECOMMENDATIONS_CHARS)] | None = (
        None
    )
    """What you would do next."""
    to_agent_id: str | None = None
    """An agent of your project; whoever works on the task when it is left away."""
    task_id: str | None = None
    """The task that it is for, one of your project; your own when it is left away."""


class TakeHandoff(AgentArguments):
    """Arguments of `take_handoff`."""

    handoff_id: str


class ListMine(AgentArguments):
    """Arguments of an agent's `list_handoffs`."""

    task_id: str | None = None
    """Only those for this task."""


async def hand_over(context: Context, arguments: HandOver) -> Json:
    """Leave something for who goes on with a task."""
    mask = context.board.terms.mask

    def clean(text: str | None) -> str | None:
        return printable(mask(text)).strip() or None if text else None

    summary = clean(arguments.summary)
    if summary is None:
        raise ValidationError("the summary is empty", key="summary")

    def work(unit: Unit, run: Run) -> Json:
        task_id = arguments.task_id or run.task_id
        if task_id is None:
            raise ValidationError("name the task that it is for", key="task_id")
        new = handoff_store.NewHandoff(
            task_id,
            summary,
            arguments.to_agent_id,
            clean(arguments.context),
            clean(arguments.recommendations),
        )
        made = handoff_store.make(unit, run, new)
        _tell(unit, run, made)
        return {
            "success": True,
            "handoff": line(made),
            "instruction": "It is kept, and shown with the task. Your own task is still yours: go on.",
        }

    return await context.board.as_agent(context, work)


def _tell(unit: Unit, run: Run, made: Handoff) -> None:
    """Let a session of whom it names hear of it."""
    if made.to_agent_id in (None, run.agent_id):
        return
    words = (
        f"Agent {run.agent_id} handed something over to you.",
        f"Call take_handoff with handoff_id {made.id}, if it is about what you do.",
    )
    notice = notifications.new(
        str(made.to_agent_id),
        made.project_id,
        NoticeKind.MESSAGE,
        "handoff",
        words,
        purpose=Purpose.TASK,
        task_id=made.task_id,
    )
    notifications.send(unit, notice, actor=f"agent:{run.agent_id}")


async def take_handoff(context: Context, arguments: TakeHandoff) -> Json:
    """Accept what another agent left."""

    def work(unit: Unit, run: Run) -> Json:
        taken = handoff_store.take(unit, run, arguments.handoff_id)
        return {"success": True, "handoff": line(taken), "instruction": _NEXT}

    return await context.board.as_agent(context, work)


async def list_handoffs(context: Context, arguments: ListMine) -> Json:
    """List what waits for the agent."""

    def work(unit: Unit, run: Run) -> Json:
        which = handoff_store.HandoffFilter(
            project_id=run.project_id,
            task_id=arguments.task_id,
            to_agent_id=run.agent_id,
            is_pending=True,
        )
        found = handoff_store.list_handoffs(unit, which, limit=MAX_LISTED, newest=True)
        return {"success": True, "handoffs": [line(one) for one in found], "instruction": _NEXT}

    return await context.board.as_agent(context, work)


def line(one: Handoff) -> Json:
    """A hand-off as agents see it."""
    return {
        "handoff_id": one.id,
        "task_id": one.task_id,
        "from_agent_id": one.from_agent_id,
        "to_agent_id": one.to_agent_id,
        "summary": one.summary,
        "context": one.context,
        "recommendations": one.recommendations,
        "created_at": iso(one.created_at),
        "accepted_at": iso(one.accepted_at),
        "accepted_by": one.accepted_by,
    }


def beside(unit: Unit, run: Run, task: Task) -> Json:
    """What `get_my_task` says of hand-offs: all as one text for who reads that, and each by itself."""
    left = handoff_store.for_run(unit, task.id, run.agent_id)
    said = [
        f"Agent {one.from_agent_id} handed over:\n\n"
        + handoffs.words(one.summary, one.context, one.recommendations)
        for one in left
    ]
    before = [task.handoff] if task.handoff else []
    return {
        "handoff": "\n\n".join((*before, *said)) or None,
        "handoffs": [line(one) for one in left],
    }


TOOLS = table(
    (
        tool(
            HandOver,
            hand_over,
            "Leave an agent of your project what it needs to go on with a task. Moves no task.",
            Role.AGENT,
            names_tasks=True,
        ),
        tool(TakeHandoff, take_handoff, "Accept what another agent left for you.", Role.AGENT),
        tool(
            ListMine,
            list_handoffs,
            "List what others left for you, newest first.",
            Role.AGENT,
            names_tasks=True,
            purposes=ANY_PURPOSE,
        ),
    )
)
