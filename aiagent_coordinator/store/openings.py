"""Tasks that are not over, as little of each as it takes to see whether they still move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from aiagent_coordinator.store import tables
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, TaskKind, TaskStatus

_task = tables.task
_dependency = tables.dependency


@dataclass(frozen=True)
class OpenTask:
    """A task that is not over. Without an agent anybody of its project may take it."""

    id: str
    project_id: str
    agent_id: str | None
    status: TaskStatus
    #: An audit holds it.
    is_locked: bool = False


def open_tasks(unit: Unit) -> Mapping[str, OpenTask]:
    """Every task that is not over, by id."""
    columns = (
        _task.c.id,
        _task.c.project_id,
        _task.c.agent_id,
        _task.c.status,
        _task.c.is_locked,
    )
    # a step moves when its parent's run does
    is_open = _task.c.status.not_in(TERMINAL) & (_task.c.kind != TaskKind.STEP)
    query = select(*columns).where(is_open).order_by(_task.c.id)
    rows = unit.conn.execute(query).mappings()
    return {
        row["id"]: OpenTask(
            row["id"],
            row["project_id"],
            row["agent_id"],
            TaskStatus(row["status"]),
            row["is_locked"],
        )
        for row in rows
    }


def needs(unit: Unit) -> Mapping[str, tuple[str, ...]]:
    """What each task that is blocked waits for."""
    query = (
        select(_dependency.c.task_id, _dependency.c.depends_on)
        .join(_task, _task.c.id == _dependency.c.task_id)
        .where(_task.c.status == TaskStatus.BLOCKED)
    )
    found: dict[str, tuple[str, ...]] = {}
    for row in unit.conn.execute(query).mappings():
        found[row["task_id"]] = (*found.get(row["task_id"], ()), row["depends_on"])
    return found
