"""The claim: the only thing that starts a run. One transaction, idempotent on the run's id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, bindparam, case, insert, or_, select, update

from aiagent_coordinator.errors import ConflictError, StaleRunError
from aiagent_coordinator.quota import Lane
from aiagent_coordinator.runs import Purpose, RetryPolicy, Run, RunPhase
from aiagent_coordinator.store import (
    budgets,
    checkouts,
    coordinators,
    locks,
    projects,
    tables,
    terms,
    wanting,
)
from aiagent_coordinator.store.budgets import Reserved
from aiagent_coordinator.store.claimed import chat_of, claimed_agent, claimed_task
from aiagent_coordinator.store.columns import Instant
from aiagent_coordinator.store.lanes import Gate
from aiagent_coordinator.store.leases import LeaseTerms, take_over
from aiagent_coordinator.store.requests import (
    ClaimAnswer,
    ClaimedProject,
    ClaimRequest,
    Resume,
)
from aiagent_coordinator.store.rows import agent_of, project_of, run_of, task_of
from aiagent_coordinator.store.runs import COUNTED
from aiagent_coordinator.store.tasks import get_task, set_status
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import (
    Agent,
    Duty,
    Project,
    Task,
    TaskKind,
    TaskStatus,
    WorkspaceKind,
)

_run = tables.run
_task = tables.task
_DEFAULT_POLICY = RetryPolicy()


def is_due() -> ColumnElement[bool]:
    """Tasks that a run could take at `now`, whoever's they are; a step is its parent's business."""
    now = bindparam("now", type_=Instant)
    return (
        (_task.c.status == TaskStatus.QUEUED)
        & (_task.c.kind != TaskKind.STEP)
        & _task.c.is_locked.is_(False)
        & or_(_task.c.not_before.is_(None), _task.c.not_before <= now)
    )


def claim_order() -> tuple[ColumnElement[Any], ...]:
    """Retries that are due first, then priority, then age."""
    again = or_(_task.c.attempt > 1, _task.c.not_before.is_not(None))
    return (case((again, 0), else_=1), _task.c.priority.desc(), _task.c.created_at, _task.c.id)


_KNOWN = select(_run).where(_run.c.id == bindparam("which"))
_LOCK_AGENT = (
    select(tables.agent)
    .join(tables.assignment, tables.assignment.c.agent_id == tables.agent.c.id)
    .where(
        tables.agent.c.id == bindparam("agent"),
        tables.assignment.c.project_id == bindparam("project"),
    )
    .with_for_update(of=tables.agent)
)
_LOCK_PROJECT = (
    select(tables.project).where(tables.project.c.id == bindparam("project")).with_for_update()
)
_LIVE = (
    select(_run)
    .where(
        or_(_run.c.agent_id == bindparam("agent"), _run.c.project_id == bindparam("project")),
        _run.c.phase != RunPhase.ENDED,
    )
    .order_by(_run.c.id)
)
_PICK = (
    select(_task)
    .where(
        _task.c.project_id == bindparam("project"),
        or_(_task.c.agent_id == bindparam("agent"), _task.c.agent_id.is_(None)),
        is_due(),
    )
    .order_by(*claim_order())
    .limit(1)
    .with_for_update(skip_locked=True)
)
_BEFORE = (
    select(_run)
    .where(_run.c.task_id == bindparam("task"), _run.c.id != bindparam("which"))
    .order_by(_run.c.fence.desc())
    .limit(1)
)
#: Ends after which the session of the CLI is not worth going on with.
_NOT_RESUMED = frozenset({"context_overflow", "bad_flags"})
_INSERT = insert(_run)
_CHANGE = update(_run).where(_run.c.id == bindparam("which"))


@dataclass(frozen=True)
class _Grant:
    """What a claim gives."""

    agent: Agent
    lane: Lane
    fence: int
    lease_until: datetime
    run_id: str
    reserved: Reserved = field(default_factory=Reserved)


def claim_run(
    unit: Unit,
    request: ClaimRequest,
    lease_seconds: float,
    policy: RetryPolicy = _DEFAULT_POLICY,
    takeover_grace_seconds: float = LeaseTerms.takeover_grace_seconds,
) -> ClaimAnswer:
    """Give a coordinator the next task of an agent in a project, under the run id it made.

    Claiming again under the same id gives the same answer and renews the lease; after the run's
    end it says so. Runs of the project that another coordinator left behind are taken over first.

    Args:
        unit: The unit of work.
        request: Who asks, for whom.
        lease_seconds: How long the run is safe from others without a renewal.
        policy: Waits of tasks whose runs are taken over.
        takeover_grace_seconds: How long after its lease a run stays its coordinator's.

    Raises:
        StaleRunError: the run is somebody else's, or a later life of the coordinator has called.
        ConflictError: the run id was claimed for something else.
    """
    coordinators.seen(unit, request.coordinator_id, None, request.epoch)
    known = unit.conn.execute(_KNOWN, {"which": request.run_id}).mappings().first()
    if known is not None:
        return _claim_again(unit, request, known, lease_seconds)
    place = _lock_place(unit, request)
    if isinstance(place, str):
        return ClaimAnswer(claimed=False, reason=place)
    agent, project = place
    live = _live_runs(unit, request)
    ours = [run for run in live if run.project_id == project.id]
    others = [run for run in live if run.project_id != project.id]
    ours = take_over(
        unit,
        ours,
        coordinator_id=request.coordinator_id,
        terms=LeaseTerms(lease_seconds, takeover_grace_seconds),
        policy=policy,
    )
    refusal = _why_not(request, agent, project, ours + others)
    gate = Gate.of(unit)
    lane = gate.choose(agent, request.lane)
    refusal = refusal or gate.refusal(agent)
    if refusal is not None or lane is None:
        return ClaimAnswer(claimed=False, reason=refusal)
    lease_until = unit.now + timedelta(seconds=lease_seconds)
    grant = _Grant(agent, lane, 1, lease_until, request.run_id)
    if request.purpose is Purpose.CHAT:
        return _claim_chat(unit, request, project, grant)
    return _claim_task(unit, request, project, grant)


def _claim_task(unit: Unit, request: ClaimRequest, project: Project, grant: _Grant) -> ClaimAnswer:
    """The next task that is due, within what budgets leave."""
    refusal = _in_use(unit, project)
    row = None if refusal else _pick(unit, request)
    if row is None:
        return ClaimAnswer(claimed=False, reason=refusal or "no_task")
    task, said = task_of(row), terms.current(unit)
    if not budgets.settle_before(unit, said, request.agent_id, task):
        return ClaimAnswer(claimed=False, reason="budget")
    kept = budgets.reserve(unit, said, request.agent_id, project.id, task)
    if isinstance(kept, str):
        return ClaimAnswer(claimed=False, reason=kept)
    grant = replace(grant, fence=row["fence"] + 1, reserved=kept)
    _start(unit, request, task, grant)
    set_status(
        unit,
        task,
        "T4",
        TaskStatus.RUNNING,
        actor=_holder(request),
        run_id=request.run_id,
        fence=grant.fence,
        not_before=None,
        progress=0,
        started_at=task.started_at or unit.now,
    )
    return _answer(unit, task, project, grant, _resume(unit, request, task, grant))


def _lock_place(unit: Unit, request: ClaimRequest) -> tuple[Agent, Project] | str:
    """The agent and its project, held against other claims; or why nothing starts there."""
    where = {"agent": request.agent_id, "project": request.project_id}
    found = unit.conn.execute(_LOCK_AGENT, where)
    agent_row = found.mappings().first()
    if agent_row is None:
        return "not_assigned"
    if not (agent_row["enabled"] and agent_row["declared"]):
        return "agent_disabled"
    if locks.is_agent_locked(unit, request.agent_id):
        return "agent_locked"
    # Always agent before project, so that two claims never wait for each other.
    found = unit.conn.execute(_LOCK_PROJECT, {"project": request.project_id})
    project_row = found.mappings().one()
    if project_row["status"] != "active" or not project_row["declared"]:
        return "project_paused"
    return agent_of(agent_row), project_of(project_row)


def _live_runs(unit: Unit, request: ClaimRequest) -> list[Run]:
    near = {"agent": request.agent_id, "project": request.project_id}
    return [run_of(row) for row in unit.conn.execute(_LIVE, near).mappings().all()]


def _why_not(
    request: ClaimRequest, agent: Agent, project: Project, live: Sequence[Run]
) -> str | None:
    key = (agent.id, project.id, request.purpose, request.slot)
    is_taken = any((run.agent_id, run.project_id, run.purpose, run.slot) == key for run in live)
    if request.purpose is Purpose.CHAT:
        # one for each pair, beside its tasks
        return "slot_taken" if is_taken else None
    counted = [run for run in live if run.phase in COUNTED and run.purpose is Purpose.TASK]
    if sum(run.agent_id == agent.id for run in counted) >= agent.max_concurrent:
        return "agent_limit"
    in_project = sum(run.project_id == project.id for run in counted)
    if project.max_concurrent is not None and in_project >= project.max_concurrent:
        return "project_limit"
    return "slot_taken" if is_taken else None


def _in_use(unit: Unit, project: Project) -> str | None:
    """Whether another run works in the folder that is to be shared."""
    if project.workspace is not WorkspaceKind.DIRECTORY:
        return None
    checkouts.lock(unit, project)
    return "directory_in_use" if project.path in checkouts.busy(unit) else None


def _pick(unit: Unit, request: ClaimRequest) -> RowMapping | None:
    where = {"agent": request.agent_id, "project": request.project_id, "now": unit.now}
    return unit.conn.execute(_PICK, where).mappings().first()


def _start(unit: Unit, request: ClaimRequest, task: Task | None, grant: _Grant) -> None:
    actor, agent, lane = _holder(request), grant.agent, grant.lane
    task_id, attempt = (None, 1) if task is None else (task.id, task.attempt)
    row: dict[str, Any] = {
        "id": request.run_id,
        "task_id": task_id,
        "agent_id": agent.id,
        "project_id": request.project_id,
        "provider": lane.provider,
        "account": lane.account,
        "model": lane.model,
        "reserved_tokens": grant.reserved.tokens,
        "reserved_usd": grant.reserved.usd,
        "attempt": attempt,
        "purpose": request.purpose,
        "slot": request.slot,
        "phase": RunPhase.STARTING,
        "fence": grant.fence,
        "coordinator_id": request.coordinator_id,
        "epoch": request.epoch,
        "holder": actor,
        "lease_until": grant.lease_until,
        "token_sha256": request.token_sha256,
        "created_at": unit.now,
        "duty": Duty.REVIEWER if task and task.reviews_id else agent.hierarchy,
    }
    unit.conn.execute(_INSERT, row)
    unit.emit(
        "run.claimed",
        actor=actor,
        project_id=request.project_id,
        task_id=task_id,
        run_id=request.run_id,
        agent_id=agent.id,
        attempt=attempt,
        fence=grant.fence,
    )


def _claim_chat(unit: Unit, request: ClaimRequest, project: Project, grant: _Grant) -> ClaimAnswer:
    """A run without a task, while there is something to say for the agent."""
    if (grant.agent.id, project.id) not in wanting.wanted(unit):
        return ClaimAnswer(claimed=False, reason="no_task")
    kept = budgets.reserve(unit, terms.current(unit), request.agent_id, project.id, None)
    if isinstance(kept, str):
        return ClaimAnswer(claimed=False, reason=kept)
    grant = replace(grant, reserved=kept)
    _start(unit, request, None, grant)
    return _answer(unit, None, project, grant, None)


def _holder(request: ClaimRequest) -> str:
    """Who holds the run: the caller, or whom the claim is made for."""
    named = request.coordinator_id
    return named if named.startswith("legacy:") else f"coordinator:{named}"


def _claim_again(
    unit: Unit, request: ClaimRequest, row: RowMapping, lease_seconds: float
) -> ClaimAnswer:
    run = run_of(row)
    if run.coordinator_id != request.coordinator_id:
        raise StaleRunError(f"run {run.id} belongs to another coordinator", run_id=run.id)
    key = (request.agent_id, request.project_id, request.purpose, request.slot)
    if (run.agent_id, run.project_id, run.purpose, run.slot) != key:
        raise ConflictError(f"run {run.id} was claimed for something else", run_id=run.id)
    if run.phase is RunPhase.ENDED:
        return ClaimAnswer(claimed=False, reason="ended")
    lease_until = unit.now + timedelta(seconds=lease_seconds)
    # A coordinator killed before it wrote the token to its file makes a new one for the same run.
    facts: dict[str, Any] = {
        "epoch": request.epoch,
        "lease_until": lease_until,
        "token_sha256": request.token_sha256,
    }
    unit.conn.execute(_CHANGE, {"which": run.id, **facts})
    task = get_task(unit, run.task_id) if run.task_id else None
    agent = projects.get_agent(unit, run.agent_id)
    grant = _Grant(agent, run.lane, run.fence, lease_until, run.id)
    project = projects.get_project(unit, run.project_id)
    return _answer(unit, task, project, grant, _resume(unit, request, task, grant))


def _resume(unit: Unit, request: ClaimRequest, task: Task | None, grant: _Grant) -> Resume | None:
    """The session of the CLI that the run before had, where this run can go on with it.

    It lies on the machine of its coordinator and belongs to one agent, one program and one account. One in which
    the agent never came to call us, or which grew too long, helps nobody: then the hand-off does.
    """
    if task is None:
        return None
    which = {"which": request.run_id, "task": task.id}
    row = unit.conn.execute(_BEFORE, which).mappings().first()
    before = None if row is None else run_of(row)
    if before is None or before.provider_session_id is None or before.authenticated_at is None:
        return None
    lane = grant.lane
    ours = (request.coordinator_id, grant.agent.id, lane.provider, lane.account)
    if (before.coordinator_id, before.agent_id, before.provider, before.account) != ours:
        return None
    if before.reason in _NOT_RESUMED:
        return None
    return Resume(before.provider_session_id, run_id=before.id)


def _answer(
    unit: Unit,
    task: Task | None,
    project: Project,
    grant: _Grant,
    resume: Resume | None,
) -> ClaimAnswer:
    agent = grant.agent
    place = ClaimedProject(project.id, project.path, project.workspace, project.allow_dirty)
    if task is None:
        # A chat works on nothing of the project: it gets an empty folder of its own.
        place = ClaimedProject(project.id, "", WorkspaceKind.SCRATCH)
    return ClaimAnswer(
        claimed=True,
        fence=grant.fence,
        lease_until=grant.lease_until,
        task=chat_of(agent)
        if task is None
        else claimed_task(unit, task, project, agent, resume=resume, run_id=grant.run_id),
        project=place,
        agent=claimed_agent(unit, agent, grant.lane, task),
    )
