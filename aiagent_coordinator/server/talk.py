"""How conversations between agents look in answers, and what is said about their turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.store import conversation_reads, conversations

if TYPE_CHECKING:
    from aiagent_coordinator.chats import Conversation, Spoken
    from aiagent_coordinator.runs import Run
    from aiagent_coordinator.server.calls import Json
    from aiagent_coordinator.store.unit import Unit

#: Longest message of an agent.
MAX_CONTENT_CHARS: Final = 4000
#: With so many turns left, who speaks is warned.
WARN_TURNS: Final = 3
#: Every so many turns, who speaks is reminded of the purpose.
REMIND_TURNS: Final = 5


def say(unit: Unit, run: Run, body: str, target: str | None, conversation_id: str | None) -> Json:
    """Say something to another agent.

    Args:
        unit: The unit of work.
        run: The session that speaks.
        body: What it says.
        target: The other agent; None: whoever takes part in the conversation.
        conversation_id: Where; None: in the one that goes on with that agent.

    Raises:
        ValidationError: there is no conversation with that agent, or it is another's.
        CoordinatorError: as of `conversations.say`.
    """
    one, said = conversations.say(unit, run, _where(unit, run, target, conversation_id), body)
    return {"message_id": said.id, **turns(one)}


def _where(unit: Unit, run: Run, target: str | None, conversation_id: str | None) -> str:
    known = conversation_reads.open_of(unit, run)
    if conversation_id is None:
        found = [one.id for one in known if one.partner_of(run.agent_id) == target]
        if not found:
            raise ValidationError(
                f"you have no conversation with {str(target)[:100]}",
                hint="begin one with start_conversation; people are called person",
                key="target_agent_id",
            )
        return found[0]
    if target is not None:
        partners = [one.partner_of(run.agent_id) for one in known if one.id == conversation_id]
        if partners and partners != [target]:
            raise ValidationError(
                f"this conversation is with {partners[0]}, not with {target[:100]}",
                key="target_agent_id",
            )
    return conversation_id


def turns(one: Conversation) -> Json:
    """How far a conversation is, for who just spoke there."""
    left = one.max_turns - one.turns
    told: Json = {
        "conversation_id": one.id,
        "current_turns": one.turns,
        "max_turns": one.max_turns,
    }
    if left <= 0:
        return told | {
            "conversation_ended": True,
            "warning": "All turns are used: the conversation is over.",
        }
    if left <= WARN_TURNS:
        told["warning"] = f"Turns left: {left}. Come to an end, and call end_conversation."
    if one.turns % REMIND_TURNS == 0:
        purpose = f" ({one.purpose})" if one.purpose else ""
        told["reminder"] = (
            f"{one.turns} of {one.max_turns} turns are used. When the purpose{purpose} is reached, "
            "call end_conversation."
        )
    return told


def shown(one: Spoken) -> Json:
    """Something that was said."""
    return {
        "id": one.id,
        "sender_id": one.sender_agent_id,
        "content": one.body,
        "created_at": iso(one.created_at),
        "conversation_id": one.conversation_id,
    }


def line(one: Conversation) -> Json:
    """A conversation in a list."""
    return {
        "conversation_id": one.id,
        "state": one.state.value,
        "initiator_agent_id": one.initiator_agent_id,
        "participant_agent_id": one.participant_agent_id,
        "purpose": one.purpose,
        "task_id": one.task_id,
        "current_turns": one.turns,
        "max_turns": one.max_turns,
        "created_at": iso(one.created_at),
        "ended_at": None if one.ended_at is None else iso(one.ended_at),
        "ended_by": one.ended_by,
        "end_reason": one.end_reason,
    }
