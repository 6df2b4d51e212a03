"""What is read of conversations: how they stand, what was said, and what waits to be read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update

from aiagent_coordinator.chats import OPEN_STANDINGS, Conversation, Spoken, Standing
from aiagent_coordinator.runs import Run
from aiagent_coordinator.store.conversation_ends import actor_of, of_run
from aiagent_coordinator.store.find import find_id
from aiagent_coordinator.store.pages import page_of
from aiagent_coordinator.store.talk_rows import conversation_of, spoken_of
from aiagent_coordinator.store.talk_tables import NOT_OVER, conversation, conversation_message
from aiagent_coordinator.store.unit import Unit

_said = conversation_message


@dataclass(frozen=True)
class Which:
    """Which conversations; all that is None does not matter."""

    project_id: str | None = None
    #: Either side.
    agent_id: str | None = None
    #: True: not over.
    is_open: bool | None = None


def open_of(unit: Unit, run: Run) -> list[Conversation]:
    """Those of a session that go on, oldest first."""
    query = select(conversation).where(of_run(run.id), conversation.c.state.in_(OPEN_STANDINGS))
    rows = unit.conn.execute(query.order_by(conversation.c.created_at, conversation.c.id))
    return [conversation_of(row) for row in rows.mappings().all()]


def waiting(unit: Unit) -> dict[tuple[str, str], datetime]:
    """Agents and projects that somebody wants to talk with, and since when at the latest."""
    query = (
        select(
            conversation.c.participant_agent_id,
            conversation.c.project_id,
            func.max(conversation.c.created_at),
        )
        .where(conversation.c.state == Standing.PENDING, NOT_OVER)
        .group_by(conversation.c.participant_agent_id, conversation.c.project_id)
    )
    return {(agent, project): since for agent, project, since in unit.conn.execute(query).all()}


def unread(unit: Unit, run: Run) -> int:
    """How much was said to a session that it has not read, also in conversations that are over."""
    query = select(func.count()).select_from(_said.join(conversation)).where(_to(run), _new())
    return unit.conn.scalar(query) or 0


def read(unit: Unit, run: Run, limit: int) -> list[Spoken]:
    """Give a session what was said to it, oldest first: what is new, and what it has not answered.

    Args:
        unit: The unit of work.
        run: The session.
        limit: How much at most; the rest comes with the next call.
    """
    if limit <= 0:
        return []
    other = _said.alias("other")
    answered = (
        select(func.coalesce(func.max(other.c.number), 0))
        .where(
            other.c.conversation_id == _said.c.conversation_id,
            other.c.sender_agent_id == run.agent_id,
        )
        .scalar_subquery()
    )
    open_question = and_(conversation.c.state.in_(OPEN_STANDINGS), _said.c.number > answered)
    query = (
        select(_said)
        .join(conversation)
        .where(_to(run), or_(_new(), open_question))
        .order_by(_said.c.created_at, _said.c.conversation_id, _said.c.number)
        .limit(limit)
    )
    found = [spoken_of(row) for row in unit.conn.execute(query).mappings()]
    fresh = [one.id for one in found if one.read_at is None]
    if fresh:
        unit.conn.execute(update(_said).where(_said.c.id.in_(fresh)).values(read_at=unit.now))
        unit.emit(
            "conversation.read",
            actor=actor_of(run),
            project_id=run.project_id,
            run_id=run.id,
            agent_id=run.agent_id,
            count=len(fresh),
        )
    return found


def unanswered(unit: Unit, run: Run) -> int:
    """In how many conversations that go on the last word is the other side's."""
    last = (
        select(_said.c.conversation_id, func.max(_said.c.number).label("number"))
        .group_by(_said.c.conversation_id)
        .subquery()
    )
    query = (
        select(func.count())
        .select_from(_said.join(conversation))
        .join(
            last,
            and_(
                last.c.conversation_id == _said.c.conversation_id,
                last.c.number == _said.c.number,
            ),
        )
        .where(_to(run), conversation.c.state.in_(OPEN_STANDINGS))
    )
    return unit.conn.scalar(query) or 0


def count_begun(unit: Unit, run: Run) -> int:
    """How many conversations a session has begun."""
    mine = conversation.c.initiator_run_id == run.id
    return unit.conn.scalar(select(func.count()).select_from(conversation).where(mine)) or 0


def last_said(unit: Unit, run: Run) -> datetime | None:
    """When anybody last said something, or took something up, in a conversation of a session."""
    return unit.conn.scalar(select(func.max(conversation.c.last_at)).where(of_run(run.id)))


def of_tasks(unit: Unit, task_ids: Collection[str]) -> list[Conversation]:
    """The conversations that were held for tasks, oldest first."""
    query = (
        select(conversation)
        .where(conversation.c.task_id.in_(task_ids))
        .order_by(conversation.c.created_at, conversation.c.id)
    )
    return [conversation_of(row) for row in unit.conn.execute(query).mappings()]


def get(unit: Unit, conversation_id: str) -> Conversation | None:
    """One conversation; None when there is none."""
    query = select(conversation).where(conversation.c.id == conversation_id)
    row = unit.conn.execute(query).mappings().first()
    return None if row is None else conversation_of(row)


def find(unit: Unit, text: str) -> Conversation:
    """The conversation a person means: its id, or the beginning of it.

    Raises:
        NotFoundError: none begins so.
        ConflictError: several do; they are listed.
    """
    which = find_id(unit, conversation, "cnv", text)
    row = unit.conn.execute(select(conversation).where(conversation.c.id == which))
    return conversation_of(row.mappings().one())


def listed(
    unit: Unit,
    which: Which | None = None,
    *,
    limit: int = 100,
    after: str | None = None,
    newest: bool = False,
) -> list[Conversation]:
    """Conversations: one page, see `pages`."""
    which = which or Which()
    query: Select[tuple[object, ...]] = select(conversation)
    if which.project_id is not None:
        query = query.where(conversation.c.project_id == which.project_id)
    if which.agent_id is not None:
        either = (conversation.c.initiator_agent_id, conversation.c.participant_agent_id)
        query = query.where(or_(*(side == which.agent_id for side in either)))
    if which.is_open is not None:
        on = conversation.c.state.in_((*OPEN_STANDINGS, Standing.TERMINATING))
        query = query.where(on if which.is_open else ~on)
    query = page_of(unit, query, conversation, limit=limit, after=after, newest=newest)
    return [conversation_of(row) for row in unit.conn.execute(query).mappings()]


def spoken(unit: Unit, conversation_id: str, limit: int) -> tuple[list[Spoken], int]:
    """The end of what was said in a conversation, oldest first, and how much there is in all."""
    mine = _said.c.conversation_id == conversation_id
    query = select(_said).where(mine).order_by(_said.c.number.desc()).limit(limit)
    found = [spoken_of(row) for row in unit.conn.execute(query).mappings()]
    total = unit.conn.scalar(select(func.count()).select_from(_said).where(mine)) or 0
    return found[::-1], total


def _to(run: Run) -> ColumnElement[bool]:
    """What others said in conversations of a session."""
    return of_run(run.id) & (_said.c.sender_agent_id != run.agent_id)


def _new() -> ColumnElement[bool]:
    return _said.c.read_at.is_(None)
