"""What a person's order in a chat changes about tasks: the same rules hold as for commands."""

from __future__ import annotations

from sqlalchemy import update

from aiagent_coordinator.errors import NotFoundError, TransitionError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.store import dependencies, tables
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.history import emit_task
from aiagent_coordinator.store.questions import clean_text
from aiagent_coordinator.store.tasks import DESCRIPTION_BYTES
from aiagent_coordinator.store.transitions import set_status, settle
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, Task, TaskKind, TaskStatus, WaitReason

_task = tables.task


def within_reach(unit: Unit, run: Run, task_id: str) -> Task:
    """A task of the agent or of nobody, in its project, locked.

    Raises:
        NotFoundError: it is another's, or in another project, or is not.
    """
    try:
        task = task_store.lock_task(unit, task_id)
    except NotFoundError:
        task = None
    is_mine = task is not None and task.agent_id in (None, run.agent_id)
    if task is None or not is_mine or task.project_id != run.project_id:
        raise NotFoundError(f"Task not found: {task_id[:100]}")
    if task.kind is not TaskKind.WORK:
        raise NotFoundError(f"Task not found: {task_id[:100]}")
    return task


def start(unit: Unit, task: Task, *, actor: str) -> Task:
    """Let a task of the backlog, or one that is blocked, be taken up (T2, T23).

    Raises:
        TransitionError: it is neither.
    """
    if task.status in {TaskStatus.QUEUED, TaskStatus.BLOCKED, TaskStatus.RUNNING}:
        return task  # its turn comes, or has
    is_blocked = task.wait_reason is WaitReason.BLOCKED
    if task.status is not TaskStatus.BACKLOG and not is_blocked:
        raise TransitionError(f"a task that is {task.status.value} cannot be started")
    row = "T23" if is_blocked else "T2"
    queued = set_status(unit, task, row, TaskStatus.QUEUED, actor=actor)
    reason = dependencies.reason_of(dependencies.needed_by(unit, task.id))
    return settle(unit, queued, reason, actor=actor)


def shelve(unit: Unit, task: Task, *, actor: str) -> Task:
    """Put a task that has not begun into the backlog (T2).

    Raises:
        TransitionError: it has begun, waits for others, or is over.
    """
    if task.status is TaskStatus.BACKLOG:
        return task
    return set_status(unit, task, "T2", TaskStatus.BACKLOG, actor=actor)


def describe(unit: Unit, task: Task, text: str, *, actor: str) -> Task:
    """Say anew what is to be done.

    Raises:
        TransitionError: the task is over.
        ValidationError: the text is empty or too long.
    """
    if task.status in TERMINAL:
        raise TransitionError(f"task {task.id} is {task.status.value}")
    said = clean_text(text, "description", DESCRIPTION_BYTES)
    unit.conn.execute(
        update(_task)
        .where(_task.c.id == task.id)
        .values(description=said, version=task.version + 1, updated_at=unit.now)
    )
    emit_task(unit, task, "task.described", actor=actor, data={})
    return task_store.get_task(unit, task.id)
