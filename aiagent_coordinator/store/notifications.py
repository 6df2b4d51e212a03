"""Notices: what an agent is told without having asked, kept until one of its sessions read it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, insert, or_, select, update

from aiagent_coordinator import ids
from aiagent_coordinator.chats import Notice, NoticeKind
from aiagent_coordinator.runs import Purpose, Run, RunPhase
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.unit import Unit

_notification = tables.notification
#: Of one read; what is older comes with the next.
MAX_READ = 100
#: Actions that a project's pause stands for.
PAUSED, RESUMED, EXIT = "project_paused", "project_resumed", "exit"


def new(
    agent_id: str,
    project_id: str,
    kind: NoticeKind,
    action: str,
    words: tuple[str, str],
    **of: Any,  # noqa: ANN401 - fields of a notice
) -> Notice:
    """A notice that is about to be sent.

    Args:
        agent_id: Who is told.
        project_id: Where it works.
        kind: What sort of notice.
        action: What happened, or what is wanted, in one word.
        words: What happened, and what to do, as sentences.
        **of: `run_id`, `purpose`, `task_id`.
    """
    message, instruction = words
    return Notice(
        ids.new_id("ntf"),
        agent_id,
        project_id,
        kind,
        action,
        message,
        instruction,
        datetime.min.replace(tzinfo=UTC),
        **of,
    )


def interrupt(run: Run, action: str, words: tuple[str, str]) -> Notice:
    """A notice that one run is to read at once."""
    return new(
        run.agent_id,
        run.project_id,
        NoticeKind.INTERRUPT,
        action,
        words,
        run_id=run.id,
        task_id=run.task_id,
    )


def send(unit: Unit, notice: Notice, *, actor: str) -> Notice:
    """Keep a notice until it is read."""
    sent = replace(notice, created_at=unit.now)
    unit.conn.execute(insert(_notification).values(vars(sent)))
    unit.emit(
        "notification.sent",
        actor=actor,
        project_id=sent.project_id,
        task_id=sent.task_id,
        run_id=sent.run_id,
        agent_id=sent.agent_id,
        notification_id=sent.id,
        kind=sent.kind.value,
        about=sent.action,
    )
    return sent


def unread(unit: Unit, run: Run) -> list[Notice]:
    """What a session has not read yet, oldest first."""
    query = (
        select(_notification)
        .where(_for_run(run.id, run.purpose, run.agent_id, run.project_id))
        .order_by(_notification.c.created_at, _notification.c.id)
        .limit(MAX_READ)
    )
    return [_notice_of(row) for row in unit.conn.execute(query).mappings()]


def mark_read(unit: Unit, run: Run, notices: list[Notice]) -> None:
    """Note that a session read these; again changes nothing."""
    if not notices:
        return
    read = [one.id for one in notices]
    changed = unit.conn.execute(
        update(_notification)
        .where(_notification.c.id.in_(read), _notification.c.read_at.is_(None))
        .values(read_at=unit.now)
    )
    unit.emit(
        "notification.read",
        actor=f"agent:{run.agent_id}",
        project_id=run.project_id,
        run_id=run.id,
        agent_id=run.agent_id,
        count=changed.rowcount,
    )


def withdraw(unit: Unit, project_id: str, action: str) -> None:
    """Nobody needs to hear any more what was said with this action."""
    unit.conn.execute(
        update(_notification)
        .where(
            _notification.c.project_id == project_id,
            _notification.c.action == action,
            _notification.c.read_at.is_(None),
        )
        .values(read_at=unit.now)
    )


def pairs_with_unread(unit: Unit) -> set[tuple[str, str]]:
    """Agents and projects for which something waits to be read."""
    query = (
        select(_notification.c.agent_id, _notification.c.project_id)
        .outerjoin(tables.run, tables.run.c.id == _notification.c.run_id)
        .where(
            _notification.c.read_at.is_(None),
            or_(_notification.c.run_id.is_(None), tables.run.c.phase != RunPhase.ENDED),
        )
        .distinct()
    )
    return {(agent_id, project_id) for agent_id, project_id in unit.conn.execute(query).all()}


def _for_run(run_id: str, purpose: Purpose, agent_id: str, project_id: str) -> ColumnElement[bool]:
    return (
        (_notification.c.agent_id == agent_id)
        & (_notification.c.project_id == project_id)
        & _notification.c.read_at.is_(None)
        & or_(_notification.c.run_id.is_(None), _notification.c.run_id == run_id)
        & or_(_notification.c.purpose.is_(None), _notification.c.purpose == purpose)
    )


def _notice_of(row: RowMapping) -> Notice:
    purpose = row["purpose"]
    columns: dict[str, Any] = {
        **row,
        "kind": NoticeKind(row["kind"]),
        "purpose": Purpose(purpose) if purpose else None,
    }
    return Notice(**columns)
