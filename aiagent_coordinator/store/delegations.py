"""Delegations: what a session for a task asks its agent's session for the chat to talk about with another.

Each is taken by one session at a time. A session that ends before it says what came of it leaves it to the
next, `MAX_TRIES` times at most. The session at work is told how it ended.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, insert, select, update

from aiagent_coordinator import ids
from aiagent_coordinator.chats import Delegation, DelegationState, NoticeKind
from aiagent_coordinator.errors import LimitError, NotFoundError
from aiagent_coordinator.runs import Purpose, Run, RunPhase
from aiagent_coordinator.store import notifications, tables
from aiagent_coordinator.store.conversations import check_partner
from aiagent_coordinator.store.talk_rows import delegation_of
from aiagent_coordinator.store.talk_tables import UNFINISHED, delegation
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, TaskStatus

#: Sessions that may take one without an end.
MAX_TRIES: Final = 3
#: Of one task, in all.
MAX_OF_TASK: Final = 20
#: What a notice says of a result; all of it stands in the list of the task's conversations.
_SHOWN_CHARS: Final = 2000
_OPEN: Final = (DelegationState.PENDING, DelegationState.PROCESSING)


def delegate(unit: Unit, run: Run, target: str, purpose: str, context: str | None) -> Delegation:
    """Keep what a session at work wants talked about. The same again, while it is not over, is the same.

    Raises:
        CoordinatorError: its agent may not talk with that one; as of `check_partner`.
        LimitError: its task has delegated too often.
    """
    check_partner(unit, run, target, "target_agent_id")
    known = of_task(unit, run.task_id or "")
    for one in known:
        is_same = (one.agent_id, one.target_agent_id, one.purpose, one.context) == (
            *(run.agent_id, target),
            *(purpose, context),
        )
        if is_same and one.state in _OPEN:
            return one
    if len(known) >= MAX_OF_TASK:
        raise LimitError(
            f"a task delegates at most {MAX_OF_TASK} times",
            hint="go on with what you know, or ask a person",
            limit="DELEGATIONS",
        )
    new = Delegation(
        id=ids.new_id("dlg"),
        agent_id=run.agent_id,
        project_id=run.project_id,
        task_id=run.task_id or "",
        run_id=run.id,
        target_agent_id=target,
        purpose=purpose,
        state=DelegationState.PENDING,
        created_at=unit.now,
        context=context,
    )
    unit.conn.execute(insert(delegation).values(vars(new)))
    _emit(unit, new, "delegation.made", f"agent:{run.agent_id}", run.id, target=target)
    return new


def pending(unit: Unit, run: Run) -> Delegation | None:
    """The oldest that waits for a session of this agent's chat."""
    query = (
        select(delegation)
        .where(
            delegation.c.agent_id == run.agent_id,
            delegation.c.project_id == run.project_id,
            delegation.c.state == DelegationState.PENDING,
            UNFINISHED,
        )
        .order_by(delegation.c.created_at, delegation.c.id)
        .limit(1)
    )
    row = unit.conn.execute(query).mappings().first()
    return None if row is None else delegation_of(row)


def take(unit: Unit, run: Run, delegation_id: str) -> Delegation:
    """A session for the chat takes one that is pending."""
    one = _lock(unit, delegation_id)
    if one.state is not DelegationState.PENDING:
        return one
    facts = {"state": DelegationState.PROCESSING, "tries": one.tries + 1, "chat_run_id": run.id}
    one = _change(unit, one, facts)
    _emit(unit, one, "delegation.taken", f"agent:{run.agent_id}", run.id, tries=one.tries)
    return one


def held(unit: Unit, run: Run) -> list[Delegation]:
    """Those that a session has taken and not finished, the newest first."""
    query = (
        select(delegation)
        .where(delegation.c.chat_run_id == run.id, delegation.c.state == DelegationState.PROCESSING)
        .order_by(delegation.c.created_at.desc(), delegation.c.id.desc())
    )
    return [delegation_of(row) for row in unit.conn.execute(query).mappings().all()]


def has_taken(unit: Unit, run: Run) -> bool:
    """Whether a session was the last to take any."""
    query = select(delegation.c.id).where(delegation.c.chat_run_id == run.id).limit(1)
    return unit.conn.scalar(query) is not None


def complete(unit: Unit, run: Run, delegation_id: str, result: str | None) -> Delegation:
    """A session did what was asked; the session at work is told. Again changes nothing.

    Raises:
        NotFoundError: this session has not taken such a delegation.
    """
    one = _lock(unit, delegation_id)
    if one.chat_run_id != run.id:
        raise NotFoundError(f"Delegation not found: {delegation_id[:100]}")
    if one.state is not DelegationState.PROCESSING:
        return one
    facts = {"state": DelegationState.COMPLETED, "result": result, "finished_at": unit.now}
    one = _change(unit, one, facts)
    _emit(unit, one, "delegation.completed", f"agent:{run.agent_id}", run.id)
    said = f"Result: {(result or '')[:_SHOWN_CHARS]}" if result else "It gave no result."
    words = f"Your chat session has talked with {one.target_agent_id} ({one.purpose}). {said}"
    _tell(unit, one, "delegation_completed", words)
    return one


def session_over(unit: Unit, run: Run) -> None:
    """A session for the chat is over: what it had taken waits for the next, or has failed."""
    for one in held(unit, run):
        if one.tries >= MAX_TRIES:
            fail(unit, one, f"{one.tries} sessions for the chat ended before it was done")
            continue
        left = _change(unit, one, {"state": DelegationState.PENDING})
        _emit(unit, left, "delegation.returned", "server", run.id)


def fail(unit: Unit, one: Delegation, reason: str) -> None:
    """Nobody will do it any more; the session at work is told."""
    facts = {"state": DelegationState.FAILED, "result": reason, "finished_at": unit.now}
    one = _change(unit, one, facts)
    _emit(unit, one, "delegation.failed", "server", None, reason=reason)
    words = f"Nobody talked with {one.target_agent_id} ({one.purpose}): {reason}."
    _tell(unit, one, "delegation_failed", words)


def all_pending(unit: Unit) -> list[Delegation]:
    """Those that wait for a session, of all agents."""
    query = select(delegation).where(delegation.c.state == DelegationState.PENDING, UNFINISHED)
    return [delegation_of(row) for row in unit.conn.execute(query).mappings().all()]


def withdrawn(unit: Unit) -> list[Delegation]:
    """Those that wait although their task was cancelled."""
    query = (
        select(delegation)
        .join(tables.task, tables.task.c.id == delegation.c.task_id)
        .where(
            delegation.c.state == DelegationState.PENDING,
            UNFINISHED,
            tables.task.c.status == TaskStatus.CANCELLED,
        )
    )
    return [delegation_of(row) for row in unit.conn.execute(query).mappings().all()]


def waiting(unit: Unit) -> dict[tuple[str, str], datetime]:
    """Agents and projects for whose chat something was delegated, and since when at the latest."""
    query = (
        select(delegation.c.agent_id, delegation.c.project_id, func.max(delegation.c.created_at))
        .where(delegation.c.state == DelegationState.PENDING, UNFINISHED)
        .group_by(delegation.c.agent_id, delegation.c.project_id)
    )
    return {(agent, project): since for agent, project, since in unit.conn.execute(query).all()}


def of_task(unit: Unit, task_id: str) -> list[Delegation]:
    """What was delegated for a task, oldest first."""
    query = (
        select(delegation)
        .where(delegation.c.task_id == task_id)
        .order_by(delegation.c.created_at, delegation.c.id)
    )
    return [delegation_of(row) for row in unit.conn.execute(query).mappings().all()]


def _tell(unit: Unit, one: Delegation, action: str, message: str) -> None:
    """Leave a notice: for the run that asked while it lives, else for the next at work on the task."""
    phase = unit.conn.scalar(select(tables.run.c.phase).where(tables.run.c.id == one.run_id))
    status = unit.conn.scalar(select(tables.task.c.status).where(tables.task.c.id == one.task_id))
    is_live = phase != RunPhase.ENDED
    if not is_live and TaskStatus(status) in TERMINAL:
        return
    notice = notifications.new(
        one.agent_id,
        one.project_id,
        NoticeKind.CHAT,
        action,
        (message, "get_task_conversations and get_conversation_messages have what was said."),
        run_id=one.run_id if is_live else None,
        purpose=Purpose.TASK,
        task_id=one.task_id,
    )
    notifications.send(unit, notice, actor=f"agent:{one.agent_id}")


def _lock(unit: Unit, delegation_id: str) -> Delegation:
    query = select(delegation).where(delegation.c.id == delegation_id).with_for_update()
    row = unit.conn.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(f"Delegation not found: {delegation_id[:100]}")
    return delegation_of(row)


def _change(unit: Unit, one: Delegation, facts: dict[str, Any]) -> Delegation:
    unit.conn.execute(update(delegation).where(delegation.c.id == one.id).values(facts))
    return _lock(unit, one.id)


def _emit(
    unit: Unit, one: Delegation, action: str, actor: str, run_id: str | None, **data: object
) -> None:
    unit.emit(
        action,
        actor=actor,
        project_id=one.project_id,
        task_id=one.task_id,
        run_id=run_id,
        agent_id=one.agent_id,
        refusal=False,
        delegation_id=one.id,
        **data,
    )
