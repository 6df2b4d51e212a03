"""Runs that a coordinator of another make drives: claimed on its behalf, ended by what it tells.

Such a coordinator names agent and project, never a run. It says that a process ended, but not how,
and says nothing after a stop. So these runs end by their lease too.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import select, update

from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.ids import new_run_id
from aiagent_coordinator.quota import Confidence, Limit
from aiagent_coordinator.runs import (
    Purpose,
    RetryPolicy,
    Run,
    RunOutcome,
    RunPhase,
    Verification,
)
from aiagent_coordinator.store import questions, sessions, tables
from aiagent_coordinator.store.claims import claim_run
from aiagent_coordinator.store.endings import Ending, end_run
from aiagent_coordinator.store.requests import ClaimAnswer, ClaimRequest
from aiagent_coordinator.store.rows import run_of
from aiagent_coordinator.store.runs import emit_run
from aiagent_coordinator.store.tasks import lock_task
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Question, Task

_run = tables.run

#: How holders of such runs are named: this, the agent, a slash, the project.
HOLDER: Final = "legacy:"
#: How long a claimed run waits for its agent to authenticate.
SPAWN_SECONDS: Final = 120.0
#: How long an agent may be silent once it has; every call of it begins this anew.
SESSION_SECONDS: Final = 3600.0
#: How long a process may take to end after its coordinator heard of a stop: nothing is told of it.
STOP_SECONDS: Final = 15.0
#: A call moves the lease on only when it is worth a write.
_SLIDE_SECONDS: Final = 60.0
#: Longest error text that is kept.
MAX_ERROR_CHARS: Final = 2000


@dataclass(frozen=True)
class Cause:
    """Why a run ends now, and what its coordinator told before."""

    actor: str
    #: Its process is gone; False: nobody was heard of for too long.
    has_exited: bool
    #: What its error text means, from the closed list; None: nothing in particular.
    reason: str | None = None
    #: How long its provider wants to be left alone.
    wait_seconds: float = 0.0


def holder(agent_id: str, project_id: str) -> str:
    """Who holds the runs of a pair."""
    return f"{HOLDER}{agent_id}/{project_id}"


def is_legacy(run: Run) -> bool:
    """Whether a coordinator of another make drives it."""
    return run.coordinator_id.startswith(HOLDER)


def claim(
    unit: Unit,
    agent_id: str,
    project_id: str,
    policy: RetryPolicy,
    purpose: Purpose = Purpose.TASK,
) -> ClaimAnswer:
    """Claim the next task of a pair, or its chat, for a coordinator that cannot claim.

    The run has no token: its agent shows a passkey.
    """
    request = ClaimRequest(
        run_id=new_run_id(),
        coordinator_id=holder(agent_id, project_id),
        epoch=1,
        agent_id=agent_id,
        project_id=project_id,
        purpose=purpose,
        slot=0,
        token_sha256=hashlib.sha256(secrets.token_bytes(32)).hexdigest(),
    )
    return claim_run(unit, request, SPAWN_SECONDS, policy)


def greet(unit: Unit, run: Run) -> None:
    """Its agent is there: the run is running from now on, and its lease is that of a session."""
    facts: dict[str, Any] = {"lease_until": unit.now + timedelta(seconds=SESSION_SECONDS)}
    if run.phase is RunPhase.STARTING:
        facts |= {"phase": RunPhase.RUNNING, "started_at": unit.now}
        emit_run(unit, run, "run.started", actor=run.coordinator_id)
    _change(unit, run, facts)


def slide(unit: Unit, run: Run) -> None:
    """Its agent called: the hour begins anew, unless the run is being stopped."""
    until = unit.now + timedelta(seconds=SESSION_SECONDS)
    is_worth_it = (until - run.lease_until).total_seconds() > _SLIDE_SECONDS
    if is_worth_it and run.stop_reason is None:
        _change(unit, run, {"lease_until": until})


def told_to_stop(unit: Unit, agent_id: str, project_id: str) -> None:
    """The coordinator of a pair heard that its run is to stop, and will say nothing more of it."""
    until = unit.now + timedelta(seconds=STOP_SECONDS)
    for run in all_live_of(unit, agent_id, project_id):
        # told again, the time goes on from the first
        if run.stop_reason is not None and run.lease_until > until:
            _change(unit, run, {"lease_until": until})


def note_error(unit: Unit, run: Run, text: str) -> None:
    """Keep what its coordinator read in its output."""
    _change(unit, run, {"error": text[:MAX_ERROR_CHARS]})
    emit_run(
        unit,
        run,
        "run.warning",
        actor=run.coordinator_id,
        kind="agent_error",
        text=text[:MAX_ERROR_CHARS],
    )


def note_exit(unit: Unit, run: Run, exit_code: int) -> None:
    """Keep the exit code that its agent tells: its coordinator tells none. The first one counts."""
    if run.exit_code is None:
        _change(unit, run, {"exit_code": exit_code})


def note_log(unit: Unit, agent_id: str, task_id: str, path: str) -> Run | None:
    """Keep where the output of the newest run of a task lies; None when there is no such run."""
    newest = (
        select(_run)
        .where(
            _run.c.task_id == task_id,
            _run.c.agent_id == agent_id,
            _run.c.coordinator_id.startswith(HOLDER),
        )
        .order_by(_run.c.created_at.desc(), _run.c.id.desc())
        .limit(1)
    )
    row = unit.conn.execute(newest).mappings().first()
    if row is None:
        return None
    unit.conn.execute(update(_run).where(_run.c.id == row["id"]).values(log_path=path))
    return run_of(row)


@dataclass(frozen=True)
class LogOf:
    """Which run a log is of, as such a coordinator says it."""

    run_id: str
    agent_id: str
    task_id: str
    project_id: str


def run_of_log(unit: Unit, about: LogOf) -> Run:
    """The run that a log is of.

    Raises:
        NotFoundError: there is none, or it is another's.
    """
    query = select(_run).where(
        _run.c.id == about.run_id,
        _run.c.agent_id == about.agent_id,
        _run.c.task_id == about.task_id,
        _run.c.project_id == about.project_id,
        _run.c.coordinator_id.startswith(HOLDER),
    )
    row = unit.conn.execute(query).mappings().first()
    if row is None:
        raise NotFoundError("Execution log not found")
    return run_of(row)


def keep_log(unit: Unit, run_id: str, path: str) -> None:
    """From now on the output of a run lies here."""
    unit.conn.execute(update(_run).where(_run.c.id == run_id).values(log_path=path))


def all_live_of(unit: Unit, agent_id: str, project_id: str) -> list[Run]:
    """The live runs that such a coordinator drives for a pair, locked: that of a task before a chat's."""
    query = (
        select(_run)
        .where(
            _run.c.coordinator_id == holder(agent_id, project_id), _run.c.phase != RunPhase.ENDED
        )
        .order_by(_run.c.purpose.desc(), _run.c.id)
        .with_for_update()
    )
    return [run_of(row) for row in unit.conn.execute(query).mappings().all()]


def live_of(unit: Unit, agent_id: str, project_id: str) -> Run | None:
    """The first of them."""
    return next(iter(all_live_of(unit, agent_id, project_id)), None)


def has_left(unit: Unit, run: Run) -> bool:
    """Whether the agent of a run has ended every session that it had."""
    return run.authenticated_at is not None and not sessions.count_open(unit, run.id)


def lapsed(unit: Unit) -> list[Run]:
    """Runs of which nothing was heard for too long. The clock starts anew when the server does."""
    query = select(_run).where(
        _run.c.coordinator_id.startswith(HOLDER),
        _run.c.phase != RunPhase.ENDED,
        _run.c.lease_until <= unit.now,
    )
    rows = unit.conn.execute(query).mappings().all()
    grace = timedelta(seconds=SPAWN_SECONDS)
    return [run_of(row) for row in rows if row["stop_reason"] or unit.now >= unit.opened_at + grace]


def end(unit: Unit, run: Run, cause: Cause, policy: RetryPolicy) -> Task | None:
    """End a run as far as anything is known of it; its task moves on. Exit code: not told.

    Args:
        unit: The unit of work.
        run: The run; over already, nothing happens.
        cause: Why now.
        policy: Waits between attempts.

    Returns:
        Its task as it is now.
    """
    task = None if run.task_id is None else lock_task(unit, run.task_id)
    row = unit.conn.execute(select(_run).where(_run.c.id == run.id)).mappings().one()
    run = run_of(row)
    if run.phase is RunPhase.ENDED:
        return task
    question = questions.last_of_run(unit, run.id)
    outcome, reason = _decide(run, cause, is_asking=_is_asking(question))
    result = {"summary": run.reported_summary, "verification": Verification.NOT_VERIFIED.value}
    task_facts: dict[str, Any] = {}
    if outcome is RunOutcome.FAILED:
        result["error"] = run.error
        task_facts["handoff"] = _handoff(run, reason)
    task_facts["result"] = {key: value for key, value in result.items() if value}
    ending = Ending(
        outcome,
        reason,
        actor=cause.actor,
        facts={"verification": Verification.NOT_VERIFIED},
        task_facts=task_facts,
        wait_seconds=cause.wait_seconds,
        limit=Limit(unit.now + timedelta(seconds=cause.wait_seconds), Confidence.DERIVED)
        if cause.wait_seconds
        else None,
    )
    return end_run(unit, run, task, ending, policy)


def _is_asking(question: Question | None) -> bool:
    """Whether its agent left because of a question, as it was told to, or before."""
    return question is not None and (question.is_open or question.pending_at is not None)


#: What an agent's word makes of its run.
_REPORTED: Final[dict[str, tuple[RunOutcome, str | None]]] = {
    "success": (RunOutcome.SUCCEEDED, None),
    "blocked": (RunOutcome.SUSPENDED, "agent_reported"),
    "waiting": (RunOutcome.SUSPENDED, "delegated"),
    "failed": (RunOutcome.FAILED, "agent_reported"),
}


def _decide(run: Run, cause: Cause, *, is_asking: bool) -> tuple[RunOutcome, str | None]:
    """How it ended: by its agent's word, else by what was asked of it, else by what is known."""
    if run.stop_reason == "cancelled":
        return RunOutcome.CANCELLED, "cancelled"
    if run.reported_result in _REPORTED:
        return _REPORTED[run.reported_result]
    if run.stop_reason is not None:
        return RunOutcome.STOPPED, "stopped"
    if run.purpose is Purpose.CHAT and run.authenticated_at is not None and cause.has_exited:
        return RunOutcome.SUCCEEDED, None
    if is_asking:
        return RunOutcome.SUSPENDED, "asked"
    if cause.reason is not None:
        return RunOutcome.FAILED, cause.reason
    if run.authenticated_at is None:
        # Nobody was ever heard of: nothing was tried. A process that died was.
        return (
            RunOutcome.FAILED if cause.has_exited else RunOutcome.NOT_STARTED,
            "never_authenticated",
        )
    return RunOutcome.FAILED, "no_report"


def _handoff(run: Run, reason: str | None) -> str:
    said = [f"The attempt before ended without success ({reason})."]
    said += [text for text in (run.reported_summary, run.error) if text]
    return "\n\n".join(said)


def _change(unit: Unit, run: Run, facts: dict[str, Any]) -> None:
    unit.conn.execute(
        update(_run).where(_run.c.id == run.id, _run.c.phase != RunPhase.ENDED).values(facts)
    )
