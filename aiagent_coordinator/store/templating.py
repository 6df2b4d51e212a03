"""Tasks that a template makes: all in one transaction, or none; under one key once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import bindparam, insert, select

from aiagent_coordinator.errors import ConflictError, CoordinatorError, ValidationError
from aiagent_coordinator.store import audit_tables, projects
from aiagent_coordinator.store.assignees import Staff
from aiagent_coordinator.store.find import TITLE_CHARS
from aiagent_coordinator.store.tasks import DESCRIPTION_BYTES, NewTask, create_task, get_task
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.task_options import options_of
from aiagent_coordinator.tasks import Task
from aiagent_coordinator.templates import TaskDraft, Template, in_order, values_of

_run = audit_tables.template_run
_KNOWN = select(_run).where(
    _run.c.project_id == bindparam("project"), _run.c.key == bindparam("which")
)


@dataclass(frozen=True)
class Planned:
    """A task that would be made, with who would do it."""

    draft: TaskDraft
    agent_id: str | None


@dataclass(frozen=True)
class Made:
    """What became of a template: its tasks by their orders, and whether they stood before."""

    tasks: Mapping[int, Task]
    is_known: bool


def plan(
    unit: Unit, project_id: str, template: Template, given: Mapping[str, str]
) -> list[Planned]:
    """What a template would make, each after what it waits for. Makes nothing.

    Raises:
        NotFoundError: there is no such project.
        ValidationError: a variable is missing or not known, a text cannot be one of a task, or
            nobody can do one; what is wrong is told with its order.
    """
    projects.get_project(unit, project_id)
    values = values_of(template, given)
    staff = Staff(unit, project_id)
    filled = [draft.filled(values) for draft in in_order(template.tasks)]
    wrong = [
        f"order {one.order}: {reason}"
        for one in filled
        if (reason := _why_no_task(one) or staff.why_nobody(one)) is not None
    ]
    if wrong:
        raise ValidationError(
            f"template {template.name}: {'; '.join(wrong)}",
            hint="nothing was made",
            key="tasks",
            problems=wrong,
        )
    return [Planned(one, staff.choose(one)) for one in filled]


def _why_no_task(draft: TaskDraft) -> str | None:
    title = draft.title.strip()
    if not 1 <= len(title) <= TITLE_CHARS or not title.isprintable():
        return f"a title has 1 to {TITLE_CHARS} printable characters on one line"
    if any(len(one.encode(errors="replace")) > DESCRIPTION_BYTES for one in draft.texts()):
        return f"a text has more than {DESCRIPTION_BYTES} bytes"
    return None


def run(
    unit: Unit,
    project_id: str,
    template: Template,
    given: Mapping[str, str],
    *,
    max_attempts: int,
    key: str | None = None,
    actor: str,
) -> Made:
    """Make the tasks of a template, all or none.

    Args:
        unit: The unit of work.
        project_id: Where.
        template: What.
        given: Values of its variables.
        max_attempts: Of tasks that do not say.
        key: Said again it makes nothing and shows what it made; None: each call makes new ones.
        actor: Who does it.

    Raises:
        CoordinatorError: as for `plan`.
        ConflictError: the key made something else before.
    """
    if key is not None:
        known = _known(unit, project_id, template, given, key)
        if known is not None:
            return Made(known, is_known=True)
    made: dict[int, Task] = {}
    for one in plan(unit, project_id, template, given):
        made[one.draft.order] = _make(unit, project_id, one, made, max_attempts, actor)
    if key is not None:
        # of two callers at once one finds it taken, and comes back to see what was made
        row = {
            "project_id": project_id,
            "key": key,
            "template": template.name,
            "digest": _digest(template, given),
            "tasks": {str(order): task.id for order, task in made.items()},
            "created_at": unit.now,
        }
        unit.conn.execute(insert(_run).values(row))
    return Made(made, is_known=False)


def _make(
    unit: Unit,
    project_id: str,
    one: Planned,
    made: Mapping[int, Task],
    max_attempts: int,
    actor: str,
) -> Task:
    draft = one.draft
    if draft.max_attempts is None:
        draft = replace(draft, max_attempts=max_attempts)
    needs = [made[need].id for need in draft.depends_on_orders]
    try:
        return create_task(unit, new_task(project_id, draft, one.agent_id, needs), actor)
    except CoordinatorError as error:
        raise type(error)(f"order {draft.order}: {error.message}", hint=error.hint) from error


def new_task(
    project_id: str,
    draft: TaskDraft,
    agent_id: str | None,
    needs: Sequence[str],
    audit_firing_id: str | None = None,
) -> NewTask:
    """What is made of a draft whose texts are filled."""
    return NewTask(
        project_id=project_id,
        title=draft.title,
        agent_id=agent_id,
        description=draft.description,
        priority=draft.priority,
        acceptance=draft.acceptance,
        depends_on=tuple(needs),
        approval="pending" if draft.needs_approval else None,
        review_by=draft.review_by,
        max_attempts=draft.max_attempts or NewTask.max_attempts,
        audit_firing_id=audit_firing_id,
        options=options_of(draft.mcp_servers, draft.skills),
    )


def _known(
    unit: Unit, project_id: str, template: Template, given: Mapping[str, str], key: str
) -> dict[int, Task] | None:
    row = unit.conn.execute(_KNOWN, {"project": project_id, "which": key}).mappings().first()
    if row is None:
        return None
    if (row["template"], row["digest"]) != (template.name, _digest(template, given)):
        raise ConflictError(
            f"key {key!r} made tasks of template {row['template']} before, with other words",
            hint="choose another key, or say the same again",
        )
    return {int(order): get_task(unit, task_id) for order, task_id in row["tasks"].items()}


def _digest(template: Template, given: Mapping[str, str]) -> str:
    said = [template.digest, dict(sorted(given.items()))]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
