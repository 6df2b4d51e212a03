"""What audits hold: tasks that nobody but a person moves, agents that get nothing new; and letting go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, func, select, update

from aiagent_coordinator.audits import LockSubject
from aiagent_coordinator.errors import ConflictError
from aiagent_coordinator.store import audit_tables, dependencies, questions, runs, tables, waking
from aiagent_coordinator.store.history import emit_task
from aiagent_coordinator.store.rows import task_of
from aiagent_coordinator.store.transitions import go_on, settle
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task, TaskStatus, WaitReason

_lock = audit_tables.audit_lock
_firing = audit_tables.audit_firing
_audit = audit_tables.audit
_task = tables.task
_OPEN: Final = _lock.c.released_at.is_(None)
_ANY = select(_lock.c.firing_id).where(_OPEN).limit(1)
_AGENT = (
    select(_lock.c.firing_id)
    .where(_lock.c.subject == LockSubject.AGENT, _lock.c.subject_id == bindparam("which"), _OPEN)
    .limit(1)
)
_LOCKED_AGENTS = (
    select(_lock.c.subject_id).where(_lock.c.subject == LockSubject.AGENT, _OPEN).distinct()
)
_ONE_TASK = select(_task).where(_task.c.id == bindparam("which")).with_for_update()
_MARK = update(_task).where(_task.c.id == bindparam("which"))
_OF_FIRING = (
    select(_task.c.id, _task.c.status)
    .where(_task.c.audit_firing_id == bindparam("which"))
    .order_by(_task.c.id)
)
#: What lets go of what a firing held, once all its tasks are one of these.
_DONE: Final = frozenset({TaskStatus.SUCCEEDED, TaskStatus.CANCELLED})


@dataclass(frozen=True)
class Held:
    """One open lock: what is held, by which audit, because of which task."""

    firing_id: str
    subject: LockSubject
    subject_id: str
    audit: str
    project_id: str
    #: The task that the audit looks at.
    task_id: str


def is_agent_locked(unit: Unit, agent_id: str) -> bool:
    """Whether an agent gets nothing new."""
    return unit.conn.scalar(_AGENT, {"which": agent_id}) is not None


def locked_agents(unit: Unit) -> frozenset[str]:
    """Every agent that gets nothing new."""
    return frozenset(unit.conn.scalars(_LOCKED_AGENTS))


def held(unit: Unit, *conditions: ColumnElement[bool]) -> list[Held]:
    """Open locks, oldest first."""
    query = (
        select(
            _lock.c.firing_id,
            _lock.c.subject,
            _lock.c.subject_id,
            _audit.c.name,
            _audit.c.project_id,
            _firing.c.task_id,
        )
        .join(_firing, _firing.c.id == _lock.c.firing_id)
        .join(_audit, _audit.c.id == _firing.c.audit_id)
        .where(_OPEN, *conditions)
        .order_by(_lock.c.firing_id, _lock.c.subject)
    )
    return [
        Held(one[0], LockSubject(one[1]), one[2], one[3], one[4], one[5])
        for one in unit.conn.execute(query)
    ]


def of(unit: Unit, subject: LockSubject, subject_id: str) -> list[Held]:
    """The open locks of a task or an agent."""
    return held(unit, _lock.c.subject == subject, _lock.c.subject_id == subject_id)


def of_audit(unit: Unit, audit_id: str) -> list[Held]:
    """The open locks of an audit."""
    return held(unit, _audit.c.id == audit_id)


def open_tasks_of(unit: Unit, firing_id: str) -> list[str]:
    """Ids of the tasks of a firing that are not over yet, or failed."""
    rows = unit.conn.execute(_OF_FIRING, {"which": firing_id}).all()
    return [task_id for task_id, status in rows if status not in _DONE]


def after(unit: Unit, task: Task) -> None:
    """A task of an audit is over: what its firing holds is let go if it was the last.

    One that failed keeps it; a person tries it again, or unlocks.
    """
    if task.audit_firing_id is None or unit.conn.scalar(_ANY) is None:
        return
    if not open_tasks_of(unit, task.audit_firing_id):
        _release(unit, held(unit, _lock.c.firing_id == task.audit_firing_id), "audit")


def release_all_of(unit: Unit, audit_id: str, *, actor: str) -> None:
    """Let go of all that an audit holds."""
    _release(unit, of_audit(unit, audit_id), actor)


def unlock(unit: Unit, subject: LockSubject, subject_id: str, *, actor: str) -> Sequence[Held]:
    """Let go of a task or an agent, whatever holds it.

    Returns:
        What held it.

    Raises:
        ConflictError: nothing does.
    """
    found = of(unit, subject, subject_id)
    if not found:
        raise ConflictError(f"no audit holds {subject} {subject_id}", hint="there is nothing to do")
    _release(unit, found, actor)
    return found


def _release(unit: Unit, locks: Sequence[Held], actor: str) -> None:
    for one in locks:
        facts: dict[str, Any] = {"released_at": unit.now, "released_by": actor}
        unit.conn.execute(
            update(_lock)
            .where(_lock.c.firing_id == one.firing_id, _lock.c.subject == one.subject)
            .values(facts)
        )
        data: dict[str, Any] = {"audit": one.audit, "held": one.subject.value}
        if one.subject is LockSubject.AGENT:
            unit.emit("agent.unlocked", actor=actor, agent_id=one.subject_id, refusal=False, **data)
            continue
        row = unit.conn.execute(_ONE_TASK, {"which": one.subject_id}).mappings().one()
        emit_task(unit, task_of(row), "task.unlocked", actor=actor, data=data)
        if not _count(unit, one):
            unit.conn.execute(_MARK, {"which": one.subject_id, "is_locked": False})
            _look_again(unit, task_of({**row, "is_locked": False}), actor)


def _count(unit: Unit, like: Held) -> int:
    query = select(func.count()).where(
        _lock.c.subject == like.subject, _lock.c.subject_id == like.subject_id, _OPEN
    )
    return unit.conn.scalar(query) or 0


def _look_again(unit: Unit, task: Task, actor: str) -> None:
    """Do what was left undone while the task was held: what it waited for may be there."""
    settle(unit, task, dependencies.reason_of(dependencies.needed_by(unit, task.id)), actor=actor)
    if task.status is not TaskStatus.WAITING or runs.live_run_of(unit, task.id) is not None:
        return
    if task.wait_reason is WaitReason.SUBTASKS and waking.is_awake(unit, task):
        go_on(unit, task, actor=actor)
    elif task.wait_reason is WaitReason.INPUT:
        questions.after_run(unit, task, actor=actor)
