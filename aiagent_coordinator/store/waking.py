"""How the sub-tasks that a manager gave to others stand, and when one that waits for them goes on. Only reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import bindparam, literal_column, select

from aiagent_coordinator.runs import RunPhase
from aiagent_coordinator.store import dependencies, tables
from aiagent_coordinator.store.rows import task_of
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task, TaskKind, TaskStatus, WaitReason

_task = tables.task
_OF = (
    select(_task)
    .where(_task.c.parent_id == bindparam("which"), _task.c.kind != TaskKind.STEP)
    .order_by(_task.c.created_at, _task.c.id)
)
_LOCK = select(_task).where(_task.c.id == bindparam("which")).with_for_update()
_PARENT = select(_task.c.parent_id).where(_task.c.id == bindparam("which"))
_LIVE_RUN = select(tables.run.c.id).where(
    tables.run.c.task_id == bindparam("which"), tables.run.c.phase != RunPhase.ENDED
)
#: What goes on without its manager.
MOVING: Final = frozenset({"running", "ready"})
_DONE: Final = frozenset({TaskStatus.SUCCEEDED, TaskStatus.CANCELLED})
_NEVER: Final = frozenset({TaskStatus.FAILED, TaskStatus.CANCELLED})
#: More levels than tasks may ever have.
_MAX_LEVELS: Final = 100


def delegated(unit: Unit, task_id: str) -> list[Task]:
    """The sub-tasks of a task that are others' work, oldest first."""
    return [task_of(row) for row in unit.conn.execute(_OF, {"which": task_id}).mappings()]


def standing(unit: Unit, parent: Task, children: Sequence[Task]) -> dict[str, str]:
    """How each sub-task stands, as workflows call it: id → word.

    `ready` goes on by itself, at once or after others; `waiting` never will: what it waits for failed,
    is left alone, or is the very task that waits for it.
    """
    known = {one.id: one for one in children}
    above = {parent.id, *ancestors(unit, parent)}
    dismissed = set((parent.workflow_state or {}).get("dismissed", ()))
    words = {one.id: _word(one, is_dismissed=one.id in dismissed) for one in children}
    for one in children:
        if one.status is TaskStatus.BLOCKED:
            stuck = _is_stuck(unit, one.id, (known, above, words), frozenset())
            words[one.id] = "waiting" if stuck else "ready"
    return words


def _word(task: Task, *, is_dismissed: bool) -> str:
    if task.status in _DONE or (task.status is TaskStatus.FAILED and is_dismissed):
        return "over"
    if task.status is TaskStatus.WAITING:
        # a person, a reviewer or its own sub-tasks are at it; of the rest somebody must take care
        is_stopped = task.wait_reason in {WaitReason.BLOCKED, WaitReason.AUTH}
        return "blocked" if is_stopped else "running"
    words = {
        TaskStatus.RUNNING: "running",
        TaskStatus.QUEUED: "ready",
        TaskStatus.BACKLOG: "unassigned",
        TaskStatus.FAILED: "blocked",
    }
    return words.get(task.status, "waiting")


def _is_stuck(
    unit: Unit,
    task_id: str,
    around: tuple[Mapping[str, Task], set[str], Mapping[str, str]],
    seen: frozenset[str],
) -> bool:
    known, above, words = around
    for need in dependencies.needed_by(unit, task_id):
        if need.status is TaskStatus.SUCCEEDED or need.id in seen:
            continue
        if need.status in _NEVER or need.id in above:
            return True
        if need.id not in known:
            continue
        if need.status is TaskStatus.BLOCKED:
            if _is_stuck(unit, need.id, around, seen | {task_id}):
                return True
        elif words[need.id] not in MOVING:
            return True
    return False


def ancestors(unit: Unit, task: Task) -> list[str]:
    """The ids of the tasks above a task, the nearest first."""
    found: list[str] = []
    above = task.parent_id
    while above is not None and len(found) < _MAX_LEVELS:
        found.append(above)
        above = unit.conn.scalar(_PARENT, {"which": above})
    return found


def is_needed(awaited: Mapping[str, str], words: Mapping[str, str]) -> bool:
    """Whether a manager that waits has something to do: what it waited for changed, and matters. Pure.

    Args:
        awaited: How its sub-tasks stood when it began to wait.
        words: How they stand now.
    """
    changed = {words[one] for one in words if words[one] != awaited.get(one)}
    if not changed:
        return False
    if not MOVING & set(words.values()):
        return True
    if changed & {"blocked", "waiting", "unassigned"}:
        return True
    return "over" in changed and "unassigned" in words.values()


def progress(unit: Unit) -> dict[tuple[str, str], dict[str, int]]:
    """How far the sub-tasks are that managers wait for: (agent, project) → counts."""
    above, below = _task.alias(), _task.alias()
    rows = unit.conn.execute(
        select(above.c.agent_id, above.c.project_id, below.c.status)
        .join(below, below.c.parent_id == above.c.id)
        .where(
            # a literal: with a parameter the index of these few rows is not used
            above.c.wait_reason == literal_column(f"'{WaitReason.SUBTASKS.value}'"),
            below.c.kind != TaskKind.STEP,
        )
    )
    found: dict[tuple[str, str], dict[str, int]] = {}
    for agent_id, project_id, status in rows:
        counts = found.setdefault(
            (agent_id, project_id), {"completed": 0, "in_progress": 0, "total": 0}
        )
        counts["total"] += 1
        counts["completed"] += status in _DONE
        counts["in_progress"] += status == TaskStatus.RUNNING
    return found


def is_awake(unit: Unit, task: Task) -> bool:
    """Whether a task that waits for its sub-tasks has a reason to go on."""
    if task.status is not TaskStatus.WAITING or task.wait_reason is not WaitReason.SUBTASKS:
        return False
    return is_needed(task.awaited or {}, standing(unit, task, delegated(unit, task.id)))


def to_wake(unit: Unit, child: Task) -> Task | None:
    """The task above one that just changed, locked, if that lets it go on now.

    While its last run is still ending it is not: the run's end looks again.
    """
    if child.parent_id is None or child.kind is TaskKind.STEP:
        return None
    row = unit.conn.execute(_LOCK, {"which": child.parent_id}).mappings().first()
    parent = None if row is None else task_of(row)
    if parent is None or not is_awake(unit, parent):
        return None
    is_ending = unit.conn.scalar(_LIVE_RUN, {"which": parent.id}) is not None
    return None if is_ending else parent
