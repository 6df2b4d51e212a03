"""What an agent may do in a chat because a person ordered it there, with a marker.

The order is the person's own stored message, which this session has read; its id is the argument.
Without one the last that it has read counts, as AI Agent PM's agents expect. What an agent writes
itself gives it no right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from aiagent_coordinator.chats import Message, NoticeKind
from aiagent_coordinator.errors import ForbiddenError, NotFoundError, ValidationError
from aiagent_coordinator.runs import Purpose, Run
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.statuses import outward
from aiagent_coordinator.server.tools import (
    ANY_PURPOSE,
    CHAT,
    MAX_MESSAGE_CHARS,
    Arguments,
    Context,
    table,
    tool,
)
from aiagent_coordinator.server.tools_review import ask_for_task
from aiagent_coordinator.server.tools_steps import MAX_TEXT_CHARS, PRIORITIES, Priority
from aiagent_coordinator.store import chat, notifications, orders
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, Task, TaskStatus
from aiagent_coordinator.workflows.chat import allows, marker_of

_NEXT = "Call get_next_action."
#: How far back the same request is looked for.
_RECENT = 100


class Order(Arguments):
    """What every order has; of the agent's own ids all but the task's may be repeated."""

    message_id: str | None = None
    """The person's message that orders it; without, the last one that you read."""
    agent_id: str | None = None
    project_id: str | None = None
    run_id: str | None = None
    session_token: str | None = None


class RequestTask(Order):
    """Arguments of `request_task`."""

    title: str
    description: str = Field("", max_length=MAX_TEXT_CHARS)
    priority: Priority = "normal"


class NotifyTaskSession(Order):
    """Arguments of `notify_task_session`."""

    message: Annotated[str, Field(min_length=1, max_length=MAX_MESSAGE_CHARS)]
    related_task_id: str | None = None
    conversation_id: str | None = None
    """Not used: a notice is told, whatever it comes from."""
    priority: Literal["low", "normal", "high", "urgent"] = "normal"


class OneTaskOrder(Order):
    """Arguments of `start_task_from_chat`."""

    task_id: str
    """A task of yours in this project."""
    requester_id: str | None = None
    """Not used: the message says who wants it."""


class UpdateTask(OneTaskOrder):
    """Arguments of `update_task_from_chat`."""

    description: str | None = Field(None, max_length=MAX_TEXT_CHARS)
    status: str | None = None
    """What it becomes: todo, backlog or cancelled."""


async def request_task(context: Context, arguments: RequestTask) -> Json:
    """Put a task for the agent into the backlog, or at work on one ask for another."""
    if context.identity.purpose is Purpose.TASK:
        asked = (arguments.title, arguments.description, arguments.priority)
        return await ask_for_task(context, *asked)

    def work(unit: Unit, run: Run, order: Message) -> Json:
        made = _made_before(unit, run, order, arguments.title) or task_store.create_task(
            unit,
            task_store.NewTask(
                project_id=run.project_id,
                title=arguments.title,
                agent_id=run.agent_id,
                description=arguments.description,
                status=TaskStatus.BACKLOG,
                priority=PRIORITIES[arguments.priority],
                max_attempts=context.board.terms.retry.max_attempts,
            ),
            context.identity.actor,
        )
        text = "The task is in the backlog. It begins when a person starts it."
        return {
            "task_id": made.id,
            "status": outward(made),
            "approval_status": "approved",
            "approvers": [],
            "message": text,
        }

    return await _ordered(context, arguments, work)


def _made_before(unit: Unit, run: Run, order: Message, title: str) -> Task | None:
    """The task that this order has made already."""
    which = task_store.TaskFilter(project_id=run.project_id, agent_id=run.agent_id)
    for one in task_store.list_tasks(unit, which, limit=_RECENT, newest=True):
        is_since = one.created_at >= order.created_at
        if is_since and one.title == title.strip() and one.status not in TERMINAL:
            return one
    return None


async def notify_task_session(context: Context, arguments: NotifyTaskSession) -> Json:
    """Tell the agent's session that works on a task what a person said here."""

    def work(unit: Unit, run: Run, order: Message) -> Json:
        del order
        about = arguments.related_task_id
        if about is not None:
            orders.within_reach(unit, run, about)
        notice = notifications.new(
            run.agent_id,
            run.project_id,
            NoticeKind.CHAT,
            arguments.priority,
            (arguments.message, "Take it into account in your task."),
            purpose=Purpose.TASK,
            task_id=about,
        )
        sent = notifications.send(unit, notice, actor=context.identity.actor)
        return {"notification_id": sent.id}

    return await _ordered(context, arguments, work)


async def start_task_from_chat(context: Context, arguments: OneTaskOrder) -> Json:
    """Let a task be taken up, under the rules that hold for every task."""

    def work(unit: Unit, run: Run, order: Message) -> Json:
        del order
        task = orders.within_reach(unit, run, arguments.task_id)
        started = orders.start(unit, task, actor=context.identity.actor)
        return {
            "task_id": task.id,
            "previous_status": outward(task),
            "new_status": outward(started),
        }

    return await _ordered(context, arguments, work)


async def update_task_from_chat(context: Context, arguments: UpdateTask) -> Json:
    """Change what a task says, or put it away."""

    def work(unit: Unit, run: Run, order: Message) -> Json:
        del order
        task = orders.within_reach(unit, run, arguments.task_id)
        actor = context.identity.actor
        updated: list[str] = []
        if arguments.description is not None:
            task = orders.describe(unit, task, arguments.description, actor=actor)
            updated.append("description")
            _tell_its_run(unit, task, actor)
        if arguments.status is not None:
            task = _moved(unit, task, arguments.status, actor)
            updated.append("status")
        if not updated:
            raise ValidationError("name a description or a status", key="description")
        return {"task_id": task.id, "updated_fields": updated, "status": outward(task)}

    return await _ordered(context, arguments, work)


def _moved(unit: Unit, task: Task, word: str, actor: str) -> Task:
    match word:
        case "cancelled":
            return task_store.cancel_task(unit, task.id, actor=actor)
        case "todo":
            return orders.start(unit, task, actor=actor)
        case "backlog":
            return orders.shelve(unit, task, actor=actor)
        case _:
            raise ValidationError(
                f"Invalid status: {word[:100]}. Valid values: todo, backlog, cancelled",
                key="status",
            )


def _tell_its_run(unit: Unit, task: Task, actor: str) -> None:
    run = run_store.live_run_of(unit, task.id)
    if run is not None:
        words = ("What your task says was changed.", "Call get_my_task and read it again.")
        notice = notifications.interrupt(run, "task_described", words)
        notifications.send(unit, notice, actor=actor)


async def _ordered(
    context: Context, arguments: Order, work: Callable[[Unit, Run, Message], Json]
) -> Json:
    """Do what a person ordered.

    Raises:
        ForbiddenError: no message of a person that this session has read orders it.
    """
    name = context.call.name

    def check_and_work(unit: Unit, run: Run) -> Json:
        try:
            order = chat.heard_by(unit, run, arguments.message_id)
        except NotFoundError:
            order = None
        if order is None or not allows(order.body, name):
            unit.emit(
                "run.refused",
                actor=context.identity.actor,
                project_id=run.project_id,
                run_id=run.id,
                agent_id=run.agent_id,
                refusal=True,
                tool=name,
                code=ForbiddenError.code,
            )
            raise ForbiddenError(
                f"{name} needs a message of a person with {marker_of(name)}",
                hint="ask the person to write it; message_id names the message",
            )
        return {"success": True, **work(unit, run, order), "instruction": _NEXT}

    return await context.board.as_agent(context, check_and_work)


TOOLS = table(
    (
        tool(
            RequestTask,
            request_task,
            "Ask for a task of your own that somebody above you must let begin; in a chat, when a person "
            "ordered it, put one into the backlog.",
            Role.AGENT,
            purposes=ANY_PURPOSE,
        ),
        tool(
            NotifyTaskSession,
            notify_task_session,
            "Tell your session that works on a task, when a person ordered it.",
            Role.AGENT,
            purposes=CHAT,
        ),
        tool(
            OneTaskOrder,
            start_task_from_chat,
            "Let a task of yours begin, when a person ordered it.",
            Role.AGENT,
            names_tasks=True,
            purposes=CHAT,
        ),
        tool(
            UpdateTask,
            update_task_from_chat,
            "Change a task of yours, when a person ordered it.",
            Role.AGENT,
            names_tasks=True,
            purposes=CHAT,
        ),
    )
)
