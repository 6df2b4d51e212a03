"""The sub-tasks that others work on for a manager: made in batches, within bounds, for those below it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Final

from sqlalchemy import bindparam, func, select, update

from aiagent_coordinator.errors import (
    ForbiddenError,
    LimitError,
    NotFoundError,
    TransitionError,
    ValidationError,
)
from aiagent_coordinator.store import projects, tables, waking
from aiagent_coordinator.store.steps import NewStep, in_order, replace_needs
from aiagent_coordinator.store.tasks import (
    NewTask,
    cancel_task,
    create_task,
    get_task,
    lock_task,
)
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.task_options import switched_off
from aiagent_coordinator.tasks import (
    TERMINAL,
    Agent,
    SubtaskPolicy,
    Task,
    TaskKind,
    TaskStatus,
)

_task = tables.task
_GIVE = update(_task).where(_task.c.id == bindparam("which"))
#: Titles at least so alike are worth a warning.
ALIKE: Final = 0.8


@dataclass(frozen=True)
class NewPart(NewStep):
    """A sub-task that is to be made. Without an assignee it waits until somebody is given it."""

    assignee_id: str | None = None


@dataclass(frozen=True)
class Batch:
    """What became of a batch: the sub-tasks by their local ids, and whether they stood before."""

    made: dict[str, Task]
    is_known: bool
    #: Title of a new one → those that were there before and are called nearly the same.
    alike: dict[str, list[Task]]


def take(unit: Unit, task: Task, agent_id: str) -> Task:
    """A task that was anybody's is its manager's from now on: who cut it goes on with it."""
    if task.agent_id is None:
        unit.conn.execute(_GIVE, {"which": task.id, "agent_id": agent_id, "updated_at": unit.now})
    return replace(task, agent_id=agent_id)


def subordinates(unit: Unit, manager_id: str, project_id: str) -> list[Agent]:
    """The agents that work directly for a manager in a project, those that are disabled too."""
    return [
        agent
        for agent, project in projects.assignments(unit)
        if project.id == project_id and agent.parent_id == manager_id
    ]


def load(unit: Unit, project_id: str) -> Counter[str]:
    """How many tasks each agent of a project has that are given to it and not over."""
    query = (
        select(_task.c.agent_id, func.count())
        .where(
            _task.c.project_id == project_id,
            _task.c.agent_id.is_not(None),
            _task.c.kind != TaskKind.STEP,
            _task.c.status.not_in((*TERMINAL, TaskStatus.BACKLOG)),
        )
        .group_by(_task.c.agent_id)
    )
    return Counter({str(row[0]): int(row[1]) for row in unit.conn.execute(query)})


def child(unit: Unit, parent_id: str, task_id: str) -> Task:
    """A sub-task of a task, locked.

    Raises:
        NotFoundError: it has no such sub-task.
    """
    if not any(one.id == task_id for one in waking.delegated(unit, parent_id)):
        raise NotFoundError(f"Task not found: {task_id[:100]}", task_id=task_id)
    return lock_task(unit, task_id)


def add(
    unit: Unit,
    parent: Task,
    new: Sequence[NewPart],
    policy: SubtaskPolicy,
    *,
    key: str | None = None,
) -> Batch:
    """Make sub-tasks of a manager's task, all or none; a batch that is there already is shown.

    Args:
        unit: The unit of work.
        parent: The task, locked.
        new: The sub-tasks; each needs a local id of its own.
        policy: How deep and how many.
        key: What the batch is called; without, what it says names it.

    Raises:
        ValidationError: two have one local id, one needs what is not there, or an assignee is none.
        ForbiddenError: an assignee does not work for the manager.
        CycleError: they would wait for each other.
        LimitError: there would be too many, or too deep.
    """
    known = waking.delegated(unit, parent.id)
    by_id = {one.local_id: one for one in new}
    if len(by_id) != len(new):
        raise ValidationError("two tasks of the batch have the same local_id", key="tasks")
    key = key or _digest(new)
    stood = {one.local_id or one.id: one for one in known if one.batch_key == key}
    if stood:
        return Batch(stood, is_known=True, alike={})
    _check_budget(unit, parent, known, len(new), policy)
    made: dict[str, Task] = {}
    for one in in_order(by_id):
        made[one.local_id] = _make(unit, parent, one, made, key)
    # told in the order in which they were named
    return Batch({one.local_id: made[one.local_id] for one in new}, False, _alike(new, known))


def _make(unit: Unit, parent: Task, one: NewStep, made: Mapping[str, Task], key: str) -> Task:
    assignee = getattr(one, "assignee_id", None)
    if assignee is not None:
        check_assignee(unit, parent, assignee)
    return create_task(
        unit,
        NewTask(
            project_id=parent.project_id,
            title=one.title,
            agent_id=assignee,
            description=one.description,
            parent_id=parent.id,
            # nobody's: not to be taken by whoever comes first
            status=TaskStatus.QUEUED if assignee else TaskStatus.BACKLOG,
            priority=one.priority,
            max_attempts=parent.max_attempts,
            options=switched_off(parent.options),
            depends_on=tuple(made[need].id for need in one.needs),
            batch_key=key,
            local_id=one.local_id,
        ),
        actor_of(parent),
    )


def _check_budget(
    unit: Unit, parent: Task, known: Sequence[Task], more: int, policy: SubtaskPolicy
) -> None:
    if len(waking.ancestors(unit, parent)) + 1 > policy.max_depth:
        raise LimitError(
            f"SUBTASK_DEPTH: sub-tasks go {policy.max_depth} levels deep, and this task is at the last",
            hint="do this task without sub-tasks of others",
            limit="SUBTASK_DEPTH",
        )
    if len(known) + more > policy.max_per_task:
        raise LimitError(
            f"SUBTASK_LIMIT: a task has at most {policy.max_per_task} sub-tasks, and there are {len(known)}",
            hint="make fewer and larger ones, or use those there are",
            limit="SUBTASK_LIMIT",
        )


def _digest(new: Sequence[NewPart]) -> str:
    said = [[one.local_id, one.title, one.description, sorted(one.needs)] for one in new]
    return "sha256:" + hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _alike(new: Sequence[NewStep], known: Sequence[Task]) -> dict[str, list[Task]]:
    found = {
        one.title: [
            each
            for each in known
            if each.status is not TaskStatus.CANCELLED and _is_alike(one.title, each.title)
        ]
        for one in new
    }
    return {title: each for title, each in found.items() if each}


def _is_alike(one: str, other: str) -> bool:
    return SequenceMatcher(None, one.casefold(), other.casefold()).ratio() >= ALIKE


def check_assignee(unit: Unit, parent: Task, agent_id: str) -> Agent:
    """The agent that is to be given a sub-task.

    Raises:
        ForbiddenError: it does not work directly for the manager, here, now.
    """
    manager = parent.agent_id or ""
    mine = {one.id: one for one in subordinates(unit, manager, parent.project_id)}
    agent = mine.get(agent_id)
    if agent is None or not agent.enabled:
        listed = ", ".join(one.id for one in mine.values() if one.enabled) or "nobody"
        what = "is disabled" if agent is not None else "does not work for you in this project"
        raise ForbiddenError(f"agent {agent_id[:100]} {what}", hint=f"there are: {listed}")
    return agent


def split(
    unit: Unit, parent: Task, task_id: str, new: Sequence[NewPart], policy: SubtaskPolicy
) -> Batch:
    """Put several sub-tasks in the place of one that has not begun; what waits for it waits for all.

    Raises:
        CoordinatorError: as for `add`; or the sub-task has begun.
    """
    key = f"split:{task_id}"
    one = child(unit, parent.id, task_id)
    known = [each for each in waking.delegated(unit, parent.id) if each.batch_key == key]
    if known:
        return Batch({each.local_id or each.id: each for each in known}, is_known=True, alike={})
    if one.status not in {TaskStatus.BACKLOG, TaskStatus.QUEUED, TaskStatus.BLOCKED}:
        raise TransitionError(
            f"sub-task {one.id} is {one.status.value}; only one that has not begun is split"
        )
    batch = add(unit, parent, new, policy, key=key)
    parts = [made.id for made in batch.made.values()]
    replace_needs(unit, one.id, parts, actor=actor_of(parent))
    cancel_task(unit, one.id, actor=actor_of(parent))
    made = {local: get_task(unit, task.id) for local, task in batch.made.items()}
    return Batch(made, is_known=False, alike={})


def actor_of(parent: Task) -> str:
    """How events name the manager of a task."""
    return f"agent:{parent.agent_id}"
