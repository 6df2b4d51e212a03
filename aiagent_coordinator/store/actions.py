"""What should run now: one line for each assignment, and one for each run that is to stop. Only reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select

from aiagent_coordinator.quota import DEFAULT_ACCOUNT
from aiagent_coordinator.runs import Purpose, Run
from aiagent_coordinator.store import (
    budgets,
    checkouts,
    ledger,
    locks,
    projects,
    tables,
    waking,
    wanting,
)
from aiagent_coordinator.store import terms as said_terms
from aiagent_coordinator.store.claims import claim_order, is_due
from aiagent_coordinator.store.events import last_seq
from aiagent_coordinator.store.lanes import Gate
from aiagent_coordinator.store.leases import LeaseTerms, is_takeable, takeable_at
from aiagent_coordinator.store.requests import Action, ActionsAnswer
from aiagent_coordinator.store.runs import COUNTED, live_runs
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project, Task, TaskKind, TaskStatus, WorkspaceKind

_task = tables.task
#: Longer than any answer is kept.
_NEVER = timedelta(days=1)
#: Behind every task that is due.
_AFTER_ALL = 2**62


@dataclass(frozen=True)
class _Queue:
    """Tasks of one project that are due for one agent, or for anybody."""

    count: int
    first_rank: int
    first_id: str


def list_actions(unit: Unit, terms: LeaseTerms | None = None) -> ActionsAnswer:
    """All that should start, hold or stop, for every declared assignment.

    `slots_free` is how many runs may start there now: under the limits, and not more than tasks
    are due. Agents that share a project see the same unassigned tasks; the claim decides. A run that
    another coordinator may take over counts as a task that is due: the claim takes it.
    """
    terms = terms or LeaseTerms()
    # first of all: what is committed while the rest is read may be missing there, and must count as news
    version = last_seq(unit)
    live = live_runs(unit)
    left = [
        run for run in live if is_takeable(run, now=unit.now, opened_at=unit.opened_at, terms=terms)
    ]
    live = [run for run in live if run not in left]
    queues = _queues(unit)
    later = _projects_with_later(unit)
    managing = waking.progress(unit)
    locked = locks.locked_agents(unit)
    left_ids = {run.id for run in left}
    busy = {path: run for path, run in checkouts.busy(unit).items() if run not in left_ids}
    gate = Gate.of(unit)
    left_over = budgets.Left(unit, gate.terms)
    actions: list[Action] = []
    for agent, project in projects.assignments(unit):
        mine = [queues[key] for key in _keys(agent, project) if key in queues]
        mine += [
            _Queue(1, _AFTER_ALL, run.task_id)
            for run in left
            if run.task_id and (run.agent_id, run.project_id) == (agent.id, project.id)
        ]
        waiting = any(key in later for key in _keys(agent, project))
        room = _room(agent, project, live, busy)
        if agent.id in locked:
            room = (0, "agent_locked")
        elif (parked := gate.refusal(agent) or left_over.refusal(agent.id, project.id)) is not None:
            room = (0, parked)
        line = _decide(agent, project, mine, room, waiting=waiting)
        held = managing.get((agent.id, project.id))
        if held is not None and line.reason in {"no_task", "not_due"}:
            line = replace(line, reason="waiting_for_workers", progress=held)
        actions.append(_with_lanes(line, agent, gate))
        actions += _stops(agent, project, live)
    actions += [one for one in _chats(unit, gate, left_over) if one.agent_id not in locked]
    return ActionsAnswer(version, tuple(actions))


def holds_until(unit: Unit, terms: LeaseTerms | None = None) -> datetime:
    """When something falls due that no event tells: a retry, a run to be taken over, a chat that has rested.

    A lease that is renewed meanwhile counts at its old time. Far in the future when nothing will.
    """
    terms = terms or LeaseTerms()
    later = (_task.c.status == TaskStatus.QUEUED) & (_task.c.not_before > unit.now)
    moments = [unit.conn.scalar(select(func.min(_task.c.not_before)).where(later))]
    moments += [takeable_at(run, opened_at=unit.opened_at, terms=terms) for run in live_runs(unit)]
    moments += wanting.rests_until(unit)
    moments.append(ledger.opens_next(unit))
    moments.append(budgets.next_day(unit, said_terms.current(unit)))
    ahead = [moment for moment in moments if moment is not None and moment > unit.now]
    return min(ahead, default=unit.now + _NEVER)


def not_due_yet(unit: Unit) -> list[str]:
    """Ids of the tasks whose next attempt is put off to a later time."""
    later = (_task.c.status == TaskStatus.QUEUED) & (_task.c.not_before > unit.now)
    return list(unit.conn.scalars(select(_task.c.id).where(later)))


def due_counts(unit: Unit) -> dict[tuple[str, str | None], int]:
    """How many tasks are due: by project, and by the agent they name, None for none."""
    return {key: queue.count for key, queue in _queues(unit).items()}


def count_before(unit: Unit, task: Task) -> int:
    """How many tasks that are due come before one that its agent, or any of its project, may take."""
    same = _task.c.project_id == task.project_id
    if task.agent_id is not None:
        same &= or_(_task.c.agent_id == task.agent_id, _task.c.agent_id.is_(None))
    ranked = (
        select(_task.c.id, func.row_number().over(order_by=claim_order()).label("rank"))
        .where(is_due() & same)
        .subquery()
    )
    rank = unit.conn.scalar(select(ranked.c.rank).where(ranked.c.id == task.id), {"now": unit.now})
    return 0 if rank is None else int(rank) - 1


def _keys(agent: Agent, project: Project) -> tuple[tuple[str, str | None], ...]:
    return (project.id, agent.id), (project.id, None)


def _queues(unit: Unit) -> dict[tuple[str, str | None], _Queue]:
    group = (_task.c.project_id, _task.c.agent_id)
    ranked = (
        select(
            *group,
            _task.c.id,
            func.row_number().over(order_by=claim_order()).label("rank"),
            func.row_number().over(partition_by=group, order_by=claim_order()).label("place"),
            func.count().over(partition_by=group).label("due"),
        )
        .where(is_due())
        .subquery()
    )
    rows = unit.conn.execute(
        select(ranked).where(ranked.c.place == 1), {"now": unit.now}
    ).mappings()
    return {
        (row["project_id"], row["agent_id"]): _Queue(row["due"], row["rank"], row["id"])
        for row in rows
    }


def _projects_with_later(unit: Unit) -> set[tuple[str, str | None]]:
    """Where retries are scheduled that are not due yet."""
    query = select(_task.c.project_id, _task.c.agent_id).where(
        _task.c.status == TaskStatus.QUEUED,
        _task.c.kind != TaskKind.STEP,
        _task.c.not_before > unit.now,
    )
    return {(row["project_id"], row["agent_id"]) for row in unit.conn.execute(query).mappings()}


def _room(
    agent: Agent, project: Project, live: Iterable[Run], busy: Mapping[str, str]
) -> tuple[int, str]:
    """How many runs may start there, and what allows no more."""
    counted = [run for run in live if run.phase in COUNTED and run.purpose is Purpose.TASK]
    free = agent.max_concurrent - sum(run.agent_id == agent.id for run in counted)
    reason = "agent_limit"
    if project.max_concurrent is not None:
        room = project.max_concurrent - sum(run.project_id == project.id for run in counted)
        if room < free:
            free, reason = room, "project_limit"
    if project.workspace is WorkspaceKind.DIRECTORY and free > 0:
        free, reason = int(project.path not in busy), "directory_in_use"
    return free, reason


def _decide(
    agent: Agent, project: Project, queues: list[_Queue], room: tuple[int, str], *, waiting: bool
) -> Action:
    free, reason = room
    due = sum(queue.count for queue in queues)
    if not agent.enabled:
        reason = "agent_disabled"
    elif project.status != "active":
        reason = "project_paused"
    elif not due:
        reason = "not_due" if waiting else "no_task"
    elif free > 0:
        first = min(queues, key=lambda queue: queue.first_rank)
        return _line(agent, project, "start", "task_due", min(free, due), first.first_id)
    return _line(agent, project, "hold", reason, 0)


def _stops(agent: Agent, project: Project, live: Iterable[Run]) -> list[Action]:
    return [
        _line(agent, project, "stop", run.stop_reason, 0, run.task_id)
        for run in live
        if run.stop_reason and (run.agent_id, run.project_id) == (agent.id, project.id)
    ]


def _with_lanes(line: Action, agent: Agent, gate: Gate) -> Action:
    """Say on what the next run works, and what else it may."""
    if line.action != "start":
        return line
    lanes = gate.open_to(agent)
    if not lanes:
        return line
    told = lanes if len(gate.lanes_of(agent)) > 1 else None
    first = lanes[0]
    account = None if first.account == DEFAULT_ACCOUNT else first.account
    return replace(line, provider=first.provider, model=first.model, account=account, lanes=told)


def _chats(unit: Unit, gate: Gate, left_over: budgets.Left) -> list[Action]:
    """Chats in which something is to be said, where anything may start."""
    wanted = wanting.wanted(unit)
    if not wanted:
        return []
    return [
        _with_lanes(
            replace(_line(agent, project, "start", reason, 1), purpose=Purpose.CHAT), agent, gate
        )
        for agent, project in projects.assignments(unit)
        if (reason := wanted.get((agent.id, project.id)))
        and agent.enabled
        and project.status == "active"
        and gate.closed_to(agent) is None
        and left_over.refusal(agent.id, project.id) is None
    ]


def _line(
    agent: Agent, project: Project, action: str, reason: str, free: int, task_id: str | None = None
) -> Action:
    return Action(
        agent_id=agent.id,
        project_id=project.id,
        purpose=Purpose.TASK,
        action=action,
        reason=reason,
        provider=agent.provider,
        slots_free=free,
        max_concurrent=agent.max_concurrent,
        approval=agent.approval,
        task_id=task_id,
        model=agent.model,
    )
