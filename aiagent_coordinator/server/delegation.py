"""How a manager's sub-tasks and subordinates look to it, and how it makes new ones."""

from __future__ import annotations

from collections.abc import Sequence

from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.statuses import outward, reason
from aiagent_coordinator.store import dependencies, subtasks, waking
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.subtasks import Batch, NewPart
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, SubtaskPolicy, Task

#: Of a sub-task's own summary, in a list.
_SUMMARY_CHARS = 2000
_NEXT = "Call get_next_action."


def own_task(unit: Unit, run: Run, named: str | None = None) -> Task:
    """A manager's task, locked; from now on nobody else's.

    Raises:
        ValidationError: it has none, or names another.
    """
    if run.task_id is None or named not in (None, run.task_id):
        raise ValidationError(
            "sub-tasks belong to your own task",
            hint="leave parent_task_id away",
            key="parent_task_id",
        )
    return subtasks.take(unit, task_store.lock_task(unit, run.task_id), run.agent_id)


def create(
    unit: Unit, run: Run, new: Sequence[NewPart], policy: SubtaskPolicy, key: str | None
) -> Json:
    """Make sub-tasks for others; a batch that is there already is shown, and what is called alike."""
    parent = own_task(unit, run)
    batch = subtasks.add(unit, parent, new, policy, key=key)
    return told(unit, parent, batch)


def told(unit: Unit, parent: Task, batch: Batch) -> Json:
    """What a manager hears of a batch."""
    made = {task.id for task in batch.made.values()}
    others = [one for one in waking.delegated(unit, parent.id) if one.id not in made]
    answer: Json = {
        "success": True,
        "tasks": [line(unit, one) for one in batch.made.values()],
        "task_count": len(batch.made),
        "local_id_to_real_id": {local: one.id for local, one in batch.made.items()},
        "already_existed": batch.is_known,
        "existing": [line(unit, one) for one in others],
        "instruction": _NEXT,
    }
    if batch.is_known:
        answer["instruction"] = f"This batch was made before; nothing was made twice. {_NEXT}"
    if batch.alike:
        answer["warnings"] = [
            f"{title!r} is called much like {one.title!r} ({one.id}); cancel one if they are the same"
            for title, alike in batch.alike.items()
            for one in alike
        ]
    return answer


def line(unit: Unit, task: Task, standing: str | None = None) -> Json:
    """A sub-task as its manager sees it, with what came of it."""
    shown: Json = {
        "id": task.id,
        "task_id": task.id,
        "title": task.title,
        "status": outward(task),
        "priority": task.priority,
        "assignee_id": task.agent_id,
        "depends_on": [one.id for one in dependencies.needed_by(unit, task.id)],
    }
    why = reason(task) or (task.status_reason if task.status == "blocked" else None)
    if why is not None:
        shown["reason"] = why
    if standing is not None:
        shown["standing"] = standing
    for key in ("summary", "branch", "commit", "verification", "error"):
        value = task.result.get(key)
        if value:
            shown[key] = str(value)[:_SUMMARY_CHARS]
    return shown


def workers(unit: Unit, run: Run) -> list[Json]:
    """Who can be given sub-tasks, those with the least to do first."""
    mine = subtasks.subordinates(unit, run.agent_id, run.project_id)
    has = subtasks.load(unit, run.project_id)
    return [
        {
            **subordinate(one),
            "open_tasks": has[one.id],
            "max_parallel_tasks": one.max_concurrent,
        }
        for one in sorted(mine, key=lambda one: has[one.id])
        if one.enabled
    ]


def subordinate(agent: Agent) -> Json:
    """An agent as its manager sees it."""
    return {
        "id": agent.id,
        "name": agent.name,
        "role": agent.role or agent.id,
        "type": "ai",
        "hierarchy_type": agent.hierarchy.value,
        "status": "active" if agent.enabled else "inactive",
    }
