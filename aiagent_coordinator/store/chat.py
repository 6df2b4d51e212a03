"""Chats: what people and an agent of a project say to each other, one chat for each pair.

A person's message waits until a session of the agent has read and answered it. One that was read by
several sessions, none of which answered, wakes nobody any more.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, and_, func, insert, or_, select, update

from aiagent_coordinator import ids
from aiagent_coordinator.chats import Author, Message
from aiagent_coordinator.errors import NotFoundError, ValidationError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.store import projects, tables
from aiagent_coordinator.store.pages import page_of
from aiagent_coordinator.store.questions import clean_text
from aiagent_coordinator.store.unit import Unit

_message = tables.message

#: Of one message of a person; an agent's are shorter.
PERSON_BYTES: Final = 64 * 1024
#: Sessions that may read a message without answering it, before it wakes none any more.
MAX_DELIVERIES: Final = 3
#: What one reading gives.
MAX_PENDING: Final = 10
MAX_CONTEXT: Final = 20
#: Sessions of a chat that may end one after the other without an answer or a new message.
MAX_FAILURES: Final = 3
#: After such a session the next waits so long, times their number.
REST_SECONDS: Final = 60.0


def write(unit: Unit, agent_id: str, project_id: str, body: str, *, actor: str) -> Message:
    """Keep what a person says to an agent.

    Raises:
        ValidationError: it is empty or too long, or the agent does not work there.
    """
    if not projects.is_assigned(unit, agent_id, project_id):
        raise ValidationError(
            f"agent {agent_id} does not work in project {project_id}", key="agent_id"
        )
    said = clean_text(body, "content", PERSON_BYTES)
    return _keep(unit, _new(unit, agent_id, project_id, Author.PERSON, said), actor=actor)


def note(unit: Unit, agent_id: str, project_id: str, body: str, *, actor: str) -> Message:
    """Keep what the system says in a chat; nobody has to answer it."""
    return _keep(unit, _new(unit, agent_id, project_id, Author.SYSTEM, body), actor=actor)


def reply(unit: Unit, run: Run, body: str, task_id: str | None = None) -> Message:
    """Keep what an agent says; whatever its session has read is answered by that."""
    said = _new(
        unit, run.agent_id, run.project_id, Author.AGENT, body, task_id=task_id, run_id=run.id
    )
    unit.conn.execute(
        update(_message)
        .where(
            _of_pair(run.agent_id, run.project_id),
            _message.c.delivered_run_id == run.id,
            _message.c.answered_at.is_(None),
        )
        .values(answered_at=unit.now)
    )
    return _keep(unit, said, actor=f"agent:{run.agent_id}")


def unread(unit: Unit, run: Run) -> int:
    """How many messages of people a session has not read."""
    query = (
        select(func.count())
        .select_from(_message)
        .where(
            _of_pair(run.agent_id, run.project_id),
            _waits(),
            or_(_message.c.delivered_run_id.is_(None), _message.c.delivered_run_id != run.id),
            _message.c.deliveries < MAX_DELIVERIES,
        )
    )
    return unit.conn.scalar(query) or 0


def read(unit: Unit, run: Run) -> tuple[list[Message], list[Message], int]:
    """Give a session what waits for its answer, and what was said before.

    What this session read and has not answered is given again.

    Returns:
        What was said before, what waits (both oldest first), and how many messages there are in all.
    """
    mine = _of_pair(run.agent_id, run.project_id)
    is_pending = and_(
        _waits(),
        or_(_message.c.deliveries < MAX_DELIVERIES, _message.c.delivered_run_id == run.id),
    )
    oldest_first = (_message.c.created_at, _message.c.id)
    rows = unit.conn.execute(
        select(_message).where(mine, is_pending).order_by(*oldest_first).limit(MAX_PENDING)
    )
    pending = [_message_of(row) for row in rows.mappings().all()]
    new = [one.id for one in pending if one.delivered_run_id != run.id]
    if new:
        unit.conn.execute(
            update(_message)
            .where(_message.c.id.in_(new))
            .values(
                delivered_run_id=run.id,
                delivered_at=unit.now,
                deliveries=_message.c.deliveries + 1,
            )
        )
        _emit(unit, run, "message.read", f"agent:{run.agent_id}", count=len(new))
    before = select(_message).where(mine, _message.c.id.not_in([one.id for one in pending]))
    newest_first = (_message.c.created_at.desc(), _message.c.id.desc())
    found = unit.conn.execute(before.order_by(*newest_first).limit(MAX_CONTEXT)).mappings().all()
    total = unit.conn.scalar(select(func.count()).select_from(_message).where(mine)) or 0
    return [_message_of(row) for row in reversed(found)], pending, total


def has_read(unit: Unit, run: Run) -> bool:
    """Whether a session has read any message of a person."""
    mine = _of_pair(run.agent_id, run.project_id) & (_message.c.delivered_run_id == run.id)
    return unit.conn.scalar(select(_message.c.id).where(mine).limit(1)) is not None


def heard_by(unit: Unit, run: Run, message_id: str | None) -> Message:
    """A message of a person that this session has read: the named one, else the last.

    Raises:
        NotFoundError: it has read none, or not this one.
    """
    query = select(_message).where(
        _of_pair(run.agent_id, run.project_id),
        _message.c.author == Author.PERSON,
        _message.c.delivered_run_id == run.id,
    )
    if message_id is not None:
        query = query.where(_message.c.id == message_id)
    newest_first = (_message.c.created_at.desc(), _message.c.id.desc())
    row = unit.conn.execute(query.order_by(*newest_first).limit(1)).mappings().first()
    if row is None:
        raise NotFoundError("this session has read no such message of a person")
    return _message_of(row)


def history(
    unit: Unit,
    agent_id: str,
    project_id: str,
    *,
    limit: int = 100,
    after: str | None = None,
    newest: bool = False,
) -> list[Message]:
    """All that was said in a chat: one page, see `pages`."""
    query = select(_message).where(_of_pair(agent_id, project_id))
    query = page_of(unit, query, _message, limit=limit, after=after, newest=newest)
    return [_message_of(row) for row in unit.conn.execute(query).mappings()]


def last_said(unit: Unit, run: Run) -> datetime:
    """When anybody last said something in the chat of a session, or when it began."""
    query = select(func.max(_message.c.created_at)).where(_of_pair(run.agent_id, run.project_id))
    said: datetime | None = unit.conn.scalar(query)
    return run.created_at if said is None else max(said, run.created_at)


def waiting(unit: Unit) -> dict[tuple[str, str], datetime]:
    """Agents and projects for whose answer somebody waits, and since when at the latest."""
    query = (
        select(
            _message.c.agent_id,
            _message.c.project_id,
            func.max(_message.c.created_at),
        )
        .where(_waits(), _message.c.deliveries < MAX_DELIVERIES)
        .group_by(_message.c.agent_id, _message.c.project_id)
    )
    return {(agent, project): since for agent, project, since in unit.conn.execute(query).all()}


def unanswered(unit: Unit, run: Run) -> int:
    """How many messages of people nobody has answered, those that were given up left out."""
    is_owed = or_(_message.c.deliveries < MAX_DELIVERIES, _message.c.delivered_run_id == run.id)
    query = select(func.count()).select_from(_message)
    mine = query.where(_of_pair(run.agent_id, run.project_id), _waits(), is_owed)
    return unit.conn.scalar(mine) or 0


def _of_pair(agent_id: str, project_id: str) -> ColumnElement[bool]:
    return (_message.c.agent_id == agent_id) & (_message.c.project_id == project_id)


def _waits() -> ColumnElement[bool]:
    return (_message.c.author == Author.PERSON) & _message.c.answered_at.is_(None)


def _new(
    unit: Unit,
    agent_id: str,
    project_id: str,
    author: Author,
    body: str,
    **more: Any,  # noqa: ANN401 - fields of a message
) -> Message:
    return Message(ids.new_id("msg"), agent_id, project_id, author, body, unit.now, **more)


def _keep(unit: Unit, message: Message, *, actor: str) -> Message:
    unit.conn.execute(insert(_message).values(vars(message)))
    unit.emit(
        "message.sent",
        actor=actor,
        project_id=message.project_id,
        task_id=message.task_id,
        run_id=message.run_id,
        agent_id=message.agent_id,
        message_id=message.id,
        author=message.author.value,
    )
    return message


def _emit(unit: Unit, run: Run, action: str, actor: str, **data: object) -> None:
    unit.emit(
        action,
        actor=actor,
        project_id=run.project_id,
        task_id=run.task_id,
        run_id=run.id,
        agent_id=run.agent_id,
        refusal=False,
        **data,
    )


def _message_of(row: RowMapping) -> Message:
    columns: dict[str, Any] = {**row, "author": Author(row["author"])}
    return Message(**columns)
