"""What is written about tasks into the history of events."""

from __future__ import annotations

from collections.abc import Mapping

from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task, TaskStatus


def move_data(
    transition: str, source: TaskStatus | None, target: TaskStatus, reason: str | None = None
) -> dict[str, object]:
    """What a `task.status` event carries."""
    return {
        "transition": transition,
        "from": source.value if source else None,
        "to": target.value,
        "reason": reason,
    }


def emit_task(
    unit: Unit,
    task: Task,
    action: str,
    *,
    actor: str,
    data: Mapping[str, object],
    run_id: str | None = None,
) -> None:
    """Say that something happened to a task; see `Unit.emit`."""
    unit.emit(
        action,
        actor=actor,
        project_id=task.project_id,
        task_id=task.id,
        run_id=run_id,
        agent_id=task.agent_id,
        refusal=False,
        **data,
    )
