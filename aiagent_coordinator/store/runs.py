"""Runs: looked up, and what happens to them while they live. Their start and end are claims and reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, bindparam, select, update

from aiagent_coordinator.errors import ConflictError, NotFoundError, StaleRunError, ValidationError
from aiagent_coordinator.runs import Run, RunPhase
from aiagent_coordinator.store import notifications, tables
from aiagent_coordinator.store.find import find_id
from aiagent_coordinator.store.pages import page_of
from aiagent_coordinator.store.rows import run_of
from aiagent_coordinator.store.unit import Unit

_run = tables.run
_BY_ID = select(_run).where(_run.c.id == bindparam("which"))
_BY_TASK = select(_run).where(_run.c.task_id == bindparam("which"), _run.c.phase != RunPhase.ENDED)
_BY_TOKEN = select(_run).where(
    _run.c.token_sha256 == bindparam("which"), _run.c.phase != RunPhase.ENDED
)

#: Phases that hold a place under the limits; `finishing` holds only the run's own key.
COUNTED: Final = (RunPhase.STARTING, RunPhase.RUNNING, RunPhase.STOPPING)
#: What an agent may say of its task.
RESULTS: Final = ("success", "failed", "blocked", "waiting")


@dataclass(frozen=True)
class RunFilter:
    """Which runs; all that is None does not matter."""

    task_id: str | None = None
    agent_id: str | None = None
    project_id: str | None = None
    coordinator_id: str | None = None
    #: True: not ended yet; False: ended.
    live: bool | None = None


def get_run(unit: Unit, run_id: str) -> Run:
    """One run.

    Raises:
        NotFoundError: there is none.
    """
    run = _one(unit, _BY_ID, run_id)
    if run is None:
        raise NotFoundError(f"there is no run {run_id}", run_id=run_id)
    return run


def workspace_of(unit: Unit, run_id: str) -> tuple[str, str] | None:
    """The machine and the folder that a run's program works in; None before its coordinator said."""
    query = select(_run.c.host_id, _run.c.workspace).where(_run.c.id == run_id)
    row = unit.conn.execute(query).first()
    return None if row is None or None in row else (row[0], row[1])


def find_run(unit: Unit, text: str) -> Run:
    """The run a person means: its id, or the beginning of it, with or without `run_`.

    Raises:
        NotFoundError: none begins so.
        ConflictError: several do; they are listed.
    """
    return get_run(unit, find_id(unit, _run, "run", text))


def list_runs(
    unit: Unit,
    which: RunFilter | None = None,
    *,
    limit: int = 100,
    after: str | None = None,
    newest: bool = False,
) -> list[Run]:
    """Runs: one page, see `pages`."""
    which = which or RunFilter()
    query = select(_run)
    for name in ("task_id", "agent_id", "project_id", "coordinator_id"):
        value = getattr(which, name)
        if value is not None:
            query = query.where(_run.c[name] == value)
    if which.live is not None:
        ended = _run.c.phase == RunPhase.ENDED
        query = query.where(~ended if which.live else ended)
    query = page_of(unit, query, _run, limit=limit, after=after, newest=newest)
    return [run_of(row) for row in unit.conn.execute(query).mappings()]


def live_runs(unit: Unit) -> list[Run]:
    """Every run that is not over, oldest first."""
    query = (
        select(_run).where(_run.c.phase != RunPhase.ENDED).order_by(_run.c.created_at, _run.c.id)
    )
    return [run_of(row) for row in unit.conn.execute(query).mappings()]


def live_run_of(unit: Unit, task_id: str) -> Run | None:
    """The run that works on a task now, if any."""
    return _one(unit, _BY_TASK, task_id)


def latest_run_of(unit: Unit, task_id: str) -> Run | None:
    """The task's newest run; None before its first."""
    newest_first = (_run.c.created_at.desc(), _run.c.id.desc())
    query = select(_run).where(_run.c.task_id == task_id).order_by(*newest_first).limit(1)
    row = unit.conn.execute(query).mappings().first()
    return None if row is None else run_of(row)


def run_by_token_hash(unit: Unit, token_sha256: str) -> Run | None:
    """The live run whose token has this SHA-256 (hex); a token dies with its run."""
    return _one(unit, _BY_TOKEN, token_sha256)


def _one(unit: Unit, query: Select[Any], which: str) -> Run | None:
    row = unit.conn.execute(query, {"which": which}).mappings().first()
    return None if row is None else run_of(row)


def request_stop(unit: Unit, run_id: str, reason: str, *, actor: str) -> Run:
    """Ask for a run to be stopped; its coordinator hears it. The first reason stays.

    Raises:
        NotFoundError: there is no such run.
        ConflictError: it is over.
    """
    changed = _set_once(unit, run_id, "stop_reason", stop_reason=reason, stop_requested_at=unit.now)
    run = get_run(unit, run_id)
    if run.phase is RunPhase.ENDED:
        raise ConflictError(f"run {run_id} is over", run_id=run_id)
    if changed:
        emit_run(unit, run, "run.stop_requested", actor=actor, reason=reason)
        words = (f"This run is being stopped ({reason}).", "Call no more tools and exit.")
        notice = notifications.interrupt(run, notifications.EXIT, words)
        notifications.send(unit, notice, actor=actor)
    return run


def mark_hello(unit: Unit, run_id: str) -> Run:
    """Note that the run's bridge connected, the first time it does."""
    changed = _set_once(unit, run_id, "hello_at", hello_at=unit.now)
    run = get_run(unit, run_id)
    if changed:
        emit_run(unit, run, "run.hello", actor=f"agent:{run.agent_id}")
    return run


def mark_authenticated(unit: Unit, run_id: str) -> Run:
    """Note that the agent used one of its tools, the first time it does."""
    changed = _set_once(unit, run_id, "authenticated_at", authenticated_at=unit.now)
    run = get_run(unit, run_id)
    if changed:
        emit_run(unit, run, "run.authenticated", actor=f"agent:{run.agent_id}")
    return run


def set_stage(unit: Unit, run_id: str, stage: str) -> None:
    """Note which stage a live run is in."""
    unit.conn.execute(
        update(_run).where(_run.c.id == run_id, _run.c.phase != RunPhase.ENDED).values(stage=stage)
    )


def record_agent_report(unit: Unit, run: Run, result: str, summary: str | None) -> Run:
    """Keep what the agent says about its task; the task moves when the run's result is in.

    Saying the same again changes nothing.

    Args:
        unit: The unit of work.
        run: The run as the caller knows it; its fence is checked.
        result: One of `RESULTS`.
        summary: The agent's words.

    Raises:
        ValidationError: the result is none of these.
        StaleRunError: the run is over or was taken over.
        ConflictError: it has already said something else.
    """
    if result not in RESULTS:
        raise ValidationError(f"a result is one of {', '.join(RESULTS)}", key="result")
    now = get_run(unit, run.id)
    if now.phase is RunPhase.ENDED or now.fence != run.fence:
        raise StaleRunError(f"run {run.id} is over", run_id=run.id)
    columns = {"reported_result": result, "reported_summary": summary, "reported_at": unit.now}
    if _set_once(unit, run.id, "reported_result", **columns):
        emit_run(unit, now, "run.reported", actor=f"agent:{run.agent_id}", result=result)
        return get_run(unit, run.id)
    if now.reported_result != result:
        raise ConflictError(f"run {run.id} already reported {now.reported_result}", run_id=run.id)
    return now


def refuse_report(
    unit: Unit, run: Run, missing: tuple[int, ...], evidence: list[dict[str, Any]]
) -> None:
    """Note that a report lacked evidence, and keep what it had."""
    unit.conn.execute(
        update(_run)
        .where(_run.c.id == run.id)
        .values(
            evidence=evidence,
            missing_evidence=list(missing),
            report_refusals=run.report_refusals + 1,
        )
    )
    emit_run(unit, run, "run.report_refused", actor=f"agent:{run.agent_id}", missing=list(missing))


def keep_evidence(unit: Unit, run: Run, evidence: list[dict[str, Any]]) -> None:
    """Keep what the report named for each criterion."""
    unit.conn.execute(
        update(_run).where(_run.c.id == run.id).values(evidence=evidence, missing_evidence=None)
    )


def keep_warnings(unit: Unit, run: Run, warnings: dict[str, str], *, actor: str) -> None:
    """Keep what a run is warned of, and say of each that it is new. Saying it again changes nothing."""
    known = run.warnings or {}
    new = {kind: text for kind, text in warnings.items() if kind not in known}
    if not new:
        return
    unit.conn.execute(update(_run).where(_run.c.id == run.id).values(warnings={**known, **new}))
    for kind, text in new.items():
        emit_run(unit, run, "run.warning", actor=actor, kind=kind, text=text)


def _set_once(unit: Unit, run_id: str, key: str, **columns: object) -> bool:
    """Fill columns of a live run whose `key` is still empty; False when it was not."""
    changed = unit.conn.execute(
        update(_run)
        .where(_run.c.id == run_id, _run.c[key].is_(None), _run.c.phase != RunPhase.ENDED)
        .values(columns)
    )
    return changed.rowcount == 1


def emit_run(
    unit: Unit, run: Run, action: str, *, actor: str, refusal: bool = False, **data: object
) -> None:
    """Say that something happened to a run; see `Unit.emit`."""
    unit.emit(
        action,
        actor=actor,
        project_id=run.project_id,
        task_id=run.task_id,
        run_id=run.id,
        agent_id=run.agent_id,
        refusal=refusal,
        **data,
    )
