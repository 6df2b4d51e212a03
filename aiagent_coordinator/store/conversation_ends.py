"""How conversations of agents end: by whom, who has to hear of it, and what ends with a session."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, and_, or_, select, update

from aiagent_coordinator.chats import IDLE_SECONDS, OPEN_STANDINGS, Conversation, Standing
from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.runs import Run, RunPhase
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.talk_rows import conversation_of
from aiagent_coordinator.store.talk_tables import NOT_OVER, conversation
from aiagent_coordinator.store.unit import Unit

Side = Literal["initiator", "participant"]
_SIDES: Final[tuple[Side, Side]] = ("initiator", "participant")
#: Who ends what idles.
SYSTEM: Final = "system"
#: Phases in which the agent of a run can still hear something.
_HEARING: Final = (RunPhase.STARTING, RunPhase.RUNNING, RunPhase.STOPPING)
_run = tables.run


def of_run(run_id: str) -> ColumnElement[bool]:
    """Conversations in which a session takes part."""
    return or_(
        conversation.c.initiator_run_id == run_id, conversation.c.participant_run_id == run_id
    )


def lock(unit: Unit, conversation_id: str) -> Conversation:
    """One conversation, locked.

    Raises:
        NotFoundError: there is none.
    """
    query = select(conversation).where(conversation.c.id == conversation_id).with_for_update()
    row = unit.conn.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(f"Conversation not found: {conversation_id[:100]}")
    return conversation_of(row)


def mine(unit: Unit, run: Run, conversation_id: str) -> tuple[Conversation, Side]:
    """A conversation of a session, locked, and which side of it that is.

    Raises:
        NotFoundError: the session takes no part in such a conversation.
    """
    one = lock(unit, conversation_id)
    side = side_of(one, run)
    # of an earlier session of the same agent nothing goes on; it is over, and may be looked at
    if side is None or one.project_id != run.project_id:
        raise NotFoundError(f"Conversation not found: {conversation_id[:100]}")
    return one, side


def side_of(one: Conversation, run: Run) -> Side | None:
    """Which side a session is; whom somebody wants to talk with may become the other one."""
    if one.initiator_run_id == run.id:
        return "initiator"
    is_asked = one.participant_run_id is None and one.participant_agent_id == run.agent_id
    return "participant" if is_asked or one.participant_run_id == run.id else None


def terminate(
    unit: Unit, one: Conversation, *, by: str, reason: str, heard: tuple[Side, ...] = ()
) -> Conversation:
    """End a conversation: whose session still lives is to hear of it."""
    runs = {"initiator": one.initiator_run_id, "participant": one.participant_run_id}
    bound = [run_id for run_id in runs.values() if run_id is not None]
    query = select(_run.c.id).where(_run.c.id.in_(bound), _run.c.phase.in_(_HEARING))
    alive = set(unit.conn.scalars(query))
    facts: dict[str, Any] = {
        f"{side}_heard_at": unit.now for side in _SIDES if side in heard or runs[side] not in alive
    }
    facts |= {"state": Standing.TERMINATING, "ended_by": by, "end_reason": reason}
    one = change(unit, one, {**facts, "ended_at": unit.now})
    emit(unit, one, "conversation.ending", actor=_who(by), by=by, reason=reason)
    return _settle(unit, one)


def _settle(unit: Unit, one: Conversation) -> Conversation:
    """Once both sides know, it is over for good."""
    if one.initiator_heard_at is None or one.participant_heard_at is None:
        return one
    state = Standing.EXPIRED if one.end_reason == "idle" else Standing.ENDED
    one = change(unit, one, {"state": state})
    by = one.ended_by or SYSTEM
    facts = {"state": state.value, "by": by, "reason": one.end_reason}
    emit(unit, one, "conversation.ended", actor=_who(by), run=None, **facts)
    return one


def over_for(unit: Unit, run: Run) -> Conversation | None:
    """The oldest conversation of a session that is over, and of which it does not know that."""
    unheard = or_(
        and_(
            conversation.c.initiator_run_id == run.id, conversation.c.initiator_heard_at.is_(None)
        ),
        and_(
            conversation.c.participant_run_id == run.id,
            conversation.c.participant_heard_at.is_(None),
        ),
    )
    query = (
        select(conversation)
        .where(conversation.c.state == Standing.TERMINATING, unheard)
        .order_by(conversation.c.created_at, conversation.c.id)
        .limit(1)
    )
    row = unit.conn.execute(query).mappings().first()
    return None if row is None else conversation_of(row)


def hear(unit: Unit, run: Run, conversation_id: str) -> Conversation:
    """The session knows that a conversation is over; once both do, it is ended."""
    one, side = mine(unit, run, conversation_id)
    if one.state is not Standing.TERMINATING:
        return one
    return _settle(unit, change(unit, one, {f"{side}_heard_at": unit.now}))


def session_over(unit: Unit, run: Run) -> int:
    """A session is over, and so is all that it talked about; the other sides are told. Again: nothing.

    Returns:
        How many conversations it ended.
    """
    query = (
        select(conversation)
        .where(of_run(run.id), conversation.c.state.in_((*OPEN_STANDINGS, Standing.TERMINATING)))
        .order_by(conversation.c.id)
        .with_for_update()
    )
    found = [conversation_of(row) for row in unit.conn.execute(query).mappings().all()]
    ended = 0
    for one in found:
        side: Side = "initiator" if one.initiator_run_id == run.id else "participant"
        if one.state is Standing.TERMINATING:
            heard = getattr(one, f"{side}_heard_at") or unit.now
            _settle(unit, change(unit, one, {f"{side}_heard_at": heard}))
        else:
            terminate(unit, one, by=run.agent_id, reason="session_over", heard=(side,))
            ended += 1
    return ended


def expired(unit: Unit, run: Run | None = None) -> list[str]:
    """Ids of the open conversations in which nobody said anything for too long; of one session, or of all."""
    query = select(conversation.c.id).where(
        conversation.c.state.in_(OPEN_STANDINGS),
        NOT_OVER,
        conversation.c.last_at <= unit.now - timedelta(seconds=IDLE_SECONDS),
    )
    if run is not None:
        query = query.where(of_run(run.id))
    # in one order, so that two servers that do the same never wait for each other
    return sorted(unit.conn.scalars(query))


def expire(unit: Unit, run: Run | None = None) -> None:
    """End them."""
    for conversation_id in expired(unit, run):
        one = lock(unit, conversation_id)
        if one.state in OPEN_STANDINGS:
            terminate(unit, one, by=SYSTEM, reason="idle")


def change(unit: Unit, one: Conversation, facts: dict[str, Any]) -> Conversation:
    """Set columns, and give it as it is then."""
    unit.conn.execute(update(conversation).where(conversation.c.id == one.id).values(facts))
    row = unit.conn.execute(select(conversation).where(conversation.c.id == one.id))
    return conversation_of(row.mappings().one())


def emit(
    unit: Unit,
    one: Conversation,
    action: str,
    *,
    actor: str,
    run: Run | None = None,
    **data: object,
) -> None:
    """Say that something happened to a conversation; both sides are named."""
    unit.emit(
        action,
        actor=actor,
        project_id=one.project_id,
        task_id=one.task_id,
        run_id=None if run is None else run.id,
        agent_id=one.initiator_agent_id if run is None else run.agent_id,
        refusal=False,
        conversation_id=one.id,
        initiator=one.initiator_agent_id,
        participant=one.participant_agent_id,
        **data,
    )


def actor_of(run: Run) -> str:
    """How events name the agent of a session."""
    return f"agent:{run.agent_id}"


def _who(by: str) -> str:
    """Who did it, as events name it."""
    return {"person": "person", SYSTEM: "server"}.get(by, f"agent:{by}")
