"""Steps: sub-tasks that the agent of their parent works off inside its run. They have no run of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import RowMapping, bindparam, select, update

from aiagent_coordinator.errors import (
    ConflictError,
    CycleError,
    LimitError,
    NotFoundError,
    TransitionError,
    ValidationError,
)
from aiagent_coordinator.store import dependencies, tables
from aiagent_coordinator.store.rows import task_of
from aiagent_coordinator.store.tasks import NewTask, create_task
from aiagent_coordinator.store.transitions import set_status, settle
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, Task, TaskKind, TaskStatus, WaitReason

_task = tables.task
_OF = (
    select(_task)
    .where(_task.c.parent_id == bindparam("which"), _task.c.kind == TaskKind.STEP)
    .order_by(_task.c.created_at, _task.c.id)
)

_CREATED = update(_task).where(_task.c.id == bindparam("which"))

#: Open steps of one task at a time.
MAX_OPEN: Final = 50


@dataclass(frozen=True)
class NewStep:
    """A step that is to be made. `needs` names others of the same batch by their local ids."""

    title: str
    local_id: str = ""
    description: str = ""
    priority: int = 0
    needs: tuple[str, ...] = ()


def of_task(unit: Unit, task_id: str) -> list[Task]:
    """The steps of a task, oldest first."""
    return [task_of(row) for row in unit.conn.execute(_OF, {"which": task_id}).mappings()]


def add(unit: Unit, parent: Task, new: Sequence[NewStep], *, actor: str) -> dict[str, Task]:
    """Make steps of a task, all or none; said again while they stand, they are the ones that stand.

    Args:
        unit: The unit of work.
        parent: The task, locked.
        new: The steps; each needs a local id of its own.
        actor: Who makes them.

    Returns:
        The steps by their local ids.

    Raises:
        ValidationError: two have one local id, or one needs what is not there.
        CycleError: they would wait for each other.
        LimitError: the task would have too many open steps.
    """
    known = of_task(unit, parent.id)
    by_id = {one.local_id: one for one in new}
    if len(by_id) != len(new):
        raise ValidationError("two tasks of the batch have the same local_id", key="tasks")
    again = _said_before(known, new)
    if again is not None:
        return again
    if sum(one.status not in TERMINAL for one in known) + len(new) > MAX_OPEN:
        raise LimitError(
            f"SUBTASK_LIMIT: a task has at most {MAX_OPEN} open sub-tasks", limit="SUBTASK_LIMIT"
        )
    made: dict[str, Task] = {}
    for one in in_order(by_id):
        made[one.local_id] = create_task(
            unit,
            NewTask(
                project_id=parent.project_id,
                title=one.title,
                agent_id=parent.agent_id,
                description=one.description,
                parent_id=parent.id,
                kind=TaskKind.STEP,
                priority=one.priority,
                max_attempts=1,
                depends_on=tuple(made[need].id for need in one.needs),
            ),
            actor,
        )
    for place, one in enumerate(new):
        # made at one instant, they are told apart by the order in which they were named
        at = unit.now + timedelta(microseconds=place)
        unit.conn.execute(_CREATED, {"which": made[one.local_id].id, "created_at": at})
    return {one.local_id: made[one.local_id] for one in new}


def _said_before(known: Sequence[Task], new: Sequence[NewStep]) -> dict[str, Task] | None:
    """The steps that stand, when the newest are what is asked for: an answer was lost, or forgotten."""
    newest = {task.title: task for task in known if task.status is not TaskStatus.CANCELLED}
    if not all(one.title in newest for one in new):
        return None
    return {one.local_id: newest[one.title] for one in new}


def in_order(steps: Mapping[str, NewStep]) -> list[NewStep]:
    """Each after those that it needs.

    Raises:
        ValidationError: one needs what is not there.
        CycleError: they would wait for each other.
    """
    ordered: list[NewStep] = []
    done: set[str] = set()
    left = dict(steps)
    while left:
        ready = [one for one in left.values() if done.issuperset(one.needs)]
        if not ready:
            unknown = {need for one in left.values() for need in one.needs} - steps.keys()
            if unknown:
                raise ValidationError(
                    f"there is no local_id {min(unknown)!r} in this batch", key="dependencies"
                )
            raise CycleError(f"these wait for each other: {', '.join(sorted(left))}")
        ordered += ready
        done |= {one.local_id for one in ready}
        for one in ready:
            del left[one.local_id]
    return ordered


def split(
    unit: Unit, parent: Task, step_id: str, new: Sequence[NewStep], *, actor: str
) -> dict[str, Task]:
    """Put several steps in the place of one that has not begun; what waits for it waits for all.

    Raises:
        CoordinatorError: as for `add`; or it has begun.
    """
    step = get(unit, parent.id, step_id)
    again = _said_before(of_task(unit, parent.id), new)
    if step.status is TaskStatus.CANCELLED and again is not None:
        return again
    if step.status not in {TaskStatus.QUEUED, TaskStatus.BLOCKED}:
        raise TransitionError(f"a step that is {step.status.value} is not split any more")
    made = add(unit, parent, new, actor=actor)
    parts = [one.id for one in made.values()]
    replace_needs(unit, step.id, parts, actor=actor)
    set_status(unit, step, "T17", TaskStatus.CANCELLED, actor=actor, status_reason="split")
    return {local: task_of(_row(unit, one.id)) for local, one in made.items()}


def _row(unit: Unit, task_id: str) -> RowMapping:
    query = select(_task).where(_task.c.id == task_id)
    return unit.conn.execute(query).mappings().one()


def replace_needs(unit: Unit, task_id: str, parts: Sequence[str], *, actor: str) -> None:
    """Let several tasks wait for what one waits for, and all that waits for it wait for them."""
    needs = [need.id for need in dependencies.needed_by(unit, task_id)]
    after = dependencies.waiting_for(unit, task_id)
    for part in parts:
        dependencies.add(unit, part, needs)
        _settle(unit, part, actor)
    for waiter in after:
        dependencies.add(unit, waiter, parts)
        dependencies.remove(unit, waiter, task_id)
        _settle(unit, waiter, actor)


def _settle(unit: Unit, task_id: str, actor: str) -> None:
    reason = dependencies.reason_of(dependencies.needed_by(unit, task_id))
    settle(unit, task_of(_row(unit, task_id)), reason, actor=actor)


def get(unit: Unit, parent_id: str, step_id: str) -> Task:
    """A step of a task.

    Raises:
        NotFoundError: the task has no such step.
    """
    found = next((one for one in of_task(unit, parent_id) if one.id == step_id), None)
    if found is None:
        raise NotFoundError(f"Task not found: {step_id}", task_id=step_id)
    return found


def move(unit: Unit, step: Task, word: str, *, actor: str, reason: str | None = None) -> Task:
    """Begin, block, finish or cancel a step; what it is already, it stays.

    Args:
        unit: The unit of work.
        step: The step.
        word: `in_progress`, `blocked`, `done` or `cancelled`.
        actor: Who does it.
        reason: Why, for `blocked` and `cancelled`.

    Raises:
        TransitionError: it cannot become that from what it is.
        ConflictError: it waits for others.
    """
    match word:
        case "in_progress":
            return _begin(unit, step, actor)
        case "blocked" if step.status is TaskStatus.RUNNING:
            return set_status(
                unit,
                step,
                "T22",
                TaskStatus.WAITING,
                actor=actor,
                wait_reason=WaitReason.BLOCKED,
                status_reason=reason or "agent_reported",
            )
        case "blocked" if step.wait_reason is WaitReason.BLOCKED:
            return step
        case "done" if step.status is TaskStatus.SUCCEEDED:
            return step
        case "done" if step.status is TaskStatus.RUNNING:
            return set_status(unit, step, "T24", TaskStatus.SUCCEEDED, actor=actor, progress=100)
        case "cancelled" if step.status is TaskStatus.CANCELLED:
            return step
        case "cancelled" if step.status not in TERMINAL:
            return set_status(
                unit, step, "T17", TaskStatus.CANCELLED, actor=actor, status_reason=reason
            )
        case _:
            raise TransitionError(f"a step that is {step.status.value} cannot become {word}")


def _begin(unit: Unit, step: Task, actor: str) -> Task:
    if step.status is TaskStatus.RUNNING:
        return step
    if step.status is TaskStatus.BLOCKED:
        waits = dependencies.reason_of(dependencies.needed_by(unit, step.id))
        raise ConflictError(f"step {step.id} waits for others ({waits})", task_id=step.id)
    if step.wait_reason is WaitReason.BLOCKED:
        step = set_status(unit, step, "T23", TaskStatus.QUEUED, actor=actor)
    return set_status(
        unit, step, "T24", TaskStatus.RUNNING, actor=actor, started_at=step.started_at or unit.now
    )
