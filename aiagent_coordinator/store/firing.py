"""Audits fire: what happens to tasks meets their rules, and makes tasks and holds what the rules say.

They fire in the transaction that changes the task, whoever changes it, so a report that is said twice
fires once. Nothing here may refuse that change: what cannot be done as written is done as well as it can.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import bindparam, func, insert, select, update

from aiagent_coordinator import ids
from aiagent_coordinator.audits import (
    TAKEN,
    Audit,
    AuditStatus,
    Change,
    LockSubject,
    Rule,
    concerns,
    facts_of,
    fires,
)
from aiagent_coordinator.events import Event
from aiagent_coordinator.store import audit_tables, locks, runs, tables, waking
from aiagent_coordinator.store.assignees import Staff
from aiagent_coordinator.store.find import TITLE_CHARS
from aiagent_coordinator.store.history import emit_task
from aiagent_coordinator.store.requests import from_wire
from aiagent_coordinator.store.tasks import DESCRIPTION_BYTES, create_task, get_task
from aiagent_coordinator.store.templating import new_task
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, Task, TaskStatus
from aiagent_coordinator.templates import TaskDraft, in_order

_audit = audit_tables.audit
_firing = audit_tables.audit_firing
_lock = audit_tables.audit_lock
_task = tables.task
#: How often one audit looks at one task: a task that goes to and fro makes no endless chain.
MAX_FIRINGS: Final = 10
_ACTIVE = select(_audit.c.project_id, _audit.c.id, _audit.c.definition).where(
    _audit.c.status == AuditStatus.ACTIVE
)
_SAID = select(_firing.c.id).where(
    _firing.c.task_id == bindparam("task"),
    _firing.c.task_version == bindparam("version"),
    _firing.c.audit_id == bindparam("audit"),
    _firing.c.rule == bindparam("number"),
)
_COUNT = (
    select(func.count())
    .select_from(_firing)
    .where(_firing.c.task_id == bindparam("task"), _firing.c.audit_id == bindparam("audit"))
)
_HOLD = update(_task).where(_task.c.id == bindparam("which")).values(is_locked=True)
#: Of a text that is put into a title or a description.
_MAX_TEXT: Final = 16_000


def follow(unit: Unit) -> None:
    """Fire what the changes of a unit meet, and let go of what they end. Runs at the end of each unit.

    What it does itself is looked at too: what was held may go on, and that may meet a rule.
    """
    events = unit.take_events(refused=False)
    active: list[tuple[str, str, Audit]] | None = None
    for event in events:  # grows meanwhile
        change = _change_of(unit, event)
        if change is None:
            continue
        if change.target in TERMINAL and event.task_id is not None:
            locks.after(unit, get_task(unit, event.task_id))
        if active is None:
            active = [
                (project_id, audit_id, from_wire(Audit, definition))
                for project_id, audit_id, definition in unit.conn.execute(_ACTIVE)
            ]
        for project_id, audit_id, audit in active:
            if project_id == event.project_id and event.task_id is not None:
                _look(unit, audit_id, audit, get_task(unit, event.task_id), change)


def _change_of(unit: Unit, event: Event) -> Change | None:
    """What an event says that rules can wait for; None when it says nothing of that."""
    if event.action == "handoff.taken" and event.task_id is not None:
        return Change(TAKEN, get_task(unit, event.task_id).status, None)
    if event.action != "task.status" or event.data.get("transition") == "T1":
        return None
    reason = event.data.get("reason")
    transition = str(event.data.get("transition"))
    if transition in {"T14", "T16"} and event.run_id is not None:
        # the last attempt failed because attempts are used up; its run knows better
        reason = runs.get_run(unit, event.run_id).reason or reason
    return Change(transition, TaskStatus(str(event.data["to"])), reason)


def _look(unit: Unit, audit_id: str, audit: Audit, task: Task, change: Change) -> None:
    if not concerns(task):
        return
    for number, rule in enumerate(audit.rules):
        if not fires(rule, task, change) or _is_of_audit(unit, task):
            continue
        count = unit.conn.scalar(_COUNT, {"task": task.id, "audit": audit_id}) or 0
        # what is taken changes no task; it is taken once, and numbered downwards
        version = -1 - count if change.transition == TAKEN else task.version
        cause = {"task": task.id, "version": version, "audit": audit_id, "number": number}
        if count < MAX_FIRINGS and unit.conn.scalar(_SAID, cause) is None:
            _fire(unit, audit, cause, task, change)


def _is_of_audit(unit: Unit, task: Task) -> bool:
    """Whether it is a part of what an audit made."""
    return any(
        get_task(unit, above).audit_firing_id is not None for above in waking.ancestors(unit, task)
    )


def _fire(unit: Unit, audit: Audit, cause: Mapping[str, Any], task: Task, change: Change) -> None:
    number: int = cause["number"]
    firing_id, rule = ids.new_id("fir"), audit.rules[number]
    row: dict[str, Any] = {
        "id": firing_id,
        "audit_id": cause["audit"],
        "rule": number,
        "task_id": task.id,
        "task_version": cause["version"],
        "created_at": unit.now,
    }
    unit.conn.execute(insert(_firing).values(row))
    actor = f"audit:{audit.name}"
    made = _make(unit, audit, rule, task, change, firing_id)
    locked = _hold(unit, rule, task, firing_id, {one.agent_id for one in made.values()})
    data: dict[str, object] = {
        "audit": audit.name,
        "rule": number,
        "tasks": [one.id for one in made.values()],
        "locked": locked,
    }
    emit_task(unit, task, "audit.fired", actor=actor, data=data)


def _make(
    unit: Unit, audit: Audit, rule: Rule, task: Task, change: Change, firing_id: str
) -> dict[int, Task]:
    """The tasks of a rule, by their orders."""
    made: dict[int, Task] = {}
    staff = Staff(unit, task.project_id)
    values = {name: value[:_MAX_TEXT] for name, value in facts_of(audit.name, task, change).items()}
    for draft in in_order(rule.tasks):
        one = _fitting(draft.filled(values), staff, task)
        needs = [made[need].id for need in one.depends_on_orders]
        new = new_task(task.project_id, one, staff.choose(one), needs, firing_id)
        made[draft.order] = create_task(unit, new, f"audit:{audit.name}")
    return made


def _fitting(draft: TaskDraft, staff: Staff, task: Task) -> TaskDraft:
    """The task as the board takes it for sure: texts cut, and nobody named who left the project since."""
    ending = f" [Audit: {_line(task.title)}"
    title = _line(draft.title)[: TITLE_CHARS // 2] or "Audit"
    ending = f"{ending[: TITLE_CHARS - len(title) - 1]}]"
    agent_id = draft.agent_id if draft.agent_id in staff.ids else None
    review_by = draft.review_by
    if review_by is not None and (review_by not in staff.ids or review_by == agent_id):
        review_by = "person"
    return replace(
        draft,
        title=title + ending,
        description=draft.description.encode()[:DESCRIPTION_BYTES].decode(errors="ignore"),
        agent_id=agent_id,
        review_by=review_by,
    )


def _line(text: str) -> str:
    return "".join(one for one in " ".join(text.split()) if one.isprintable())


def _hold(
    unit: Unit, rule: Rule, task: Task, firing_id: str, busy: Collection[str | None]
) -> dict[str, str]:
    """Hold what a rule says: what → whom.

    An agent that has a task of the rule itself is not held: nobody else would ever let it go.
    """
    held: dict[str, str] = {}
    if LockSubject.TASK in rule.lock:
        held[LockSubject.TASK.value] = task.id
        unit.conn.execute(_HOLD, {"which": task.id})
        emit_task(unit, task, "task.locked", actor="audit", data={"firing_id": firing_id})
    agent_id = _agent_of(unit, task)
    if LockSubject.AGENT in rule.lock and agent_id is not None and agent_id not in busy:
        held[LockSubject.AGENT.value] = agent_id
        unit.emit("agent.locked", actor="audit", agent_id=agent_id, firing_id=firing_id)
    for subject, subject_id in held.items():
        row = {"firing_id": firing_id, "subject": subject, "subject_id": subject_id}
        unit.conn.execute(insert(_lock).values({**row, "created_at": unit.now}))
    return held


def _agent_of(unit: Unit, task: Task) -> str | None:
    """Who did the task last, or is to do it."""
    run = runs.latest_run_of(unit, task.id)
    return task.agent_id if run is None else run.agent_id
