"""Whose word a task needs: what persons, managers, reviewers and agents that want a task say about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from aiagent_coordinator.errors import ForbiddenError, NotFoundError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server import rows
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.statuses import outward
from aiagent_coordinator.server.tools import (
    MAX_MESSAGE_CHARS,
    AgentArguments,
    Arguments,
    Context,
    table,
    tool,
)
from aiagent_coordinator.server.tools_person import OneTask
from aiagent_coordinator.server.tools_steps import PRIORITIES, Priority
from aiagent_coordinator.store import projects, reviews
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task

_NEXT = "Call get_next_action."
#: Managers above an agent; more are a circle.
_MAX_LEVELS = 100
Reason = Annotated[str, Field(min_length=1, max_length=MAX_MESSAGE_CHARS)]


class ApproveTask(OneTask):
    """Arguments of `approve_task`."""

    reason: Reason | None = None


class RejectTask(OneTask):
    """Arguments of `reject_task`."""

    reason: Reason
    """What is wrong; the agent is told."""


class TaskRequest(Arguments):
    """Arguments of `approve_task_request`; of the agent's own ids all but the task's may be repeated."""

    task_id: str
    """The task that was asked for."""
    agent_id: str | None = None
    project_id: str | None = None
    run_id: str | None = None
    session_token: str | None = None


class RejectRequest(TaskRequest):
    """Arguments of `reject_task_request`."""

    reason: Reason | None = None


class Verdict(AgentArguments):
    """Arguments of `review_task`."""

    verdict: Literal["accept", "changes"]
    """Whether the result may count as it is."""
    comment: Reason
    """Why; with `changes`, what is wrong and where. Its agent is told."""


async def approve_task(context: Context, arguments: ApproveTask) -> Json:
    """Let a task begin, or its result count."""

    def work(unit: Unit) -> Json:
        task = _meant(unit, arguments.task_id)
        actor = context.identity.actor
        return {
            "task": rows.task(reviews.approve(unit, task, actor=actor, reason=arguments.reason))
        }

    return await context.board.store.write(work)


async def reject_task(context: Context, arguments: RejectTask) -> Json:
    """Refuse that a task begins, or send its result back."""

    def work(unit: Unit) -> Json:
        task = _meant(unit, arguments.task_id)
        actor = context.identity.actor
        return {"task": rows.task(reviews.reject(unit, task, actor=actor, reason=arguments.reason))}

    return await context.board.store.write(work)


def _meant(unit: Unit, named: str) -> Task:
    return task_store.lock_task(unit, task_store.find_task(unit, named).id)


async def ask_for_task(context: Context, title: str, description: str, priority: Priority) -> Json:
    """Put a task of the caller's own on the board that somebody above it must let begin."""

    def work(unit: Unit, run: Run) -> Json:
        new = task_store.NewTask(
            project_id=run.project_id,
            title=title,
            agent_id=run.agent_id,
            description=description,
            priority=PRIORITIES[priority],
            max_attempts=context.board.terms.retry.max_attempts,
            approval="pending",
        )
        made = task_store.create_task(unit, new, context.identity.actor)
        return {
            "success": True,
            "task_id": made.id,
            "approval_status": "pending_approval",
            "approvers": [*managers_above(unit, run.agent_id), reviews.PERSON],
            "message": "It is asked for, and begins when one of these lets it.",
            "instruction": _NEXT,
        }

    return await context.board.as_agent(context, work)


async def approve_task_request(context: Context, arguments: TaskRequest) -> Json:
    """Let a task begin that an agent below the caller asked for."""

    def work(unit: Unit, run: Run) -> Json:
        task = _requested(unit, run, arguments.task_id)
        after = reviews.approve(unit, task, actor=context.identity.actor)
        return _told(after, "approved")

    return await context.board.as_agent(context, work)


async def reject_task_request(context: Context, arguments: RejectRequest) -> Json:
    """Refuse a task that an agent below the caller asked for."""

    def work(unit: Unit, run: Run) -> Json:
        task = _requested(unit, run, arguments.task_id)
        reason = arguments.reason or "its manager does not want it"
        reviews.reject(unit, task, actor=context.identity.actor, reason=reason)
        return _told(task, "rejected")

    return await context.board.as_agent(context, work)


async def review_task(context: Context, arguments: Verdict) -> Json:
    """Take a reviewer's verdict."""

    def work(unit: Unit, run: Run) -> Json:
        if run.task_id is None:
            raise ForbiddenError("your task is no review")
        review = task_store.lock_task(unit, run.task_id)
        after = reviews.judge(
            unit,
            review,
            is_accepted=arguments.verdict == "accept",
            comment=arguments.comment,
            actor=context.identity.actor,
        )
        return {
            "success": True,
            "task_id": after.id,
            "status": outward(after),
            "verdict": arguments.verdict,
            "instruction": _NEXT,
        }

    return await context.board.as_agent(context, work)


def managers_above(unit: Unit, agent_id: str) -> list[str]:
    """The managers of an agent, the nearest first, up to the person that it works for."""
    found: list[str] = []
    above = projects.get_agent(unit, agent_id).parent_id
    while above is not None and above not in found and len(found) < _MAX_LEVELS:
        manager = projects.get_agent(unit, above)
        if manager.is_person:
            break
        found.append(above)
        above = manager.parent_id
    return found


def _requested(unit: Unit, run: Run, task_id: str) -> Task:
    """A task that an agent below a manager asked for, locked.

    Raises:
        NotFoundError: there is no such task in the project.
        ForbiddenError: its agent does not work for the manager.
    """
    try:
        task = task_store.lock_task(unit, task_id)
    except NotFoundError:
        task = None
    if task is None or task.project_id != run.project_id:
        raise NotFoundError(f"Task not found: {task_id[:100]}")
    if task.agent_id is None or run.agent_id not in managers_above(unit, task.agent_id):
        raise ForbiddenError("its agent does not work for you")
    return task


def _told(task: Task, word: str) -> Json:
    return {
        "success": True,
        "task_id": task.id,
        "status": word,
        "message": f"It is {word}.",
        "instruction": _NEXT,
    }


PERSON_TOOLS = table(
    (
        tool(ApproveTask, approve_task, "Let a task begin, or its result count.", Role.PERSON),
        tool(RejectTask, reject_task, "Refuse a task, or send its result back.", Role.PERSON),
    )
)
TOOLS = table(
    (
        tool(
            TaskRequest,
            approve_task_request,
            "Let a task begin that an agent below you asked for.",
            Role.AGENT,
            names_tasks=True,
        ),
        tool(
            RejectRequest,
            reject_task_request,
            "Refuse a task that an agent below you asked for.",
            Role.AGENT,
            names_tasks=True,
        ),
        tool(Verdict, review_task, "Say whether the result that you judge may count.", Role.AGENT),
    )
)
