"""Hand-offs as they are kept: made by an agent's run, pending until an agent for whom they are takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, RowMapping, and_, bindparam, func, insert, or_, select, update

from aiagent_coordinator import ids
from aiagent_coordinator.errors import (
    ConflictError,
    ForbiddenError,
    LimitError,
    NotFoundError,
    TransitionError,
    ValidationError,
)
from aiagent_coordinator.handoffs import Handoff
from aiagent_coordinator.runs import Run
from aiagent_coordinator.store import projects, tables
from aiagent_coordinator.store.find import find_id
from aiagent_coordinator.store.pages import page_of
from aiagent_coordinator.store.tasks import get_task
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, Task, TaskKind

_handoff = tables.handoff
_task = tables.task
#: Of one task, pending.
MAX_PENDING: Final = 20
#: What one run of a task is shown.
MAX_SHOWN: Final = 5
# asked at every claim: built once
_FOR_RUN = (
    select(_handoff)
    .where(
        _handoff.c.task_id == bindparam("task"),
        or_(
            and_(
                _handoff.c.accepted_at.is_(None),
                or_(_handoff.c.to_agent_id.is_(None), _handoff.c.to_agent_id == bindparam("agent")),
            ),
            _handoff.c.accepted_by == bindparam("agent"),
        ),
    )
    .order_by(_handoff.c.created_at.desc(), _handoff.c.id.desc())
    .limit(MAX_SHOWN)
)


@dataclass(frozen=True)
class NewHandoff:
    """What an agent says. The texts are cleaned and bounded already."""

    task_id: str
    summary: str
    to_agent_id: str | None = None
    context: str | None = None
    recommendations: str | None = None


@dataclass(frozen=True)
class HandoffFilter:
    """Which hand-offs; all that is None does not matter."""

    project_id: str | None = None
    task_id: str | None = None
    #: For this agent: addressed to it, or to whoever works on a task.
    to_agent_id: str | None = None
    #: Only those that nobody has accepted, of tasks that are not over.
    is_pending: bool = False


def make(unit: Unit, run: Run, new: NewHandoff) -> Handoff:
    """Keep what a run's agent leaves for a task of its project.

    Raises:
        NotFoundError: there is no such task in the project.
        TransitionError: the task is over.
        ValidationError: whom it is for does not work there, or the task is a part of another's run.
        LimitError: too much waits for that task.
    """
    task = _task_here(unit, run, new.task_id)
    if task.status in TERMINAL:
        raise TransitionError(f"task {task.id} is {task.status.value}: nobody goes on with it")
    if task.kind is TaskKind.STEP:
        raise ValidationError(
            "a sub-task of your own has no other agent", key="task_id", hint="name its task"
        )
    target = new.to_agent_id
    if target is not None and not projects.is_assigned(unit, target, run.project_id):
        raise ValidationError(
            f"agent {target[:100]} does not work in project {run.project_id}", key="to_agent_id"
        )
    pending = _handoff.c.accepted_at.is_(None) & (_handoff.c.task_id == task.id)
    waiting = unit.conn.scalar(select(func.count()).select_from(_handoff).where(pending))
    if (waiting or 0) >= MAX_PENDING:
        raise LimitError(f"{MAX_PENDING} hand-offs of task {task.id} wait already")
    made = Handoff(
        id=ids.new_id("hnd"),
        project_id=run.project_id,
        task_id=task.id,
        from_agent_id=run.agent_id,
        from_run_id=run.id,
        summary=new.summary,
        created_at=unit.now,
        to_agent_id=target,
        context=new.context,
        recommendations=new.recommendations,
    )
    unit.conn.execute(insert(_handoff).values(vars(made)))
    _emit(unit, made, run, "handoff.made", to=target)
    return made


def take(unit: Unit, run: Run, handoff_id: str) -> Handoff:
    """Accept a hand-off; its taker again changes nothing.

    One that names an agent is that agent's; one that names nobody is for the run of its task.

    Raises:
        NotFoundError: there is none in the project.
        ForbiddenError: it is for somebody else.
        ConflictError: somebody else has it.
    """
    query = select(_handoff).where(
        _handoff.c.id == handoff_id, _handoff.c.project_id == run.project_id
    )
    row = unit.conn.execute(query.with_for_update()).mappings().first()
    if row is None:
        raise NotFoundError(f"Handoff not found: {handoff_id[:100]}")
    found = _handoff_of(row)
    if not _is_for(found, run):
        raise ForbiddenError(
            "this hand-off is not for you", hint="list_handoffs shows those that are"
        )
    if found.accepted_by == run.agent_id:
        return found
    if not found.is_pending:
        raise ConflictError(f"agent {found.accepted_by} has taken this hand-off")
    facts = {"accepted_at": unit.now, "accepted_by": run.agent_id, "accepted_run_id": run.id}
    unit.conn.execute(update(_handoff).where(_handoff.c.id == found.id).values(facts))
    taken = _one(unit, found.id)
    _emit(unit, taken, run, "handoff.taken", **{"from": found.from_agent_id})
    return taken


def for_run(unit: Unit, task_id: str, agent_id: str) -> list[Handoff]:
    """What a run of a task is shown, oldest first: what waits for its agent, and what that took before."""
    found = unit.conn.execute(_FOR_RUN, {"task": task_id, "agent": agent_id}).mappings()
    return [_handoff_of(row) for row in found][::-1]


def of_task(unit: Unit, task_id: str) -> list[Handoff]:
    """The newest hand-offs of a task, oldest first."""
    found = list_handoffs(unit, HandoffFilter(task_id=task_id), limit=MAX_PENDING, newest=True)
    return found[::-1]


def list_handoffs(
    unit: Unit,
    which: HandoffFilter,
    *,
    limit: int,
    after: str | None = None,
    newest: bool = False,
) -> list[Handoff]:
    """Hand-offs, oldest first.

    Args:
        unit: The unit of work.
        which: Which ones.
        limit: How many at most.
        after: Go on behind the one with this id.
        newest: The newest first.
    """
    query = select(_handoff).join(_task, _task.c.id == _handoff.c.task_id)
    if which.project_id is not None:
        query = query.where(_handoff.c.project_id == which.project_id)
    if which.task_id is not None:
        query = query.where(_handoff.c.task_id == which.task_id)
    if which.to_agent_id is not None:
        query = query.where(_is_to(which.to_agent_id))
    if which.is_pending:
        query = query.where(_handoff.c.accepted_at.is_(None), _task.c.status.not_in(TERMINAL))
    page = page_of(unit, query, _handoff, limit=limit, after=after, newest=newest)
    return [_handoff_of(row) for row in unit.conn.execute(page).mappings()]


def find(unit: Unit, text: str) -> Handoff:
    """The hand-off that a person means: by its id, or the beginning of it.

    Raises:
        NotFoundError: none is meant.
        ConflictError: several are.
    """
    return _one(unit, find_id(unit, _handoff, "hnd", text))


def _task_here(unit: Unit, run: Run, task_id: str) -> Task:
    try:
        task = get_task(unit, task_id)
    except NotFoundError:
        raise NotFoundError(f"Task not found: {task_id[:100]}") from None
    if task.project_id != run.project_id:
        raise NotFoundError(f"Task not found: {task_id[:100]}")
    return task


def _is_to(agent_id: str) -> ColumnElement[bool]:
    return or_(_handoff.c.to_agent_id.is_(None), _handoff.c.to_agent_id == agent_id)


def _is_for(handoff: Handoff, run: Run) -> bool:
    if handoff.to_agent_id is not None:
        return handoff.to_agent_id == run.agent_id
    return handoff.task_id == run.task_id


def _one(unit: Unit, handoff_id: str) -> Handoff:
    row = unit.conn.execute(select(_handoff).where(_handoff.c.id == handoff_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no hand-off {handoff_id[:100]}")
    return _handoff_of(row)


def _handoff_of(row: RowMapping) -> Handoff:
    return Handoff(**row)


def _emit(unit: Unit, handoff: Handoff, run: Run, action: str, **data: object) -> None:
    unit.emit(
        action,
        actor=f"agent:{run.agent_id}",
        project_id=handoff.project_id,
        task_id=handoff.task_id,
        run_id=run.id,
        agent_id=run.agent_id,
        refusal=False,
        handoff_id=handoff.id,
        **data,
    )
