"""What a manager does with the sub-tasks that it has: gives them out, moves them, and waits for them."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import bindparam, update

from aiagent_coordinator.errors import ConflictError, LimitError, TransitionError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.store import dependencies, tables, waking
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.subtasks import actor_of, check_assignee, child
from aiagent_coordinator.store.tasks import cancel_task, get_task, retry_task
from aiagent_coordinator.store.transitions import set_status, settle
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task, TaskStatus, WaitReason

_task = tables.task
_STATE = update(_task).where(_task.c.id == bindparam("which"))
#: Attempts in all that a manager may give a sub-task; a person may give more.
MAX_ATTEMPTS: Final = 10


def assign(unit: Unit, parent: Task, task_id: str, agent_id: str | None) -> tuple[Task, str | None]:
    """Give a sub-task that has not begun to a subordinate, or take it from whoever has it.

    Returns:
        The sub-task as it is now, and who had it before.

    Raises:
        NotFoundError: the task has no such sub-task.
        ForbiddenError: the agent does not work for the manager.
        TransitionError: the sub-task has begun, or is over.
    """
    one = child(unit, parent.id, task_id)
    if agent_id is not None:
        check_assignee(unit, parent, agent_id)
    is_parked = one.status is TaskStatus.WAITING and one.wait_reason is WaitReason.BLOCKED
    begun = {TaskStatus.BACKLOG, TaskStatus.QUEUED, TaskStatus.BLOCKED}
    if one.status not in begun and not (is_parked and agent_id is not None):
        raise TransitionError(
            f"sub-task {one.id} is {one.status.value}; only one that has not begun is given to somebody"
        )
    before = one.agent_id
    unit.conn.execute(_STATE, {"which": one.id, "agent_id": agent_id, "updated_at": unit.now})
    one = get_task(unit, one.id)
    if agent_id is None:
        return _shelve(unit, one, actor_of(parent)), before
    if one.status is TaskStatus.BACKLOG:
        one = submit(unit, one, actor_of(parent))
    return one, before


def submit(unit: Unit, task: Task, actor: str) -> Task:
    """Let a task of the backlog be taken (T2), once what it waits for is done."""
    task = set_status(unit, task, "T2", TaskStatus.QUEUED, actor=actor)
    return settle(
        unit, task, dependencies.reason_of(dependencies.needed_by(unit, task.id)), actor=actor
    )


def _shelve(unit: Unit, task: Task, actor: str) -> Task:
    if task.status is TaskStatus.BLOCKED:
        task = set_status(unit, task, "T3", TaskStatus.QUEUED, actor=actor)
    if task.status is TaskStatus.QUEUED:
        task = set_status(unit, task, "T2", TaskStatus.BACKLOG, actor=actor)
    return task


def move(unit: Unit, parent: Task, task_id: str, word: str, reason: str | None) -> Task:
    """Move a sub-task as its manager may: take it up again, let it begin, put it back, or give it up.

    Args:
        unit: The unit of work.
        parent: The manager's task.
        task_id: The sub-task.
        word: `todo` or `in_progress`, `backlog`, `cancelled`; what it is already, it stays.
        reason: Why, for `cancelled`.

    Raises:
        NotFoundError: the task has no such sub-task.
        TransitionError: it cannot become that from what it is, or that is its own agent's word.
        ConflictError: nobody has it.
        LimitError: it was tried as often as a manager may ask for.
    """
    one, actor = child(unit, parent.id, task_id), actor_of(parent)
    match word:
        case "todo" | "in_progress" if one.status is TaskStatus.FAILED:
            return _again(unit, one, actor)
        case "todo" | "in_progress" if one.wait_reason is WaitReason.BLOCKED:
            return set_status(unit, one, "T23", TaskStatus.QUEUED, actor=actor)
        case "todo" if one.status is TaskStatus.BACKLOG:
            if one.agent_id is None:
                raise ConflictError(
                    f"nobody has sub-task {one.id}", hint="give it to somebody with assign_task"
                )
            return submit(unit, one, actor)
        case "todo" if one.status in {TaskStatus.QUEUED, TaskStatus.BLOCKED}:
            return one
        case "backlog" if one.status is TaskStatus.QUEUED:
            return set_status(unit, one, "T2", TaskStatus.BACKLOG, actor=actor)
        case "cancelled" if one.status is TaskStatus.FAILED:
            # it stays failed; its manager has taken note, and goes on without it
            return _dismiss(unit, parent, one)
        case "cancelled":
            return _cancelled(unit, one, reason, actor)
        case _:
            raise TransitionError(f"a sub-task that is {one.status.value} cannot become {word}")


def _again(unit: Unit, task: Task, actor: str) -> Task:
    if task.attempt >= MAX_ATTEMPTS:
        raise LimitError(
            f"sub-task {task.id} was tried {task.attempt} times; only a person may have it tried again",
            hint="give it up ('cancelled'), split it, or report blocked",
            limit="ATTEMPTS",
        )
    return retry_task(unit, task.id, actor=actor)


def _cancelled(unit: Unit, task: Task, reason: str | None, actor: str) -> Task:
    if task.status is TaskStatus.CANCELLED:
        return task
    cancelled = cancel_task(unit, task.id, actor=actor)
    if reason:
        unit.conn.execute(_STATE, {"which": task.id, "status_reason": reason})
    return cancelled


def _dismiss(unit: Unit, parent: Task, task: Task) -> Task:
    state = dict(get_task(unit, parent.id).workflow_state or {})
    state["dismissed"] = sorted({*state.get("dismissed", ()), task.id})
    unit.conn.execute(_STATE, {"which": parent.id, "workflow_state": state})
    return task


def wait(unit: Unit, parent: Task, run: Run) -> Task:
    """Let a manager's task wait for its sub-tasks (T6); its run is to end.

    Raises:
        ConflictError: nothing would ever wake it.
    """
    words = waking.standing(unit, parent, waking.delegated(unit, parent.id))
    if not waking.MOVING & set(words.values()):
        raise ConflictError(
            "there is nothing to wait for: none of your sub-tasks goes on by itself",
            hint="give out, unblock or cancel what is left, or end the task",
        )
    run_store.record_agent_report(unit, run, "waiting", None)
    return set_status(
        unit,
        parent,
        "T6",
        TaskStatus.WAITING,
        actor=actor_of(parent),
        wait_reason=WaitReason.SUBTASKS,
        status_reason="subtasks",
        run_id=run.id,
        awaited=words,
    )


def entered_by(task: Task) -> dict[str, int]:
    """How often a task came to each stage that counts, in all runs of its attempt."""
    state = task.workflow_state or {}
    return dict(state.get("entered", {})) if state.get("attempt") == task.attempt else {}


def note_entered(unit: Unit, task: Task, stage: str) -> None:
    """Count that a task came to a stage that it may come to only so often."""
    entered = entered_by(task)
    state: dict[str, Any] = dict(task.workflow_state or {})
    state |= {"attempt": task.attempt, "entered": {**entered, stage: entered.get(stage, 0) + 1}}
    unit.conn.execute(_STATE, {"which": task.id, "workflow_state": state})
