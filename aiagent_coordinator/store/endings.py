"""How a run ends: what it leaves on its own row, and where its task goes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, update

from aiagent_coordinator.quota import CLOSING, Limit
from aiagent_coordinator.runs import (
    Disposition,
    ReasonClass,
    RetryPolicy,
    Run,
    RunOutcome,
    RunPhase,
    dispose,
    reason_class,
)
from aiagent_coordinator.store import (
    asks,
    budgets,
    ledger,
    questions,
    reviews,
    tables,
    talks,
    terms,
    waking,
)
from aiagent_coordinator.store.runs import emit_run
from aiagent_coordinator.store.transitions import go_on, set_status
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task, TaskStatus, WaitReason

_run = tables.run
_CHANGE = update(_run).where(_run.c.id == bindparam("which"), _run.c.phase != RunPhase.ENDED)

#: What an outcome means when nobody named a reason.
_DEFAULT_REASONS: dict[RunOutcome, str | None] = {
    RunOutcome.SUCCEEDED: None,
    RunOutcome.FAILED: "no_report",
    RunOutcome.VERIFY_FAILED: "verify_failed",
    RunOutcome.SUSPENDED: "asked",
    RunOutcome.CANCELLED: "cancelled",
    RunOutcome.STOPPED: "stopped",
    RunOutcome.LOST: "lost",
    RunOutcome.NOT_STARTED: "spawn_failed",
}


@dataclass(frozen=True)
class Ending:
    """How one run ended, and what else becomes known with it."""

    outcome: RunOutcome
    reason: str | None
    actor: str
    #: Columns of the run.
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    #: Columns of the task.
    task_facts: dict[str, Any] = field(default_factory=dict[str, Any])
    #: The least that its task rests when it is queued again, in seconds.
    wait_seconds: float = 0.0
    #: What was said of the limit that ended it.
    limit: Limit | None = None


def named_end(run: Run, outcome: RunOutcome, reason: str | None) -> tuple[RunOutcome, str | None]:
    """How a run ended, by what its coordinator says and the board knows of it.

    The reason is the one given, the agent's own word, or what the outcome means.

    Raises:
        ValidationError: the reason is not in the closed list.
    """
    reason_class(reason)
    if run.stop_reason == "workflow_not_found" and outcome is not RunOutcome.SUCCEEDED:
        # it could not be told what to do, however it ended after that
        return outcome, run.stop_reason
    if reason is None and outcome is RunOutcome.FAILED and run.reported_result == "failed":
        return outcome, "agent_reported"
    reason = reason or _DEFAULT_REASONS[outcome]
    if run.stop_reason == "cancelled" and reason == "no_report":
        # it heard here that its task is cancelled, and left before its coordinator stopped it
        return RunOutcome.CANCELLED, "cancelled"
    return outcome, reason


def end_run(
    unit: Unit, run: Run, task: Task | None, ending: Ending, policy: RetryPolicy
) -> Task | None:
    """End a live run and move its task, if that still runs.

    Args:
        unit: The unit of work.
        run: The run, locked.
        task: Its task, locked; None for a run without one.
        ending: How it ended; its reason is from the closed list.
        policy: Waits between attempts.

    Returns:
        The task as it is now.
    """
    ended_at = run.ended_at or unit.now
    facts = {
        **ending.facts,
        "phase": RunPhase.ENDED,
        "outcome": ending.outcome,
        "reason": ending.reason,
        "token_sha256": None,
        "activity": None,
        "ended_at": ended_at,
    }
    unit.conn.execute(_CHANGE, {"which": run.id, **facts})
    emit_run(
        unit,
        run,
        "run.ended",
        actor=ending.actor,
        outcome=ending.outcome.value,
        reason=ending.reason,
        verification=ending.facts.get("verification"),
        seconds=_seconds(run, ended_at),
    )
    if run.authenticated_at is not None:
        emit_run(unit, run, "session.ended", actor=ending.actor)
    _note_limit(unit, run, ending)
    talks.session_over(unit, run)
    if task is not None and task.is_locked and task.status is not TaskStatus.RUNNING:
        # the release looks again
        return task
    if task is not None and task.wait_reason is WaitReason.INPUT:
        return questions.after_run(unit, task, actor=ending.actor)
    if task is not None and waking.is_awake(unit, task):
        return go_on(unit, task, actor=ending.actor)
    # A task that was cancelled meanwhile stays so, whatever its run still says.
    if task is None or task.status is not TaskStatus.RUNNING:
        return task
    moved = _move_task(unit, run, task, ending, policy)
    moved = budgets.after_run(unit, run, moved, ending.reason)
    return asks.about_wait(unit, run, moved) if ending.reason in CLOSING else moved


def _note_limit(unit: Unit, run: Run, ending: Ending) -> None:
    """Close what a limit ended, or open what was only thought to be closed."""
    if ending.outcome is RunOutcome.SUCCEEDED:
        ledger.worked(unit, run)
    elif ending.outcome is RunOutcome.FAILED and ending.reason in CLOSING:
        text = str(ending.facts.get("error") or run.error or "")
        ended = replace(run, reason=ending.reason)
        ledger.close(unit, ended, ending.limit, text, terms.current(unit).waits)


def _seconds(run: Run, ended_at: datetime) -> float | None:
    """How long its CLI ran; None when it never started."""
    return None if run.started_at is None else (ended_at - run.started_at).total_seconds()


def _move_task(unit: Unit, run: Run, task: Task, ending: Ending, policy: RetryPolicy) -> Task:
    if run.reported_result == "blocked" and ending.outcome is not RunOutcome.CANCELLED:
        return set_status(
            unit,
            task,
            "T22",
            TaskStatus.WAITING,
            actor=ending.actor,
            wait_reason=WaitReason.BLOCKED,
            status_reason="agent_reported",
            run_id=run.id,
            **ending.task_facts,
        )
    next_ = _dispose(task, ending, policy)
    columns = dict(ending.task_facts)
    columns["attempt"] = task.attempt + next_.spends_attempt
    columns["infra_requeues"] = task.infra_requeues + next_.counts_infra
    wait = max(next_.wait_seconds, ending.wait_seconds)
    rests = wait > 0 and next_.status is TaskStatus.QUEUED
    columns["not_before"] = unit.now + timedelta(seconds=wait) if rests else None
    if next_.status is TaskStatus.SUCCEEDED:
        columns["progress"] = 100
        if task.review_by is not None:
            return reviews.begin(unit, task, run, actor=ending.actor, **columns)
    return set_status(
        unit,
        task,
        next_.transition,
        next_.status,
        actor=ending.actor,
        status_reason=next_.status_reason,
        run_id=run.id,
        **columns,
    )


def _dispose(task: Task, ending: Ending, policy: RetryPolicy) -> Disposition:
    reason = ending.reason
    if ending.outcome is RunOutcome.NOT_STARTED and reason_class(reason) is ReasonClass.TRANSIENT:
        # Nothing ran, so nothing was tried.
        reason = "spawn_failed"
    return dispose(
        ending.outcome,
        reason,
        attempt=task.attempt,
        max_attempts=task.max_attempts,
        infra_requeues=task.infra_requeues,
        policy=policy,
    )
