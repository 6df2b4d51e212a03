"""Moving a task along the transition table: conditional, and with its event in the same transaction."""

from __future__ import annotations

from dataclasses import fields, replace

from sqlalchemy import bindparam, select, update

from aiagent_coordinator.errors import (
    ConflictError,
    StaleRunError,
    TransitionError,
    ValidationError,
)
from aiagent_coordinator.runs import RunPhase
from aiagent_coordinator.store import dependencies, tables, waking
from aiagent_coordinator.store.history import emit_task, move_data
from aiagent_coordinator.store.rows import task_of
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import (
    TERMINAL,
    Task,
    TaskKind,
    TaskStatus,
    WaitReason,
    check_transition,
)

_task = tables.task
_MOVE = update(_task).where(
    _task.c.id == bindparam("which"),
    _task.c.status == bindparam("old_status"),
    _task.c.version == bindparam("old_version"),
)
_LIVE_RUN = select(tables.run.c.id).where(
    tables.run.c.task_id == bindparam("which"), tables.run.c.phase != RunPhase.ENDED
)
_ONE = select(_task).where(_task.c.id == bindparam("which"))
_OPEN_STEPS = select(_task.c.id).where(
    _task.c.parent_id == bindparam("which"),
    _task.c.kind == TaskKind.STEP,
    _task.c.status.not_in(TERMINAL),
)
_TO_PERSON = (
    update(_task)
    .where(_task.c.id == bindparam("which"), _task.c.wait_reason == WaitReason.REVIEW)
    .values(review_by="person")
)
_TASK_FIELDS = frozenset(field.name for field in fields(Task))


def set_status(
    unit: Unit,
    task: Task,
    transition: str,
    target: TaskStatus,
    *,
    actor: str,
    wait_reason: WaitReason | None = None,
    status_reason: str | None = None,
    run_id: str | None = None,
    **columns: object,
) -> Task:
    """Move a task along one row of the transition table, and say so in the same transaction.

    Args:
        unit: The unit of work.
        task: The task as it was read; a change since then refuses.
        transition: The row's name, T1 to T24.
        target: The new status.
        actor: Who does it.
        wait_reason: What a waiting task waits for.
        status_reason: Why, in one word of the closed list or the agent's own; replaces the old one.
        run_id: The run it came from.
        **columns: What else changes with it.

    Raises:
        TransitionError: no row allows it.
        ConflictError: the task changed since it was read, or an audit holds it.
    """
    _refuse_locked(task, transition, target, actor)
    check_transition(
        transition,
        task.status,
        target,
        source_wait_reason=task.wait_reason,
        wait_reason=wait_reason,
        kind=task.kind,
    )
    columns |= {
        "status": target,
        "wait_reason": wait_reason,
        "status_reason": status_reason,
        "version": task.version + 1,
        "updated_at": unit.now,
        "ended_at": unit.now if target in TERMINAL else None,
    }
    expected = {"which": task.id, "old_status": task.status, "old_version": task.version}
    changed = unit.conn.execute(_MOVE, {**expected, **columns})
    if changed.rowcount != 1:
        raise ConflictError(f"task {task.id} changed meanwhile", task_id=task.id)
    moved = move_data(transition, task.status, target, status_reason)
    emit_task(unit, task, "task.status", actor=actor, run_id=run_id, data=moved)
    now = replace(task, **{key: columns[key] for key in columns.keys() & _TASK_FIELDS})
    if target in TERMINAL and task.kind is not TaskKind.STEP:
        _end_steps(unit, now, actor=actor)
    if target in TERMINAL and task.reviews_id is not None:
        _hand_to_person(unit, now)
    if (target in TERMINAL) != (task.status in TERMINAL):
        for held, reason in dependencies.held_up_by(unit, now):
            settle(unit, held, reason, actor=actor)
    _wake_above(unit, now, actor=actor)
    return now


#: What a live run brings about its own task: it is never refused, or its result would be lost.
_OF_RUNS = frozenset({"T5", "T6", "T7", "T8", "T13", "T14", "T15", "T16", "T20", "T22"})


def is_held(task: Task, actor: str) -> bool:
    """Whether an audit holds a task against this actor: a person may always move it."""
    return task.is_locked and actor != "person" and not actor.startswith("audit")


def _refuse_locked(task: Task, transition: str, target: TaskStatus, actor: str) -> None:
    is_of_run = transition in _OF_RUNS or (transition == "T9" and target is TaskStatus.RUNNING)
    if is_held(task, actor) and not is_of_run:
        raise ConflictError(
            f"task {task.id} is locked by an audit; only a person moves it until it is released",
            hint=f"task unlock {task.id}",
            task_id=task.id,
        )


def _hand_to_person(unit: Unit, review: Task) -> None:
    """A review that ended without a verdict: whose result it judged waits for a person."""
    if (review.workflow_state or {}).get("verdict") is None:
        unit.conn.execute(_TO_PERSON, {"which": review.reviews_id})


def _wake_above(unit: Unit, task: Task, *, actor: str) -> None:
    """Let the task above go on, when it waits for its sub-tasks and now has something to do (T10)."""
    parent = waking.to_wake(unit, task)
    # one that is held looks again when it is released
    if parent is not None and not is_held(parent, actor):
        go_on(unit, parent, actor=actor)


def go_on(unit: Unit, task: Task, *, actor: str) -> Task:
    """Queue a task that waited for its sub-tasks (T10)."""
    return set_status(
        unit,
        task,
        "T10",
        TaskStatus.QUEUED,
        actor=actor,
        status_reason="subtasks_changed",
        awaited=None,
    )


def _end_steps(unit: Unit, task: Task, *, actor: str) -> None:
    """What is left of a task's steps ends with it: nobody else works them off."""
    rows = unit.conn.execute(_OPEN_STEPS, {"which": task.id}).mappings().all()
    for row in rows:
        # one that waited for another may have been let go meanwhile
        found = unit.conn.execute(_ONE, {"which": row["id"]}).mappings().one()
        step = task_of(found)
        reason = f"its task {task.status.value}"
        set_status(unit, step, "T17", TaskStatus.CANCELLED, actor=actor, status_reason=reason)


def settle(unit: Unit, task: Task, reason: str | None, *, actor: str) -> Task:
    """Hold a task that did not begin, or let it go (T3), as its dependencies say.

    Args:
        unit: The unit of work.
        task: The task, locked.
        reason: What it waits for; None when nothing is in its way.
        actor: Who caused it.
    """
    if is_held(task, actor):
        return task
    if task.status is TaskStatus.BLOCKED and reason is None:
        return set_status(unit, task, "T3", TaskStatus.QUEUED, actor=actor)
    if task.status is TaskStatus.QUEUED and reason is not None:
        return set_status(unit, task, "T3", TaskStatus.BLOCKED, actor=actor, status_reason=reason)
    if task.status is TaskStatus.BLOCKED and reason != task.status_reason:
        dependencies.say_reason(unit, task, reason, actor=actor)
        _wake_above(unit, task, actor=actor)
        return replace(task, status_reason=reason, version=task.version + 1)
    return task


def set_progress(
    unit: Unit,
    task: Task,
    progress: int,
    *,
    actor: str,
    message: str | None = None,
    run_id: str | None = None,
) -> None:
    """Note how far a running task is, 0 to 100.

    Args:
        unit: The unit of work.
        task: The task.
        progress: How far it is.
        actor: Who says so.
        message: In its own words.
        run_id: The run it comes from; it must be the one that works on the task now.

    Raises:
        ValidationError: it is not between 0 and 100.
        TransitionError: the task does not run.
        StaleRunError: another run works on it now.
    """
    if not 0 <= progress <= 100:
        raise ValidationError("progress is between 0 and 100", key="progress")
    if run_id is not None and unit.conn.scalar(_LIVE_RUN, {"which": task.id}) != run_id:
        raise StaleRunError(f"run {run_id} does not work on task {task.id}", run_id=run_id)
    # The version stays: progress never stands in the way of a change of status.
    changed = unit.conn.execute(
        update(_task)
        .where(_task.c.id == task.id, _task.c.status == TaskStatus.RUNNING)
        .values(progress=progress, updated_at=unit.now)
    )
    if not changed.rowcount:
        raise TransitionError(f"task {task.id} does not run; it makes no progress")
    said = {"progress": progress, "message": message}
    emit_task(unit, task, "task.progress", actor=actor, run_id=run_id, data=said)
