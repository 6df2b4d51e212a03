"""What coordinators report of a run: started, exit, result. Each counts once, however often it comes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final, TypeVar

from sqlalchemy import bindparam, insert, select, update

from aiagent_coordinator.errors import NotFoundError, StaleRunError, ValidationError
from aiagent_coordinator.runs import RetryPolicy, Run, RunOutcome, RunPhase
from aiagent_coordinator.store import budgets, tables, talks, tells, terms
from aiagent_coordinator.store.endings import Ending, end_run, named_end
from aiagent_coordinator.store.leases import RESULT_SEQ, question_of, report_of
from aiagent_coordinator.store.live import keep_live
from aiagent_coordinator.store.questions import ask_at_the_end
from aiagent_coordinator.store.requests import (
    ExitAnswer,
    ExitReport,
    ResultAnswer,
    ResultReport,
    StartedAnswer,
    StartedReport,
    from_wire,
    to_wire,
)
from aiagent_coordinator.store.rows import run_of
from aiagent_coordinator.store.runs import emit_run, get_run, keep_warnings
from aiagent_coordinator.store.tasks import get_task, lock_task
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import AskPolicy, Task

_run = tables.run
_report = tables.report
_STORED = select(_report.c.answer).where(
    _report.c.run_id == bindparam("which"), _report.c.seq == bindparam("seq")
)
_KEEP = insert(_report)
_LOCK = select(_run).where(_run.c.id == bindparam("which")).with_for_update()
_TASK_ID = select(_run.c.task_id).where(_run.c.id == bindparam("which"))
_CHANGE = update(_run).where(_run.c.id == bindparam("which"), _run.c.phase != RunPhase.ENDED)

T = TypeVar("T")
AnyReport = StartedReport | ExitReport | ResultReport

STARTED_SEQ: Final = 0
EXIT_SEQ: Final = 1


def record_started(unit: Unit, report: StartedReport) -> StartedAnswer:
    """Take the news that a run's shim is up; its CLI begins only after this.

    Raises:
        StaleRunError: the run is over or was taken over.
        NotFoundError: there is no such run.
    """
    stored = _stored(unit, report, STARTED_SEQ, StartedAnswer)
    if stored is not None:
        return stored
    run = _lock(unit, report)
    facts: dict[str, Any] = {
        "host_id": report.host_id,
        "shim": asdict(report.shim),
        "workspace": report.workspace,
        "branch": report.branch,
        "base_commit": report.base_commit,
        "log_path": report.log_path,
        "argv_masked": list(report.argv_masked),
        "tool_timeout_seconds": report.tool_timeout_seconds,
        "resumed_session_id": report.resumed_session_id,
        "answers_on_stdin": report.answers_on_stdin,
        "listens": report.listens,
        "started_at": unit.now,
    }
    if run.phase is RunPhase.STARTING:
        facts["phase"] = RunPhase.RUNNING
    _change(unit, run, facts)
    emit_run(unit, run, "run.started", actor=_actor(run))
    tells.started(unit, get_run(unit, run.id))
    return _keep(unit, report, StartedAnswer())


def record_exit(unit: Unit, report: ExitReport) -> ExitAnswer:
    """Take the news that a run's processes are gone: its place under the limits is free.

    Its own key (one run per task, one per slot) stays held until the result is in.

    Raises:
        StaleRunError: the run is over or was taken over.
        NotFoundError: there is no such run.
    """
    stored = _stored(unit, report, EXIT_SEQ, ExitAnswer)
    if stored is not None:
        return stored
    run = _lock(unit, report)
    facts: dict[str, Any] = {
        "phase": RunPhase.FINISHING,
        "exit_code": report.exit_code,
        "signal": report.signal,
        "ended_at": report.ended_at,
        "cpu_seconds": report.cpu_seconds,
        "peak_rss": report.peak_rss,
    }
    if report.started_at is not None:
        facts["started_at"] = report.started_at
    if report.leftovers:
        facts["leftovers"] = list(report.leftovers)
        facts["leftovers_ended"] = report.leftovers_ended
    _change(unit, run, facts)
    keep_warnings(unit, run, report.warnings, actor=_actor(run))
    tells.heard(unit, run, report.heard)
    emit_run(
        unit,
        run,
        "run.exited",
        actor=_actor(run),
        exit_code=report.exit_code,
        signal=report.signal,
        reason=report.reason,
    )
    if report.leftovers:
        emit_run(
            unit,
            run,
            "run.leftovers",
            actor=_actor(run),
            leftovers=list(report.leftovers),
            ended=report.leftovers_ended,
        )
    answer = ExitAnswer(
        report=report_of(run),
        question=question_of(unit, run),
        hello_at=run.hello_at,
        authenticated_at=run.authenticated_at,
        unanswered=talks.owed(unit, run),
    )
    talks.session_over(unit, run)
    return _keep(unit, report, answer)


def record_result(
    unit: Unit, report: ResultReport, policy: RetryPolicy, ask: AskPolicy | None = None
) -> ResultAnswer:
    """Take a run's result: it ends, its token dies, and its task moves on.

    Args:
        unit: The unit of work.
        report: The result.
        policy: Waits between attempts.
        ask: How questions are treated.

    Raises:
        StaleRunError: the run is over or was taken over.
        NotFoundError: there is no such run.
        ValidationError: the reason is not in the closed list.
    """
    stored = _stored(unit, report, RESULT_SEQ, ResultAnswer)
    if stored is not None:
        return stored
    task = _lock_task_of(unit, report)
    run = _lock(unit, report)
    if report.live is not None:
        keep_live(unit, run, report.live, actor=_actor(run))
    outcome, reason = named_end(run, report.outcome, report.reason)
    if task and report.question and outcome is RunOutcome.SUSPENDED and reason == "asked":
        asked = ask_at_the_end(unit, run, task, report.question, ask or AskPolicy())
        task = get_task(unit, task.id)
        outcome, reason = (outcome, reason) if asked else (RunOutcome.FAILED, "no_report")
    ending = Ending(
        outcome,
        reason,
        actor=_actor(run),
        facts={
            **_run_facts(report, run),
            **budgets.used_columns(report.usage or run.usage, run.lane, terms.current(unit)),
        },
        task_facts=_task_facts(report, run),
        limit=report.limit,
    )
    task = end_run(unit, run, task, ending, policy)
    answer = ResultAnswer(
        task_status=task.status if task else None,
        attempt=task.attempt if task else run.attempt,
        wait_reason=task.wait_reason if task else None,
        not_before=task.not_before if task else None,
    )
    return _keep(unit, report, answer)


def _run_facts(report: ResultReport, run: Run) -> dict[str, Any]:
    return {
        "provider_session_id": report.provider_session_id or run.provider_session_id,
        "summary": report.summary,
        "verification": report.verification,
        "sealed_commit": report.sealed_commit,
        "branch": report.branch or run.branch,
        "pushed": report.pushed,
        "checks": [asdict(check) for check in report.checks],
        "log": asdict(report.log),
        "log_path": report.log.path or run.log_path,
        "error": (report.diagnosis or {}).get("text"),
    }


def _task_facts(report: ResultReport, run: Run) -> dict[str, Any]:
    result = {
        "summary": run.reported_summary,
        "commit": report.sealed_commit,
        "branch": report.branch or run.branch,
        "verification": report.verification.value,
    }
    if report.outcome is not RunOutcome.SUCCEEDED:
        result["error"] = (report.diagnosis or {}).get("text")
    facts: dict[str, Any] = {"result": {key: value for key, value in result.items() if value}}
    if report.handoff is not None:
        facts["handoff"] = report.handoff
    return facts


def _stored(unit: Unit, report: AnyReport, seq: int, shape: type[T]) -> T | None:
    """The answer this report already got, if it came before."""
    if report.seq != seq:
        raise ValidationError(f"the number of this report is {seq}", key="seq")
    kept = unit.conn.scalar(_STORED, {"which": report.run_id, "seq": seq})
    return None if kept is None else from_wire(shape, kept)


def _keep(unit: Unit, report: AnyReport, answer: T) -> T:
    receipt = {"run_id": report.run_id, "seq": report.seq, "received_at": unit.now}
    unit.conn.execute(_KEEP, {**receipt, "answer": to_wire(answer)})
    return answer


def _lock_task_of(unit: Unit, report: AnyReport) -> Task | None:
    """The task of the reported run, locked before the run itself: so does everybody."""
    task_id = unit.conn.scalar(_TASK_ID, {"which": report.run_id})
    return lock_task(unit, task_id) if task_id else None


def _lock(unit: Unit, report: AnyReport) -> Run:
    """The run that is reported on, locked; it must be live and the reporter's."""
    row = unit.conn.execute(_LOCK, {"which": report.run_id}).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no run {report.run_id}", run_id=report.run_id)
    run = run_of(row)
    if run.fence == report.fence and run.phase is not RunPhase.ENDED:
        return run
    emit_run(
        unit,
        run,
        "run.superseded",
        actor=_actor(run),
        refusal=True,
        seq=report.seq,
        fence=report.fence,
    )
    raise StaleRunError(
        f"run {run.id} was taken over or is over; report {report.seq} changed nothing",
        run_id=run.id,
    )


def _change(unit: Unit, run: Run, facts: dict[str, Any]) -> None:
    unit.conn.execute(_CHANGE, {"which": run.id, **facts})


def _actor(run: Run) -> str:
    return f"coordinator:{run.coordinator_id}"
