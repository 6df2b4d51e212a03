"""Tasks on the board: made, found, and moved along the transition table."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import bindparam, func, insert, select

from aiagent_coordinator import ids
from aiagent_coordinator.errors import (
    ConflictError,
    NotFoundError,
    TransitionError,
    ValidationError,
)
from aiagent_coordinator.store import branches, dependencies, projects, questions, runs, tables
from aiagent_coordinator.store.find import TITLE_CHARS, find_id
from aiagent_coordinator.store.history import emit_task, move_data
from aiagent_coordinator.store.pages import page_of
from aiagent_coordinator.store.rows import checks_document, task_of
from aiagent_coordinator.store.transitions import set_progress, set_status, settle
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.task_options import TaskOptions
from aiagent_coordinator.tasks import (
    TERMINAL,
    Check,
    Task,
    TaskKind,
    TaskStatus,
    check_transition,
)

__all__ = [
    "LONG_FIELDS",
    "NewTask",
    "TaskFilter",
    "add_dependencies",
    "cancel_task",
    "count_by_status",
    "create_task",
    "find_task",
    "get_task",
    "list_tasks",
    "lock_task",
    "remove_dependency",
    "retry_task",
    "set_progress",
    "set_status",
]

_task = tables.task
_ONE = select(_task).where(_task.c.id == bindparam("which"))
_LOCK = _ONE.with_for_update()
_TASK_FIELDS = frozenset(field.name for field in fields(Task))
_NOTHING_LONG: dict[str, Any] = {
    "description": "", "handoff": None, "acceptance": (), "checks": (), "result": {},
    "workflow_state": None, "awaited": None, "feedback": (),
}  # fmt: skip
#: What lists leave out: a thousand of them would not fit into one answer.
LONG_FIELDS = frozenset(_NOTHING_LONG)
_SHORT_COLUMNS = [_task.c[name] for name in sorted(_TASK_FIELDS - LONG_FIELDS)]

DESCRIPTION_BYTES = 256 * 1024


@dataclass(frozen=True)
class NewTask:
    """What a person or an agent says about a task that is to be made."""

    project_id: str
    title: str
    agent_id: str | None = None
    description: str = ""
    parent_id: str | None = None
    kind: TaskKind = TaskKind.WORK
    status: TaskStatus = TaskStatus.QUEUED
    priority: int = 0
    acceptance: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    branch: str | None = None
    max_attempts: int = 3
    #: Ids, or beginnings of ids, of tasks that must succeed first.
    depends_on: tuple[str, ...] = ()
    workflow: str | None = None
    #: The batch of its parent that it is made in, and what it is called there.
    batch_key: str | None = None
    local_id: str | None = None
    #: `pending`: somebody must let it begin; it is made in the backlog.
    approval: str | None = None
    #: Whose word its result needs: `person`, or an agent of the project.
    review_by: str | None = None
    reviews_id: str | None = None
    audit_firing_id: str | None = None
    #: What all its runs may use: `tokens`, `usd`; None: what the settings say.
    budget: dict[str, float] | None = None
    #: Which servers and skills of its agent it is given; None: all.
    options: TaskOptions | None = None


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks; all that is None or empty does not matter."""

    project_id: str | None = None
    agent_id: str | None = None
    parent_id: str | None = None
    statuses: tuple[TaskStatus, ...] = ()


def create_task(unit: Unit, new: NewTask, actor: str) -> Task:
    """Put a task on the board (T1).

    Raises:
        ValidationError: a text is too long or the agent does not work in the project.
        NotFoundError: there is no such project, agent, parent or dependency.
        ConflictError: the beginning of an id fits several tasks.
    """
    _check_place(unit, new)
    if new.branch is not None:
        branches.check(unit, new.branch, new.project_id)
    named = [find_id(unit, _task, "tsk", text) for text in new.depends_on]
    needed = dependencies.lock_needed(unit, named) if named else []
    reason = dependencies.reason_of(needed)
    status = TaskStatus.BACKLOG if new.approval == "pending" else new.status
    if reason is not None and status is TaskStatus.QUEUED:
        status = TaskStatus.BLOCKED
    check_transition("T1", None, status, kind=new.kind)
    task = Task(
        id=ids.new_id("tsk"),
        project_id=new.project_id,
        agent_id=new.agent_id,
        title=_title(new.title),
        description=_description(new.description),
        status=status,
        status_reason=reason,
        created_at=unit.now,
        updated_at=unit.now,
        kind=new.kind,
        parent_id=new.parent_id,
        priority=new.priority,
        acceptance=new.acceptance,
        checks=new.checks,
        branch=new.branch,
        max_attempts=new.max_attempts,
        workflow=new.workflow,
        batch_key=new.batch_key,
        local_id=new.local_id,
        approval=new.approval,
        review_by=new.review_by,
        reviews_id=new.reviews_id,
        audit_firing_id=new.audit_firing_id,
        budget=new.budget,
        options=new.options,
    )
    columns = {name: getattr(task, name) for name in _TASK_FIELDS}
    columns |= {
        "acceptance": list(task.acceptance),
        "checks": checks_document(task.checks),
        "feedback": None,
        "fence": 0,
    }
    unit.conn.execute(insert(_task).values(columns))
    dependencies.add(unit, task.id, named)
    emit_task(unit, task, "task.created", actor=actor, data={"title": task.title})
    moved = move_data("T1", None, task.status, reason)
    emit_task(unit, task, "task.status", actor=actor, data=moved)
    return task


def add_dependencies(unit: Unit, task_id: str, depends_on: Sequence[str], *, actor: str) -> Task:
    """Let a task that has not begun wait for others too (T3).

    Raises:
        NotFoundError: there is no such task.
        CycleError: they would wait for each other; the message names the way.
        TransitionError: the task has begun, or is over.
    """
    named = [find_id(unit, _task, "tsk", text) for text in depends_on]
    dependencies.lock_needed(unit, sorted({task_id, *named}))
    task = get_task(unit, task_id)
    dependencies.add(unit, task_id, named)
    return _resettle(unit, task, actor)


def remove_dependency(unit: Unit, task_id: str, depends_on: str, *, actor: str) -> Task:
    """Let a task wait for another no more (T3). It not waiting for it is no error.

    Raises:
        NotFoundError: there is no such task.
        TransitionError: the task has begun, or is over.
    """
    task = lock_task(unit, task_id)
    dependencies.remove(unit, task_id, find_id(unit, _task, "tsk", depends_on))
    return _resettle(unit, task, actor)


def _resettle(unit: Unit, task: Task, actor: str) -> Task:
    if task.status not in {TaskStatus.BACKLOG, TaskStatus.QUEUED, TaskStatus.BLOCKED}:
        raise TransitionError(
            f"task {task.id} is {task.status.value}; it does not wait for others any more"
        )
    needed = dependencies.needed_by(unit, task.id)
    reason = dependencies.reason_of(needed)
    names = [one.id for one in needed]
    data = {"depends_on": names, "reason": reason}
    emit_task(unit, task, "task.dependencies", actor=actor, data=data)
    return settle(unit, task, reason, actor=actor)


def retry_task(unit: Unit, task_id: str, *, attempts: int = 1, actor: str) -> Task:
    """Put a failed or cancelled task back (T18), with more attempts and its hand-off.

    Raises:
        NotFoundError: there is no such task.
        TransitionError: it is neither failed nor cancelled.
        ConflictError: its last run is still ending.
    """
    task = lock_task(unit, task_id)
    check_transition("T18", task.status, TaskStatus.QUEUED, kind=task.kind)
    live = runs.live_run_of(unit, task_id)
    if live is not None:
        raise ConflictError(
            f"run {live.id} of task {task_id} is still ending",
            hint="try again in a moment",
            run_id=live.id,
        )
    attempt = task.attempt + (task.status is TaskStatus.FAILED)
    task = set_status(
        unit,
        task,
        "T18",
        TaskStatus.QUEUED,
        actor=actor,
        attempt=attempt,
        max_attempts=max(task.max_attempts, attempt + attempts - 1),
        infra_requeues=0,
        not_before=None,
        progress=0,
    )
    return settle(
        unit, task, dependencies.reason_of(dependencies.needed_by(unit, task_id)), actor=actor
    )


def count_by_status(unit: Unit, project_id: str | None = None) -> dict[str, int]:
    """How many tasks have each status."""
    query = select(_task.c.status, func.count()).group_by(_task.c.status)
    if project_id is not None:
        query = query.where(_task.c.project_id == project_id)
    return {str(status): int(count) for status, count in unit.conn.execute(query).all()}


def _check_place(unit: Unit, new: NewTask) -> None:
    projects.get_project(unit, new.project_id)
    if new.max_attempts < 1:
        raise ValidationError("a task needs at least one attempt", key="max_attempts")
    if new.parent_id is not None:
        get_task(unit, new.parent_id)
    if new.review_by not in (None, "person", new.agent_id):
        _check_agent(unit, str(new.review_by), new.project_id, "review_by")
    elif new.review_by is not None and new.review_by == new.agent_id:
        raise ValidationError("nobody reviews its own work", key="review_by")
    if new.agent_id is not None:
        _check_agent(unit, new.agent_id, new.project_id, "agent_id")


def _check_agent(unit: Unit, agent_id: str, project_id: str, key: str) -> None:
    projects.get_agent(unit, agent_id)
    if not projects.is_assigned(unit, agent_id, project_id):
        raise ValidationError(
            f"agent {agent_id} does not work in project {project_id}",
            hint="add it to the project's agents",
            key=key,
        )


def _title(text: str) -> str:
    title = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(title) <= TITLE_CHARS or not title.isprintable():
        raise ValidationError(
            f"a title has 1 to {TITLE_CHARS} printable characters on one line", key="title"
        )
    return title


def _description(text: str) -> str:
    description = unicodedata.normalize("NFC", text)
    try:
        size = len(description.encode())
    except UnicodeEncodeError:
        raise ValidationError("a description is UTF-8 text", key="description") from None
    if size > DESCRIPTION_BYTES or "\0" in description:
        raise ValidationError(
            f"a description has at most {DESCRIPTION_BYTES} bytes and no NUL", key="description"
        )
    return description


def get_task(unit: Unit, task_id: str) -> Task:
    """One task.

    Raises:
        NotFoundError: there is none.
    """
    row = unit.conn.execute(_ONE, {"which": task_id}).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no task {task_id}", task_id=task_id)
    return task_of(row)


def lock_task(unit: Unit, task_id: str) -> Task:
    """The task as it is until this unit ends. Tasks are locked before their runs, always.

    Raises:
        NotFoundError: there is none.
    """
    row = unit.conn.execute(_LOCK, {"which": task_id}).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no task {task_id}", task_id=task_id)
    return task_of(row)


def find_task(unit: Unit, text: str) -> Task:
    """The task a person means: its id, the beginning of it, with or without `tsk_`, or its title.

    Raises:
        NotFoundError: none is meant.
        ConflictError: several do; they are listed.
    """
    return get_task(unit, find_id(unit, _task, "tsk", text))


def list_tasks(
    unit: Unit,
    which: TaskFilter | None = None,
    *,
    limit: int = 100,
    after: str | None = None,
    newest: bool = False,
) -> list[Task]:
    """Tasks without their `LONG_FIELDS`, which are not even read: one page, see `pages`."""
    which = which or TaskFilter()
    query = select(*_SHORT_COLUMNS)
    for name in ("project_id", "agent_id", "parent_id"):
        value = getattr(which, name)
        if value is not None:
            query = query.where(_task.c[name] == value)
    if which.statuses:
        query = query.where(_task.c.status.in_(which.statuses))
    query = page_of(unit, query, _task, limit=limit, after=after, newest=newest)
    return [task_of({**_NOTHING_LONG, **row}) for row in unit.conn.execute(query).mappings()]


def cancel_task(unit: Unit, task_id: str, *, actor: str) -> Task:
    """Cancel a task and its open descendants (T17), and ask for their runs to be stopped.

    Cancelling a cancelled task again changes nothing.

    Raises:
        NotFoundError: there is no such task.
        TransitionError: it is already over.
    """
    task = lock_task(unit, task_id)
    if task.status is not TaskStatus.CANCELLED:
        task = _cancel_one(unit, task, actor)
    parents = [task_id]
    while parents:
        children = unit.conn.execute(
            select(_task).where(_task.c.parent_id.in_(parents)).with_for_update()
        )
        below = [task_of(row) for row in children.mappings().all()]
        for child in below:
            if child.status not in TERMINAL:
                _cancel_one(unit, child, actor)
        parents = [child.id for child in below]
    return task


def _cancel_one(unit: Unit, task: Task, actor: str) -> Task:
    cancelled = set_status(
        unit, task, "T17", TaskStatus.CANCELLED, actor=actor, status_reason="cancelled"
    )
    questions.close_open(unit, task, "cancelled", actor=actor)
    live = runs.live_run_of(unit, task.id)
    if live is not None:
        runs.request_stop(unit, live.id, "cancelled", actor=actor)
    return cancelled
