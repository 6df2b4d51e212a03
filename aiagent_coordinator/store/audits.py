"""Audits of a project, kept as they were activated: what agents later write into a file changes no rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from aiagent_coordinator import ids
from aiagent_coordinator.audits import (
    Audit,
    AuditStatus,
    Rule,
)
from aiagent_coordinator.errors import NotFoundError, ValidationError
from aiagent_coordinator.store import audit_tables, locks, projects, tables
from aiagent_coordinator.store.assignees import Staff
from aiagent_coordinator.store.requests import from_wire, to_wire
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.templates import TaskDraft

_audit = audit_tables.audit
_firing = audit_tables.audit_firing
_task = tables.task
_ONE = select(_audit).where(
    _audit.c.project_id == bindparam("project"), _audit.c.name == bindparam("which")
)


@dataclass(frozen=True)
class Kept:
    """An audit as it is kept: its rules, and whether they fire."""

    id: str
    project_id: str
    status: AuditStatus
    audit: Audit
    created_at: datetime
    updated_at: datetime


def activate(unit: Unit, project_id: str, audit: Audit, *, max_attempts: int, actor: str) -> Kept:
    """Keep the rules of an audit as they are now, and let them fire; again, it takes the new ones.

    Args:
        unit: The unit of work.
        project_id: Whose tasks they watch.
        audit: The rules.
        max_attempts: Of tasks that do not say.
        actor: Who does it.

    Raises:
        NotFoundError: there is no such project.
        ValidationError: a rule names somebody who does not work there; all are told.
    """
    projects.get_project(unit, project_id)
    staff = Staff(unit, project_id)
    wrong = [
        f"rules[{number}]: {reason}"
        for number, rule in enumerate(audit.rules)
        for reason in _why_not(rule, staff)
    ]
    if wrong:
        raise ValidationError(
            f"audit {audit.name}: {'; '.join(wrong)}",
            hint="name an agent of the project",
            key="rules",
            problems=wrong,
        )
    rules = tuple(
        replace(rule, tasks=tuple(_with_attempts(one, max_attempts) for one in rule.tasks))
        for rule in audit.rules
    )
    row = unit.conn.execute(_ONE, {"project": project_id, "which": audit.name}).mappings().first()
    columns: dict[str, Any] = {
        "status": AuditStatus.ACTIVE,
        "definition": to_wire(replace(audit, rules=rules)),
        "digest": audit.digest,
        "updated_at": unit.now,
    }
    if row is None:
        fixed = {"id": ids.new_id("aud"), "project_id": project_id, "name": audit.name}
        unit.conn.execute(insert(_audit).values({**fixed, **columns, "created_at": unit.now}))
    else:
        unit.conn.execute(update(_audit).where(_audit.c.id == row["id"]).values(columns))
    before = None if row is None else row["status"]
    _say(unit, project_id, audit.name, before, AuditStatus.ACTIVE, actor)
    return get(unit, project_id, audit.name)


def _why_not(rule: Rule, staff: Staff) -> list[str]:
    strangers = [
        f"agent {one} does not work in the project" for one in rule.agents if one not in staff.ids
    ]
    reasons = [staff.why_nobody(draft) for draft in rule.tasks]
    return [*strangers, *filter(None, reasons)]


def _with_attempts(draft: TaskDraft, most: int) -> TaskDraft:
    return draft if draft.max_attempts is not None else replace(draft, max_attempts=most)


def set_status(unit: Unit, project_id: str, name: str, status: AuditStatus, *, actor: str) -> Kept:
    """Let an audit rest, or put it away; put away it holds nothing any more.

    Raises:
        NotFoundError: no audit of that name was ever activated in the project.
    """
    kept = get(unit, project_id, name)
    if kept.status is not status:
        unit.conn.execute(
            update(_audit).where(_audit.c.id == kept.id).values(status=status, updated_at=unit.now)
        )
        _say(unit, project_id, name, kept.status, status, actor)
    if status is AuditStatus.INACTIVE:
        locks.release_all_of(unit, kept.id, actor=actor)
    return get(unit, project_id, name)


def _say(
    unit: Unit, project_id: str, name: str, before: str | None, after: AuditStatus, actor: str
) -> None:
    moved: dict[str, Any] = {"audit": name, "from": before, "to": after.value}
    unit.emit("audit.status", actor=actor, project_id=project_id, **moved)


def get(unit: Unit, project_id: str, name: str) -> Kept:
    """An audit of a project.

    Raises:
        NotFoundError: none of that name was ever activated in the project.
    """
    found = unit.conn.execute(_ONE, {"project": project_id, "which": name})
    row = found.mappings().first()
    if row is None:
        raise NotFoundError(
            f"no audit {name!r} was ever activated in project {project_id}",
            hint=f"audit activate {name} --project {project_id}",
        )
    return _kept(row)


def list_of(unit: Unit, project_id: str) -> list[Kept]:
    """Every audit that was ever activated in a project, by name."""
    query = select(_audit).where(_audit.c.project_id == project_id).order_by(_audit.c.name)
    return [_kept(row) for row in unit.conn.execute(query).mappings()]


def _kept(row: Mapping[str, Any] | Any) -> Kept:  # noqa: ANN401 - a row of the database
    return Kept(
        row["id"],
        row["project_id"],
        AuditStatus(row["status"]),
        from_wire(Audit, row["definition"]),
        row["created_at"],
        row["updated_at"],
    )


def last_firings(unit: Unit, audit_id: str, limit: int = 20) -> list[dict[str, Any]]:
    """What an audit did last, the newest first: `id`, `rule`, `task_id`, `at`, `tasks` (ids)."""
    query = (
        select(_firing)
        .where(_firing.c.audit_id == audit_id)
        .order_by(_firing.c.created_at.desc(), _firing.c.id.desc())
        .limit(limit)
    )
    made = select(_task.c.id).where(_task.c.audit_firing_id == bindparam("which"))
    return [
        {
            "id": row["id"],
            "rule": row["rule"],
            "task_id": row["task_id"],
            "at": row["created_at"],
            "tasks": sorted(unit.conn.scalars(made, {"which": row["id"]})),
        }
        for row in unit.conn.execute(query).mappings().all()
    ]
