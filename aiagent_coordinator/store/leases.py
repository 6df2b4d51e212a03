"""Leases: renewed by who holds the runs, taken over only long after they ran out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import or_, select, update

from aiagent_coordinator.quota import Terms
from aiagent_coordinator.runs import RetryPolicy, Run, RunOutcome, RunPhase
from aiagent_coordinator.store import (
    budgets,
    coordinators,
    ledger,
    questions,
    tables,
    tells,
    terms,
)
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.endings import Ending, end_run
from aiagent_coordinator.store.live import keep_live
from aiagent_coordinator.store.requests import (
    AgentReport,
    AskedQuestion,
    HeldRun,
    LiveFacts,
    RenewAnswer,
    RenewedRun,
    RenewRequest,
    Said,
    StopWish,
)
from aiagent_coordinator.store.rows import run_of
from aiagent_coordinator.store.runs import keep_warnings
from aiagent_coordinator.store.tasks import get_task, lock_task, set_progress
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TaskStatus

_run = tables.run
_report = tables.report

#: The last of a run's three reports: started, exit, result.
RESULT_SEQ: Final = 2
#: What a coordinator may say of a run it holds; a phase never goes back.
_HELD_PHASES: Final = (RunPhase.STARTING, RunPhase.RUNNING, RunPhase.STOPPING)


@dataclass(frozen=True)
class LeaseTerms:
    """How long a run is safe from other coordinators, in seconds."""

    seconds: float = 90.0
    #: A coordinator that was only cut off gets its runs back until this long after the lease.
    takeover_grace_seconds: float = 600.0


def is_takeable(
    run: Run,
    *,
    now: datetime,
    opened_at: datetime,
    terms: LeaseTerms,
) -> bool:
    """Whether another coordinator may take a run over."""
    return now >= takeable_at(run, opened_at=opened_at, terms=terms)


def takeable_at(run: Run, *, opened_at: datetime, terms: LeaseTerms) -> datetime:
    """From when on another coordinator may take a run over, if its lease is not renewed.

    A server that was away renewed nothing: the clock starts anew when it starts.
    """
    expires = max(run.lease_until, opened_at + timedelta(seconds=terms.seconds))
    return expires + timedelta(seconds=terms.takeover_grace_seconds)


def take_over(
    unit: Unit,
    live: Iterable[Run],
    *,
    coordinator_id: str,
    terms: LeaseTerms,
    policy: RetryPolicy,
) -> list[Run]:
    """End the runs that other coordinators left behind as lost (T20), and give their tasks a new fence.

    Args:
        unit: The unit of work.
        live: Live runs of the project the caller serves.
        coordinator_id: Who takes over; its own runs are never touched.
        terms: How long a lease is, and how long after it a run stays its coordinator's.
        policy: Waits between attempts.

    Returns:
        The runs that are still live.
    """
    left: list[Run] = []
    for run in live:
        takeable = is_takeable(run, now=unit.now, opened_at=unit.opened_at, terms=terms)
        if run.coordinator_id == coordinator_id or not takeable:
            left.append(run)
            continue
        task = lock_task(unit, run.task_id) if run.task_id else None
        # Its old coordinator's reports are stale from here on, even before the next claim.
        ending = Ending(
            RunOutcome.LOST,
            "lost",
            actor=f"coordinator:{coordinator_id}",
            task_facts={"fence": run.fence + 1},
        )
        end_run(unit, run, task, ending, policy)
    return left


def renew_runs(unit: Unit, request: RenewRequest, lease_seconds: float) -> RenewAnswer:
    """Renew the leases of all runs a coordinator holds, take its late facts, tell it what is new.

    Raises:
        StaleRunError: a later life of this coordinator has already called.
    """
    coordinators.seen(unit, request.coordinator_id, None, request.epoch)
    lease_until = unit.now + timedelta(seconds=lease_seconds)
    held = {run.run_id: run for run in request.runs}
    rows = unit.conn.execute(
        select(_run)
        .where(
            or_(
                _run.c.id.in_(list(held)),
                (_run.c.coordinator_id == request.coordinator_id)
                & (_run.c.phase != RunPhase.ENDED),
            )
        )
        .order_by(_run.c.id)
        .with_for_update()
    )
    known = {run.id: run for run in map(run_of, rows.mappings().all())}
    states = {
        run_id: _state(unit, request, line, known.get(run_id)) for run_id, line in held.items()
    }
    alive = [
        run_id
        for run_id, state in states.items()
        if state == "held" and known[run_id].phase is not RunPhase.ENDED
    ]
    if alive:
        unit.conn.execute(
            update(_run)
            .where(_run.c.id.in_(alive))
            .values(lease_until=lease_until, epoch=request.epoch)
        )
    said = terms.current(unit)
    for run_id in alive:
        _take_facts(unit, known[run_id], held[run_id])
        if _take_use(unit, known[run_id], held[run_id], said):
            # it, or others, may have been asked to stop
            known |= {one.id: one for one in run_store.live_runs(unit) if one.id in alive}
    unlisted = [
        run.id for run in known.values() if run.id not in held and run.phase is not RunPhase.ENDED
    ]
    lines = tuple(
        _renewed(unit, run_id, state, known.get(run_id)) for run_id, state in states.items()
    )
    return RenewAnswer(lease_until, lines, tuple(sorted(unlisted)))


def _state(unit: Unit, request: RenewRequest, line: HeldRun, run: Run | None) -> str:
    if run is None:
        return "unknown"
    if run.coordinator_id != request.coordinator_id or run.fence != line.fence:
        return "superseded"
    if run.phase is not RunPhase.ENDED:
        return "held"
    # Its result crossed this call on the way: nothing was lost. Without one it was taken over.
    receipt = select(_report.c.seq).where(_report.c.run_id == run.id, _report.c.seq == RESULT_SEQ)
    return "held" if unit.conn.execute(receipt).first() else "superseded"


def _take_facts(unit: Unit, run: Run, line: HeldRun) -> None:
    facts: dict[str, Any] = {
        name: value
        for name in ("activity", "provider_session_id")
        if (value := getattr(line, name)) is not None
    }
    if run.phase in _HELD_PHASES and line.phase in _HELD_PHASES:
        facts["phase"] = max(run.phase, line.phase, key=_HELD_PHASES.index)
        if facts["phase"] is run.phase:
            del facts["phase"]
    if facts:
        unit.conn.execute(update(_run).where(_run.c.id == run.id).values(facts))
    tells.heard(unit, run, line.heard)
    if line.live is not None:
        keep_live(unit, run, line.live, actor=f"coordinator:{run.coordinator_id}")
    keep_warnings(unit, run, line.warnings, actor=f"coordinator:{run.coordinator_id}")
    if line.progress is None or run.task_id is None:
        return
    task = get_task(unit, run.task_id)
    if task.status is TaskStatus.RUNNING and task.progress != line.progress:
        actor = f"coordinator:{run.coordinator_id}"
        set_progress(unit, task, line.progress, actor=actor, run_id=run.id)


def _take_use(unit: Unit, run: Run, line: HeldRun, said: Terms) -> bool:
    """Take what a running program says of its use and its limits; whether it used more."""
    live = line.live or LiveFacts()
    ledger.take_told(unit, run, live.limits or (), said.waits)
    usage = live.usage or line.usage
    if usage is None or usage == run.usage:
        return False
    columns = budgets.used_columns(usage, run.lane, said)
    unit.conn.execute(update(_run).where(_run.c.id == run.id).values(columns))
    budgets.look(unit, run, said)
    return True


def _renewed(unit: Unit, run_id: str, state: str, run: Run | None) -> RenewedRun:
    if run is None or state != "held":
        return RenewedRun(run_id, state)
    return RenewedRun(
        run_id,
        state,
        stop=StopWish(run.stop_reason) if run.stop_reason else None,
        report=report_of(run),
        question=question_of(unit, run),
        hello_at=run.hello_at,
        authenticated_at=run.authenticated_at,
        tells=tuple(Said(one.id, one.body, one.interrupts) for one in tells.to_say(unit, run)),
    )


def question_of(unit: Unit, run: Run) -> AskedQuestion | None:
    """What the run asked last, if it asked."""
    question = questions.last_of_run(unit, run.id)
    if question is None or question.closed_at is not None:
        return None
    return AskedQuestion(
        question.id,
        question.asked_at,
        answered=question.answered_at is not None,
        pending=question.pending_at is not None,
        answer=question.answer if run.answers_on_stdin else None,
    )


def report_of(run: Run) -> AgentReport | None:
    """What the agent said of its task, if it did."""
    if run.reported_result is None or run.reported_at is None:
        return None
    return AgentReport(run.reported_result, run.reported_at, run.reported_summary)
