"""Budgets: what is left of them, who may still start, who is stopped, and what becomes of the task.

Looked at before a claim, at every renewal that brings news of a run's use, and when a run ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, bindparam, case, func, or_, select, update

from aiagent_coordinator.clock import iso
from aiagent_coordinator.quota import (
    Amount,
    Budgets,
    Lane,
    Terms,
    middle,
    midnight,
    shown_amount,
    spent,
    with_estimate,
)
from aiagent_coordinator.quota import Unit as Measure
from aiagent_coordinator.runs import Purpose, Run, RunPhase
from aiagent_coordinator.store import questions, tables, terms
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.rows import run_of, task_of
from aiagent_coordinator.store.transitions import set_status
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Task, TaskStatus

_run = tables.run
_task = tables.task
#: Answers to the question what is to become of a task whose budget is used up.
GO_ON: Final = "continue"
CANCEL: Final = "cancel"
ABOUT: Final = "budget"
#: Runs that an agent's next one is reckoned from.
LEARNED_RUNS: Final = 10
#: A question of ours stays open so long.
ASK_DAYS: Final = 365

Kind = Literal["run", "task", "day", "total"]
_COLUMNS: Final = {
    "tokens": (_run.c.used_tokens, _run.c.reserved_tokens),
    "usd": (_run.c.used_usd, _run.c.reserved_usd),
}


@dataclass(frozen=True)
class Cap:
    """One amount that holds for a run."""

    kind: Kind
    #: `project`, `agent`, or empty: everywhere; and which one.
    scope: str
    subject: str
    amount: Amount
    stops: bool
    warn_at: float

    @property
    def name(self) -> str:
        """What it is, in words."""
        of = {"run": "a run", "task": "a task", "day": "a day", "total": "all runs"}[self.kind]
        where = f" of {self.scope} {self.subject}" if self.scope else ""
        return f"budget of {of}{where}"

    def words(self, used: float) -> str:
        """How much of it is used."""
        most = shown_amount(self.amount.unit, self.amount.most)
        return f"{self.name}: {shown_amount(self.amount.unit, used)} of {most} used"


def caps_of(said: Terms, agent_id: str, project_id: str, task: Task | None) -> list[Cap]:
    """All that holds for a run of this agent in this project, and for its task."""
    places = (
        ("", "", said.budgets),
        ("project", project_id, said.project_budgets.get(project_id)),
        ("agent", agent_id, said.agent_budgets.get(agent_id)),
    )
    found: list[Cap] = []
    for scope, subject, budgets in places:
        if budgets is not None:
            found += _caps(scope, subject, budgets, task)
    own = (task.budget if task is not None else None) or {}
    for unit, most in own.items():
        measure: Measure = "usd" if unit == "usd" else "tokens"
        stops = said.budgets.when_reached == "stop"
        found.append(Cap("task", "", "", Amount(measure, most), stops, said.budgets.warn_at))
    return found


def _caps(scope: str, subject: str, budgets: Budgets, task: Task | None) -> Iterator[Cap]:
    own = (task.budget if task is not None else None) or {}
    kinds: tuple[tuple[Kind, tuple[Amount, ...]], ...] = (
        ("run", budgets.run),
        ("task", tuple(one for one in budgets.task if one.unit not in own)),
        ("day", budgets.day),
        ("total", budgets.total),
    )
    for kind, amounts in kinds:
        if kind == "task" and task is None:
            continue
        for amount in amounts:
            stops = budgets.when_reached == "stop"
            yield Cap(kind, scope, subject, amount, stops, budgets.warn_at)


@dataclass(frozen=True)
class _Sum:
    used: float
    #: Of that, what live runs are thought to use yet.
    ahead: float
    live: int


def _sum(unit: Unit, cap: Cap, task_id: str | None, run_id: str | None) -> _Sum:
    """What was used of a cap; runs under way count with what is set aside for them."""
    used, reserved = _COLUMNS[cap.amount.unit]
    is_live = _run.c.phase != RunPhase.ENDED
    rest = case((is_live & (reserved > used), reserved - used), else_=0.0)
    query = select(
        func.coalesce(func.sum(used), 0.0),
        func.coalesce(func.sum(rest), 0.0),
        func.coalesce(func.sum(case((is_live, 1), else_=0)), 0),
    ).where(_where(unit, cap, task_id, run_id))
    row = unit.conn.execute(query).one()
    return _Sum(float(row[0]), float(row[1]), int(row[2]))


def _where(unit: Unit, cap: Cap, task_id: str | None, run_id: str | None) -> ColumnElement[bool]:
    if cap.kind == "run":
        return _run.c.id == (run_id or "")
    if cap.kind == "task":
        return _run.c.task_id == (task_id or "")
    where: ColumnElement[bool] = _run.c.id.is_not(None)
    if cap.scope == "project":
        where = _run.c.project_id == cap.subject
    elif cap.scope == "agent":
        where = _run.c.agent_id == cap.subject
    if cap.kind == "day":
        where &= or_(_run.c.phase != RunPhase.ENDED, _run.c.ended_at >= midnight(unit.now))
    return where


class Left:
    """What budgets leave of a day and of all; each is looked at once."""

    def __init__(self, unit: Unit, said: Terms) -> None:
        self._unit = unit
        self._said = said
        self._known: dict[Cap, str | None] = {}

    def refusal(self, agent_id: str, project_id: str) -> str | None:
        """Why nothing more of this agent may start in this project; None: no budget says so."""
        if not self._said.has_budgets:
            return None
        for cap in caps_of(self._said, agent_id, project_id, None):
            if cap.kind not in {"day", "total"}:
                continue
            if cap not in self._known:
                found = _sum(self._unit, cap, None, None)
                full = found.used + found.ahead >= cap.amount.most
                self._known[cap] = _parked(self._unit, cap, found.used) if full else None
            if self._known[cap]:
                return self._known[cap]
        return None


def _parked(unit: Unit, cap: Cap, used: float) -> str:
    until = ""
    if cap.kind == "day":
        next_day = iso(midnight(unit.now) + timedelta(days=1)) or ""
        until = f" until {next_day.replace('.000000', '')}"
    return f"parked{until} ({cap.words(used)})"


def next_day(unit: Unit, said: Terms) -> datetime | None:
    """When budgets of a day begin anew; None where there is none."""
    places = (said.budgets, *said.project_budgets.values(), *said.agent_budgets.values())
    return midnight(unit.now) + timedelta(days=1) if any(one.day for one in places) else None


@dataclass(frozen=True)
class Reserved:
    """What is set aside for a run."""

    tokens: float = 0.0
    usd: float = 0.0


def reserve(
    unit: Unit, said: Terms, agent_id: str, project_id: str, task: Task | None
) -> Reserved | str:
    """Set aside what a run is likely to use, or say why it may not start.

    Nobody else counts meanwhile. While nothing else runs under a budget, all that is left of it may be
    used; beside others only what is likely to suffice.
    """
    caps = caps_of(said, agent_id, project_id, task)
    if not caps:
        return Reserved()
    terms.lock(unit)
    likely = _likely(unit, agent_id)
    for cap in caps:
        if cap.kind == "run":
            continue
        found = _sum(unit, cap, task.id if task else None, None)
        taken = found.used + found.ahead
        wanted = likely[cap.amount.unit] if found.live else 0.0
        if taken >= cap.amount.most or taken + wanted > cap.amount.most:
            return _parked(unit, cap, found.used)
    for cap in caps:
        if cap.kind == "run":
            likely[cap.amount.unit] = min(likely[cap.amount.unit], cap.amount.most)
    return Reserved(likely["tokens"], likely["usd"])


def _likely(unit: Unit, agent_id: str) -> dict[str, float]:
    """What a run of an agent uses: the middle of its last ones; 0 of one that never ran."""
    query = (
        select(_run.c.used_tokens, _run.c.used_usd)
        .where(
            _run.c.agent_id == agent_id,
            _run.c.phase == RunPhase.ENDED,
            _run.c.purpose == Purpose.TASK,
            _run.c.used_tokens > 0,
        )
        .order_by(_run.c.created_at.desc(), _run.c.id.desc())
        .limit(LEARNED_RUNS)
    )
    rows = unit.conn.execute(query).all()
    return {"tokens": middle(row[0] for row in rows), "usd": middle(row[1] for row in rows)}


def used_columns(usage: dict[str, Any] | None, lane: Lane, said: Terms) -> dict[str, Any]:
    """The columns of a run that say what it used."""
    known = with_estimate(usage, lane, said.prices)
    if known is None:
        return {}
    return {
        "usage": known,
        "used_tokens": spent(known, "tokens"),
        "used_usd": spent(known, "usd"),
    }


def look(unit: Unit, run: Run, said: Terms) -> None:
    """A run used more: warn of what is nearly used up, stop what has nothing left."""
    task_id = run.task_id
    reached: list[Cap] = []
    warnings: dict[str, str] = {}
    for cap in caps_of(said, run.agent_id, run.project_id, _task_of(unit, task_id)):
        used = _sum(unit, cap, task_id, run.id).used
        if used >= cap.amount.most * cap.warn_at:
            key = "_".join(filter(None, ("budget", cap.kind, cap.scope, cap.amount.unit)))
            warnings[key] = cap.words(used)
        if used >= cap.amount.most:
            reached.append(cap)
    actor = f"coordinator:{run.coordinator_id}"
    run_store.keep_warnings(unit, run, warnings, actor=actor)
    for cap in reached:
        for one in _live_under(unit, cap, run):
            if one.phase in run_store.COUNTED and one.stop_reason is None:
                run_store.request_stop(unit, one.id, "budget", actor="server")


def _live_under(unit: Unit, cap: Cap, run: Run) -> list[Run]:
    where = _where(unit, cap, run.task_id, run.id) & (_run.c.phase != RunPhase.ENDED)
    rows = unit.conn.execute(select(_run).where(where)).mappings().all()
    return [run_of(row) for row in rows]


_BUDGETED = select(_task).where(_task.c.id == bindparam("which"))


def _task_of(unit: Unit, task_id: str | None) -> Task | None:
    if task_id is None:
        return None
    row = unit.conn.execute(_BUDGETED, {"which": task_id}).mappings().first()
    return None if row is None else task_of(row)


def after_run(unit: Unit, run: Run, task: Task, reason: str | None) -> Task:
    """The run of a task is over, and the task is queued: see whether its budgets let it go on.

    Args:
        unit: The unit of work.
        run: The run that ended; what it used is kept.
        task: Its task, as it is now.
        reason: Why it ended.
    """
    if task.status is not TaskStatus.QUEUED:
        return task
    said = terms.current(unit)
    for cap in caps_of(said, run.agent_id, run.project_id, task):
        if cap.kind == "day" and not cap.stops:
            continue  # the next day lets it go on
        if cap.kind in {"day", "total"} and reason != ABOUT:
            continue  # nothing starts until it is raised; the task is not to blame
        used = _sum(unit, cap, task.id, run.id).used
        if used >= cap.amount.most:
            return settle(unit, task, run.id, cap, used)
    return task


def settle(unit: Unit, task: Task, run_id: str, cap: Cap, used: float) -> Task:
    """A queued task may use no more: it fails, waits for a person, or for what is above it."""
    if cap.stops:
        return set_status(
            unit, task, "T21", TaskStatus.FAILED, actor="server", status_reason=ABOUT, run_id=run_id
        )
    if cap.kind == "total":
        return task
    text = f"{cap.words(used)}. May it use as much again?"
    new = questions.NewQuestion(text, (GO_ON, CANCEL))
    expires_at = unit.now + timedelta(days=ASK_DAYS)
    return questions.ask_ourselves(unit, task, run_id, f"{ABOUT}:{cap.kind}", new, expires_at)


def settle_before(unit: Unit, said: Terms, agent_id: str, task: Task) -> bool:
    """See that a queued task may still use something; where not, decide what becomes of it.

    Returns:
        Whether it may be claimed.
    """
    for cap in caps_of(said, agent_id, task.project_id, task):
        if cap.kind != "task":
            continue
        used = _sum(unit, cap, task.id, None).used
        if used >= cap.amount.most:
            latest = run_store.latest_run_of(unit, task.id)
            if latest is not None:
                settle(unit, task, latest.id, cap, used)
                return False
    return True


def grant(unit: Unit, task: Task, run_id: str) -> None:
    """A person lets a task use as much again as it might."""
    run = run_store.get_run(unit, run_id)
    said = terms.current(unit)
    more: dict[str, float] = dict(task.budget or {})
    for cap in caps_of(said, run.agent_id, run.project_id, task):
        if cap.kind in {"run", "task"}:
            used = _sum(unit, replace(cap, kind="task"), task.id, None).used
            if used >= cap.amount.most:
                more[cap.amount.unit] = max(more.get(cap.amount.unit, 0.0), used + cap.amount.most)
    if more:
        unit.conn.execute(update(_task).where(_task.c.id == task.id).values(budget=more))
