"""What an agent calls about the parts of its task, and about itself: in the words of AI Agent PM.

Its sub-tasks are steps: it works them off itself, inside its run. Other tasks it neither sees nor moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import TransitionError, ValidationError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server import delegation
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.statuses import MANAGERS_SETTABLE, SETTABLE, outward, reason
from aiagent_coordinator.server.tools import (
    ANY_PURPOSE,
    AgentArguments,
    Arguments,
    Context,
    Tool,
    table,
    tool,
)
from aiagent_coordinator.store import projects, steps, subtasks, waking
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.steps import NewStep
from aiagent_coordinator.store.subtasks import NewPart
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Duty, Task

_NEXT = "Call get_next_action."
PRIORITIES = {"urgent": 30, "high": 20, "medium": 10, "normal": 10, "low": 0}
#: Longest text of a step.
MAX_TEXT_CHARS = 16_000
MAX_BATCH = 50

Priority = Literal["urgent", "high", "medium", "normal", "low"]
LocalId = Annotated[str, Field(min_length=1, max_length=100)]


class NewSubtask(Arguments):
    """One of a batch."""

    local_id: LocalId
    """A name for it within this batch."""
    title: str
    description: str = Field("", max_length=MAX_TEXT_CHARS)
    priority: Priority = "normal"
    dependencies: list[LocalId] = Field(max_length=MAX_BATCH, default_factory=list)
    """Local ids of those that must be done first."""
    assignee_id: str | None = None
    """Who is to do it, when you have others work for you."""

    def part(self) -> NewPart:
        """The same for the store."""
        return NewPart(
            self.title,
            self.local_id,
            self.description,
            PRIORITIES[self.priority],
            tuple(self.dependencies),
            self.assignee_id,
        )


class CreateSubtask(AgentArguments):
    """Arguments of an agent's `create_task`."""

    title: str
    description: str = Field("", max_length=MAX_TEXT_CHARS)
    priority: Priority = "normal"
    parent_task_id: str | None = None
    """Your own task; not needed."""
    dependencies: list[str] = Field(max_length=MAX_BATCH, default_factory=list)
    """Ids of sub-tasks of yours that must be done first."""


class CreateBatch(AgentArguments):
    """Arguments of `create_tasks_batch`."""

    tasks: list[NewSubtask] = Field(min_length=1, max_length=MAX_BATCH)
    parent_task_id: str | None = None
    """Your own task; not needed."""
    batch_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """A name for the batch, when you have others work for you: under one name it is made once."""


class SplitTask(Arguments):
    """Arguments of `split_task`; of the agent's own ids all but the task's may be repeated."""

    task_id: str
    """The sub-task; it must not have begun."""
    tasks: list[NewSubtask] = Field(min_length=2, max_length=MAX_BATCH)
    """What comes in its place."""
    agent_id: str | None = None
    project_id: str | None = None
    run_id: str | None = None
    session_token: str | None = None


class UpdateStatus(Arguments):
    """Arguments of `update_task_status`; of the agent's own ids all but the task's may be repeated."""

    task_id: str
    """The sub-task."""
    agent_id: str | None = None
    project_id: str | None = None
    run_id: str | None = None
    session_token: str | None = None
    status: str
    """What it becomes: in_progress, blocked, done or cancelled; a manager's: also todo or backlog."""
    reason: str | None = Field(None, max_length=2000)
    """Why, when it is blocked or cancelled."""


class Model(AgentArguments):
    """Arguments of `report_model`."""

    provider: str = Field(max_length=200)
    model_id: str = Field(max_length=200)


class Help(AgentArguments):
    """Arguments of `help`."""

    tool_name: str | None = None


async def create_task(context: Context, arguments: CreateSubtask) -> Json:
    """Make one sub-task of the agent's own task."""

    def work(unit: Unit, run: Run) -> Json:
        if run.duty is Duty.MANAGER:
            return _one_for_others(context, unit, run, arguments)
        parent = _own_task(unit, run, arguments.parent_task_id)
        for needed in arguments.dependencies:
            steps.get(unit, parent.id, needed)
        new = NewStep(
            arguments.title,
            "one",
            arguments.description,
            PRIORITIES[arguments.priority],
        )
        made = steps.add(unit, parent, [new], actor=context.identity.actor)["one"]
        if arguments.dependencies:
            made = task_store.add_dependencies(
                unit, made.id, arguments.dependencies, actor=context.identity.actor
            )
        return {
            "success": True,
            "task": _shown(made),
            "parent_task_reassigned": False,
            "instruction": _NEXT,
        }

    return await context.board.as_agent(context, work)


async def create_tasks_batch(context: Context, arguments: CreateBatch) -> Json:
    """Make several sub-tasks, all or none; sent again, they are not made twice."""
    new = [one.part() for one in arguments.tasks]

    def work(unit: Unit, run: Run) -> Json:
        if run.duty is Duty.MANAGER:
            delegation.own_task(unit, run, arguments.parent_task_id)
            policy = context.board.terms.subtasks
            return delegation.create(unit, run, new, policy, arguments.batch_key)
        parent = _own_task(unit, run, arguments.parent_task_id)
        made = steps.add(unit, parent, new, actor=context.identity.actor)
        return {
            "success": True,
            "tasks": [_shown(one) for one in made.values()],
            "task_count": len(made),
            "local_id_to_real_id": {local: one.id for local, one in made.items()},
            "instruction": _NEXT,
        }

    return await context.board.as_agent(context, work)


def _one_for_others(context: Context, unit: Unit, run: Run, arguments: CreateSubtask) -> Json:
    """A single sub-task of a manager: a batch of one."""
    parent = delegation.own_task(unit, run, arguments.parent_task_id)
    for needed in arguments.dependencies:
        subtasks.child(unit, parent.id, needed)
    priority = PRIORITIES[arguments.priority]
    new = NewPart(arguments.title, "one", arguments.description, priority)
    said = delegation.create(unit, run, [new], context.board.terms.subtasks, None)
    made = task_store.get_task(unit, said["local_id_to_real_id"]["one"])
    if arguments.dependencies and not said["already_existed"]:
        made = task_store.add_dependencies(
            unit, made.id, arguments.dependencies, actor=context.identity.actor
        )
    return {
        **{key: said[key] for key in ("success", "already_existed", "existing", "instruction")},
        "task": _shown(made),
        "warnings": said.get("warnings", []),
        "parent_task_reassigned": False,
    }


async def split_task(context: Context, arguments: SplitTask) -> Json:
    """Put several sub-tasks in the place of one that has not begun."""
    new = [one.part() for one in arguments.tasks]

    def work(unit: Unit, run: Run) -> Json:
        if run.duty is Duty.MANAGER:
            parent = delegation.own_task(unit, run)
            policy = context.board.terms.subtasks
            batch = subtasks.split(unit, parent, arguments.task_id, new, policy)
            return delegation.told(unit, parent, batch)
        parent = _own_task(unit, run, None)
        made = steps.split(unit, parent, arguments.task_id, new, actor=context.identity.actor)
        return {
            "success": True,
            "tasks": [_shown(one) for one in made.values()],
            "task_count": len(made),
            "local_id_to_real_id": {local: one.id for local, one in made.items()},
            "instruction": _NEXT,
        }

    return await context.board.as_agent(context, work)


async def update_task_status(context: Context, arguments: UpdateStatus) -> Json:
    """Move one of the agent's sub-tasks."""
    is_manager = context.identity.duty is Duty.MANAGER
    settable = MANAGERS_SETTABLE if is_manager else SETTABLE
    if arguments.status not in settable:
        listed = ", ".join(settable)
        raise ValidationError(
            f"Invalid status: {arguments.status[:100]}. Valid values: {listed}", key="status"
        )

    def work(unit: Unit, run: Run) -> Json:
        if arguments.task_id == run.task_id:
            raise ValidationError(
                "your own task ends with report_completed, not with a status", key="task_id"
            )
        try:
            before, after = _moved(unit, run, arguments, context.identity.actor)
        except TransitionError:
            raise TransitionError(
                f"Invalid status transition from {_status_of(unit, arguments)} to {arguments.status}"
            ) from None
        return {
            "success": True,
            "task": {
                "id": after.id,
                "title": after.title,
                "previous_status": outward(before),
                "new_status": outward(after),
            },
            "instruction": _NEXT,
        }

    return await context.board.as_agent(context, work)


def _moved(unit: Unit, run: Run, arguments: UpdateStatus, actor: str) -> tuple[Task, Task]:
    """A sub-task before and after what its task's agent wants of it."""
    if run.duty is Duty.MANAGER:
        parent = delegation.own_task(unit, run)
        before = subtasks.child(unit, parent.id, arguments.task_id)
        return before, subtasks.move(unit, parent, before.id, arguments.status, arguments.reason)
    parent = _own_task(unit, run, None)
    before = steps.get(unit, parent.id, arguments.task_id)
    after = steps.move(unit, before, arguments.status, actor=actor, reason=arguments.reason)
    return before, after


def _status_of(unit: Unit, arguments: UpdateStatus) -> str:
    return outward(task_store.get_task(unit, arguments.task_id))


async def get_my_task_progress(context: Context, arguments: AgentArguments) -> Json:
    """Show the agent's task with its sub-tasks."""
    del arguments

    def work(unit: Unit, run: Run) -> Json:
        if run.task_id is None:
            return {"success": True, "tasks": []}
        task = task_store.get_task(unit, run.task_id)
        if run.duty is Duty.MANAGER:
            parts = waking.delegated(unit, task.id)
            words = waking.standing(unit, task, parts)
            below = [delegation.line(unit, one, words[one.id]) for one in parts]
        else:
            below = [_line(one) for one in steps.of_task(unit, task.id)]
        return {"success": True, "tasks": [{**_line(task), "subtasks": below}]}

    return await context.board.as_agent(context, work)


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


def _own_task(unit: Unit, run: Run, named: str | None) -> Task:
    """The agent's task, locked.

    Raises:
        ValidationError: it has none, or names another.
    """
    if run.task_id is None or named not in (None, run.task_id):
        raise ValidationError(
            "sub-tasks belong to your own task",
            hint="leave parent_task_id away",
            key="parent_task_id",
        )
    return task_store.lock_task(unit, run.task_id)


def _line(task: Task) -> Json:
    line = {"id": task.id, "title": task.title, "status": outward(task)}
    why = reason(task)
    return line if why is None else {**line, "reason": why}


def _shown(task: Task) -> Json:
    return {
        "id": task.id,
        "task_id": task.id,
        "title": task.title,
        "description": task.description,
        "status": outward(task),
        "priority": task.priority,
        "parent_task_id": task.parent_id,
        "assignee_id": task.agent_id,
    }


def _agents(shape: Any, handler: Callable[..., Any], description: str, **more: Any) -> Tool:  # noqa: ANN401 - passed on
    return tool(shape, handler, description, Role.AGENT, **more)


def _shared(shape: Any, handler: Callable[..., Any], description: str) -> Tool:  # noqa: ANN401 - passed on
    return _agents(shape, handler, description, purposes=ANY_PURPOSE)


TOOLS = table(
    (
        _agents(CreateSubtask, create_task, "Make a sub-task of your task."),
        _agents(
            CreateBatch,
            create_tasks_batch,
            "Cut your task into sub-tasks, all at once. Saying it again makes nothing twice.",
        ),
        _agents(
            UpdateStatus,
            update_task_status,
            "Begin, finish, block or cancel one of your sub-tasks.",
            names_tasks=True,
        ),
        _agents(
            SplitTask,
            split_task,
            "Put several sub-tasks in the place of one of yours that has not begun.",
            names_tasks=True,
        ),
        _shared(AgentArguments, get_my_task_progress, "Read your task with its sub-tasks."),
        _shared(AgentArguments, get_my_profile, "Read who you are."),
        _shared(Model, report_model, "Say which model you are."),
        _shared(Help, help, "List what you may call, or one tool's arguments."),
    )
)
