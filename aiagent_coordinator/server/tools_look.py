"""What an agent may look at beyond its own task: the tasks of its project, and its own runs there.

Nothing of another project is shown, and nothing can be changed here. Words are those of AI Agent PM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field

from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import NotFoundError, ValidationError
from aiagent_coordinator.runs import Run, RunOutcome, RunPhase
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.statuses import OUTWARD, outward, reason
from aiagent_coordinator.server.tools import (
    ANY_PURPOSE,
    AgentArguments,
    Arguments,
    Context,
    Tool,
    table,
    tool,
)
from aiagent_coordinator.store import dependencies, projects
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.runs import RunFilter
from aiagent_coordinator.store.tasks import TaskFilter
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task

#: Tasks and runs that one answer lists.
MAX_LINES = 100


class ListProjectTasks(AgentArguments):
    """Arguments of an agent's `list_tasks`."""

    status: str | None = None
    """Only those that are so: backlog, todo, in_progress, blocked, done or cancelled."""
    assignee_id: str | None = None
    """Only those of this agent."""


class LookAtTask(Arguments):
    """Arguments of an agent's `get_task`; of the agent's own ids all but the task's may be repeated."""

    task_id: str
    """A task of your project."""
    agent_id: str | None = None
    project_id: str | None = None
    run_id: str | None = None
    session_token: str | None = None


class History(AgentArguments):
    """Arguments of `get_my_execution_history`."""

    limit: int = Field(10, ge=1, le=MAX_LINES)


async def list_tasks(context: Context, arguments: ListProjectTasks) -> Json:
    """List the tasks of the agent's project, the newest first."""
    wanted = arguments.status
    if wanted is not None and wanted not in OUTWARD:
        listed = ", ".join(OUTWARD)
        raise ValidationError(
            f"Invalid status: {wanted[:100]}. Valid values: {listed}", key="status"
        )

    def work(unit: Unit, run: Run) -> Json:
        which = TaskFilter(project_id=run.project_id, agent_id=arguments.assignee_id)
        found = task_store.list_tasks(unit, which, limit=MAX_LINES * 10, newest=True)
        fitting = [one for one in found if wanted in (None, outward(one))]
        return {
            "success": True,
            "tasks": [_line(one) for one in fitting[:MAX_LINES]],
            "truncated": len(fitting) > MAX_LINES,
        }

    return await context.board.as_agent(context, work)


async def get_task(context: Context, arguments: LookAtTask) -> Json:
    """Show one task of the agent's project."""

    def work(unit: Unit, run: Run) -> Json:
        task = of_project(unit, arguments.task_id, run)
        result: dict[str, Any] = task.result
        return {
            "success": True,
            "task": {
                **_line(task),
                "description": task.description,
                "acceptance": list(task.acceptance),
                "dependencies": [one.id for one in dependencies.needed_by(unit, task.id)],
                "summary": result.get("summary"),
            },
        }

    return await context.board.as_agent(context, work)


async def get_project(context: Context, arguments: AgentArguments) -> Json:
    """Show the agent's project."""
    del arguments

    def work(unit: Unit, run: Run) -> Json:
        project = projects.get_project(unit, run.project_id)
        shown = {"id": project.id, "name": project.name, "status": project.status}
        return {"success": True, "project": shown}

    return await context.board.as_agent(context, work)


async def get_my_execution_history(context: Context, arguments: History) -> Json:
    """List the agent's own runs in this project, the newest first."""

    def work(unit: Unit, run: Run) -> Json:
        which = RunFilter(agent_id=run.agent_id, project_id=run.project_id)
        found = run_store.list_runs(unit, which, limit=arguments.limit, newest=True)
        return {
            "success": True,
            "executions": [_execution(unit, one) for one in found],
            "total_count": len(found),
        }

    return await context.board.as_agent(context, work)


def of_project(unit: Unit, task_id: str, run: Run) -> Task:
    """A task of the agent's project; one of another is not there.

    Raises:
        NotFoundError: there is no such task in it.
    """
    try:
        task = task_store.get_task(unit, task_id)
    except NotFoundError:
        task = None
    if task is None or task.project_id != run.project_id:
        raise NotFoundError(f"Task not found: {task_id[:100]}")
    return task


def _line(task: Task) -> Json:
    line: Json = {
        "id": task.id,
        "title": task.title,
        "status": outward(task),
        "priority": task.priority,
        "assignee_id": task.agent_id,
        "parent_task_id": task.parent_id,
    }
    why = reason(task)
    return line if why is None else {**line, "reason": why}


def _execution(unit: Unit, run: Run) -> Json:
    task = None if run.task_id is None else task_store.get_task(unit, run.task_id)
    is_over = run.phase is RunPhase.ENDED
    worked = "completed" if run.outcome is RunOutcome.SUCCEEDED else "failed"
    seconds = None
    if run.started_at is not None and run.ended_at is not None:
        seconds = (run.ended_at - run.started_at).total_seconds()
    return {
        "execution_id": run.id,
        "task_id": run.task_id,
        "task_title": task.title if task else None,
        "status": worked if is_over else "running",
        "reason": run.reason,
        "started_at": iso(run.started_at),
        "completed_at": iso(run.ended_at),
        "duration_seconds": seconds,
        "exit_code": run.exit_code,
        "has_log": run.log_path is not None,
    }


def _looks(shape: Any, handler: Callable[..., Any], description: str, **more: bool) -> Tool:  # noqa: ANN401 - passed on
    return tool(shape, handler, description, Role.AGENT, purposes=ANY_PURPOSE, **more)


TOOLS = table(
    (
        _looks(ListProjectTasks, list_tasks, "List the tasks of your project."),
        _looks(LookAtTask, get_task, "Read a task of your project.", names_tasks=True),
        _looks(AgentArguments, get_project, "Read what your project is."),
        _looks(History, get_my_execution_history, "List your own runs here."),
    )
)
