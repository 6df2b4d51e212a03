"""Conversations: two agents of a project talk to each other, each in a session for its chat.

One asks, the other takes it up, both say things in turns that are counted, and one of them, a person or a
limit ends it. It is over for good once every side whose session still lives knows. It belongs to these two
sessions: when one of them ends, so does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import insert, select

from aiagent_coordinator import ids
from aiagent_coordinator.chats import (
    OPEN_STANDINGS,
    Conversation,
    Delegation,
    Spoken,
    Standing,
)
from aiagent_coordinator.errors import ConflictError, LimitError, NotFoundError, ValidationError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.store import conversation_ends as ends
from aiagent_coordinator.store import conversation_reads as reads
from aiagent_coordinator.store import projects
from aiagent_coordinator.store.talk_rows import conversation_of
from aiagent_coordinator.store.talk_tables import NOT_OVER, conversation, conversation_message
from aiagent_coordinator.store.unit import Unit

#: What `max_turns` is put between.
MIN_TURNS: Final = 2
MAX_TURNS: Final = 40
#: Conversations that one session may have open at a time, and begin in all.
MAX_OPEN: Final = 5
MAX_BEGUN: Final = 20


@dataclass(frozen=True)
class Opening:
    """What an agent begins a conversation with."""

    participant_agent_id: str
    body: str
    #: Put between `MIN_TURNS` and `MAX_TURNS`.
    max_turns: int
    purpose: str | None = None
    #: What it is begun for.
    delegation: Delegation | None = None


def check_partner(unit: Unit, run: Run, agent_id: str, key: str) -> None:
    """See that the agent of a run may talk with another: of its project, and at work.

    Raises:
        ValidationError: that is itself.
        NotFoundError: no such agent works in the project.
        ConflictError: it is disabled.
    """
    if agent_id == run.agent_id:
        raise ValidationError("an agent does not talk with itself", key=key)
    if not projects.is_assigned(unit, agent_id, run.project_id):
        raise NotFoundError(f"Agent not found: {agent_id[:100]}")
    if not projects.get_agent(unit, agent_id).enabled:
        raise ConflictError(f"agent {agent_id} is disabled", agent_id=agent_id)


def start(unit: Unit, run: Run, opening: Opening) -> tuple[Conversation, Spoken]:
    """Ask another agent for a conversation, with the first thing that is said; that is its first turn.

    Raises:
        CoordinatorError: as of `check_partner`.
        ConflictError: the two talk already.
        LimitError: the session has too many open, or began too many.
    """
    partner = opening.participant_agent_id
    check_partner(unit, run, partner, "participant_agent_id")
    mine = reads.open_of(unit, run)
    for one in mine:
        if one.partner_of(run.agent_id) == partner:
            raise ConflictError(
                f"you talk with {partner} already: {one.id}",
                hint="go on there with send_message, or end it with end_conversation",
                conversation_id=one.id,
            )
    if requested(unit, run, by=partner) is not None:
        raise ConflictError(
            f"{partner} wants to talk with you already",
            hint="call get_next_action, and answer there",
        )
    if len(mine) >= MAX_OPEN:
        raise LimitError(
            f"a session has at most {MAX_OPEN} open conversations",
            hint="end one with end_conversation",
            limit="CONVERSATIONS",
        )
    if reads.count_begun(unit, run) >= MAX_BEGUN:
        raise LimitError(
            f"a session begins at most {MAX_BEGUN} conversations",
            hint="end what is open, and go on with what you know",
            limit="CONVERSATIONS",
        )
    about = opening.delegation
    new = Conversation(
        id=ids.new_id("cnv"),
        project_id=run.project_id,
        initiator_agent_id=run.agent_id,
        participant_agent_id=partner,
        state=Standing.PENDING,
        max_turns=min(max(opening.max_turns, MIN_TURNS), MAX_TURNS),
        turns=0,
        created_at=unit.now,
        last_at=unit.now,
        initiator_run_id=run.id,
        purpose=opening.purpose,
        task_id=None if about is None else about.task_id,
        delegation_id=None if about is None else about.id,
    )
    unit.conn.execute(insert(conversation).values(vars(new)))
    ends.emit(unit, new, "conversation.requested", actor=ends.actor_of(run), run=run)
    return say(unit, run, new.id, opening.body)


def requested(unit: Unit, run: Run, by: str | None = None) -> Conversation | None:
    """The oldest conversation that somebody, or a certain agent, wants with the agent of a session."""
    query = (
        select(conversation)
        .where(
            conversation.c.participant_agent_id == run.agent_id,
            conversation.c.project_id == run.project_id,
            conversation.c.state == Standing.PENDING,
            NOT_OVER,
        )
        .order_by(conversation.c.created_at, conversation.c.id)
        .limit(1)
    )
    if by is not None:
        query = query.where(conversation.c.initiator_agent_id == by)
    row = unit.conn.execute(query).mappings().first()
    return None if row is None else conversation_of(row)


def accept(unit: Unit, run: Run, conversation_id: str) -> Conversation:
    """The session takes a conversation up; taken up already, nothing changes."""
    one = ends.lock(unit, conversation_id)
    if one.state is not Standing.PENDING:
        return one
    facts = {"state": Standing.ACTIVE, "participant_run_id": run.id, "last_at": unit.now}
    one = ends.change(unit, one, facts)
    ends.emit(unit, one, "conversation.began", actor=ends.actor_of(run), run=run)
    return one


def say(unit: Unit, run: Run, conversation_id: str, body: str) -> tuple[Conversation, Spoken]:
    """Say something. The last turn ends the conversation, and its sender knows.

    Raises:
        NotFoundError: the session takes no part in such a conversation.
        ConflictError: it is over.
    """
    one, side = ends.mine(unit, run, conversation_id)
    if one.state not in OPEN_STANDINGS:
        raise ConflictError(
            f"conversation {one.id} is over ({one.end_reason})", hint="call get_next_action"
        )
    if side == "participant":
        one = accept(unit, run, one.id)
    said = _keep(unit, run, one, body)
    one = ends.change(unit, one, {"turns": one.turns + 1, "last_at": unit.now})
    if one.turns >= one.max_turns:
        one = ends.terminate(unit, one, by=run.agent_id, reason="turns_used", heard=(side,))
    return one, said


def end(unit: Unit, run: Run, conversation_id: str, final: str | None) -> Conversation:
    """End a conversation, with a last word that needs no answer. Again changes nothing.

    Raises:
        NotFoundError: the session takes no part in such a conversation.
    """
    one, side = ends.mine(unit, run, conversation_id)
    if one.state not in OPEN_STANDINGS:
        return one
    if final is not None:
        _keep(unit, run, one, final)
    return ends.terminate(unit, one, by=run.agent_id, reason="ended", heard=(side,))


def end_by_person(unit: Unit, conversation_id: str) -> Conversation:
    """End a conversation of agents; both hear it. One that is over stays as it is.

    Raises:
        NotFoundError: there is none.
    """
    one = ends.lock(unit, conversation_id)
    if one.state not in OPEN_STANDINGS:
        return one
    return ends.terminate(unit, one, by="person", reason="person")


def _keep(unit: Unit, run: Run, one: Conversation, body: str) -> Spoken:
    said = Spoken(ids.new_id("msg"), one.id, one.turns + 1, run.agent_id, body, unit.now)
    unit.conn.execute(insert(conversation_message).values(vars(said)))
    ends.emit(unit, one, "conversation.said", actor=ends.actor_of(run), run=run, number=said.number)
    return said
