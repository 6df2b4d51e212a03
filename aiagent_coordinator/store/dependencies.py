"""What waits for what: kept, checked for circles, and looked at when a task ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, insert, select, update

from aiagent_coordinator.errors import CycleError
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.history import emit_task
from aiagent_coordinator.store.rows import task_of
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task, TaskStatus

_task = tables.task
_dependency = tables.dependency
#: Ids named in a reason; more are counted.
_NAMED: Final = 3
_NEVER: Final = frozenset({TaskStatus.FAILED, TaskStatus.CANCELLED})
#: Tasks that a change of their dependencies can hold or let go.
_NOT_BEGUN: Final = (TaskStatus.QUEUED, TaskStatus.BLOCKED)


@dataclass(frozen=True)
class Needed:
    """One task that another waits for."""

    id: str
    title: str
    status: TaskStatus


def needed_by(unit: Unit, task_id: str) -> list[Needed]:
    """What a task waits for, whether done or not, oldest first."""
    query = (
        select(_task.c.id, _task.c.title, _task.c.status)
        .join(_dependency, _dependency.c.depends_on == _task.c.id)
        .where(_dependency.c.task_id == task_id)
        .order_by(_task.c.id)
    )
    return [
        Needed(row["id"], row["title"], TaskStatus(row["status"]))
        for row in unit.conn.execute(query).mappings()
    ]


def waiting_for(unit: Unit, task_id: str) -> list[str]:
    """Ids of the tasks that wait for this one."""
    query = select(_dependency.c.task_id).where(_dependency.c.depends_on == task_id)
    return list(unit.conn.scalars(query.order_by(_dependency.c.task_id)))


def reason_of(needed: Sequence[Needed]) -> str | None:
    """What of its dependencies holds a task, in one line; None when nothing does."""
    broken = [one for one in needed if one.status in _NEVER]
    if broken:
        return f"dependency_failed: {broken[0].id} {broken[0].status.value}"
    missing = [one.id for one in needed if one.status is not TaskStatus.SUCCEEDED]
    if not missing:
        return None
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return f"dependencies: {', '.join(missing[:_NAMED])}{more}"


def lock_needed(unit: Unit, ids: Sequence[str]) -> list[Needed]:
    """The named tasks, held: none of them ends while somebody begins to wait for it."""
    query = select(_task).where(_task.c.id.in_(ids)).order_by(_task.c.id).with_for_update()
    rows = unit.conn.execute(query).mappings().all()
    return [Needed(row["id"], row["title"], TaskStatus(row["status"])) for row in rows]


def add(unit: Unit, task_id: str, depends_on: Sequence[str]) -> None:
    """Keep that a task waits for others; again changes nothing.

    Raises:
        CycleError: one of them waits for this task already; the message names the way.
    """
    known = {one.id for one in needed_by(unit, task_id)}
    for other in dict.fromkeys(depends_on):
        path = _path(unit, other, task_id)
        if path:
            raise CycleError(
                f"these tasks would wait for each other: {' -> '.join((task_id, *path))}",
                hint="leave one of these dependencies away",
                path=[task_id, *path],
            )
        if other not in known:
            unit.conn.execute(insert(_dependency).values(task_id=task_id, depends_on=other))


def remove(unit: Unit, task_id: str, depends_on: str) -> bool:
    """Forget that a task waits for another; False when it did not."""
    pair = (_dependency.c.task_id == task_id) & (_dependency.c.depends_on == depends_on)
    return bool(unit.conn.execute(delete(_dependency).where(pair)).rowcount)


def _path(unit: Unit, start: str, goal: str) -> list[str]:
    """How `start` comes to wait for `goal`, both ends included; empty when it does not."""
    came_from: dict[str, str | None] = {start: None}
    edge: list[str] = [start]
    while edge and goal not in came_from:
        rows = unit.conn.execute(
            select(_dependency).where(_dependency.c.task_id.in_(edge))
        ).mappings()
        found = [(row["task_id"], row["depends_on"]) for row in rows.all()]
        edge = []
        for task_id, needs in found:
            if needs not in came_from:
                came_from[needs] = task_id
                edge.append(needs)
    path: list[str] = []
    place: str | None = goal if goal in came_from else None
    while place is not None:
        path.append(place)
        place = came_from[place]
    return path[::-1]


def held_up_by(unit: Unit, task: Task) -> list[tuple[Task, str | None]]:
    """Tasks that wait for one that just ended or came back, each with what holds it now."""
    query = (
        select(_task)
        .join(_dependency, _dependency.c.task_id == _task.c.id)
        .where(_dependency.c.depends_on == task.id, _task.c.status.in_(_NOT_BEGUN))
        .order_by(_task.c.id)
        .with_for_update(of=_task)
    )
    held = [task_of(row) for row in unit.conn.execute(query).mappings().all()]
    return [(one, reason_of(needed_by(unit, one.id))) for one in held]


def say_reason(unit: Unit, task: Task, reason: str | None, *, actor: str) -> None:
    """Keep another reason for a task that stays blocked."""
    unit.conn.execute(
        update(_task)
        .where(_task.c.id == task.id, _task.c.version == task.version)
        .values(status_reason=reason, version=task.version + 1, updated_at=unit.now)
    )
    names = [one.id for one in needed_by(unit, task.id)]
    emit_task(
        unit,
        task,
        "task.dependencies",
        actor=actor,
        data={"depends_on": names, "reason": reason},
    )
