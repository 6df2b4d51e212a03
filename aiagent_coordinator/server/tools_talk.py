"""What agents call to talk with each other, and what people call to see and end such conversations."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final

from pydantic import Field

from aiagent_coordinator.chats import Standing
from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import ForbiddenError, NotFoundError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server import rows, talk
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.talk import MAX_CONTENT_CHARS
from aiagent_coordinator.server.tools import (
    ANY_PURPOSE,
    CHAT,
    MAX_MESSAGE_CHARS,
    AgentArguments,
    Arguments,
    Context,
    table,
    tool,
)
from aiagent_coordinator.server.tools_person import Page, meant_agent, meant_project
from aiagent_coordinator.store import (
    conversation_reads,
    conversations,
    delegations,
)
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.questions import clean_text
from aiagent_coordinator.store.unit import Unit

_NEXT: Final = "Call get_next_action."
#: Of one reading.
MAX_LINES: Final = 100
_Text = Annotated[str, Field(min_length=1, max_length=MAX_CONTENT_CHARS)]


class StartConversation(AgentArguments):
    """Arguments of `start_conversation`."""

    participant_agent_id: str
    """The other agent; it works in your project."""
    initial_message: _Text
    max_turns: int
    """What both may say at most, 2 to 40; less or more is put between."""
    purpose: Annotated[str, Field(min_length=1, max_length=MAX_MESSAGE_CHARS)] | None = None


class EndConversation(AgentArguments):
    """Arguments of `end_conversation`."""

    conversation_id: str
    final_message: _Text | None = None
    """A last word; it needs no answer and is no turn."""


class ReadMessages(AgentArguments):
    """Arguments of `get_conversation_messages`."""

    conversation_id: str
    limit: int = Field(50, ge=1)
    """At most 100; the newest ones."""


class ListConversations(Page):
    """Arguments of `list_conversations`."""

    project_id: str | None = None
    agent_id: str | None = None
    """Either side."""
    is_open: bool | None = None
    """true: only those that go on; false: only those that are over."""


class OneConversation(Arguments):
    """A conversation, by its id or the beginning of it."""

    conversation_id: str


class ReadConversation(OneConversation):
    """Arguments of `read_conversation`."""

    limit: Annotated[int, Field(ge=1, le=1000)] = MAX_LINES


async def start_conversation(context: Context, arguments: StartConversation) -> Json:
    """Ask another agent for a conversation; a session of its chat takes it up."""

    def work(unit: Unit, run: Run) -> Json:
        partner = arguments.participant_agent_id
        held = delegations.held(unit, run)
        one, said = conversations.start(
            unit,
            run,
            conversations.Opening(
                partner,
                _clean(arguments.initial_message, "initial_message"),
                arguments.max_turns,
                arguments.purpose,
                next((each for each in held if each.target_agent_id == partner), None),
            ),
        )
        return {
            "success": True,
            "conversation_id": one.id,
            "state": one.state.value,
            "message_id": said.id,
            "max_turns": one.max_turns,
            "instruction": f"{partner} is asked. {_NEXT}",
        }

    return await context.board.as_agent(context, work)


async def end_conversation(context: Context, arguments: EndConversation) -> Json:
    """End a conversation; the other side hears it."""

    def work(unit: Unit, run: Run) -> Json:
        final = arguments.final_message
        said = None if final is None else _clean(final, "final_message")
        one = conversations.end(unit, run, arguments.conversation_id, said)
        text = _NEXT
        if one.delegation_id in {each.id for each in delegations.held(unit, run)}:
            text = f"Call report_delegation_completed for {one.delegation_id} with the result."
        told: Json = {"conversation_id": one.id, "state": one.state.value, "instruction": text}
        return {"success": True, **told}

    return await context.board.as_agent(context, work)


async def get_conversation_messages(context: Context, arguments: ReadMessages) -> Json:
    """Give what was said in a conversation of the caller's own agent."""

    def work(unit: Unit, run: Run) -> Json:
        which = arguments.conversation_id
        one = conversation_reads.get(unit, which)
        if one is None or one.project_id != run.project_id:
            raise NotFoundError(f"Conversation not found: {which[:100]}")
        if run.agent_id not in (one.initiator_agent_id, one.participant_agent_id):
            raise ForbiddenError("Access denied: you take no part in this conversation")
        found, total = conversation_reads.spoken(unit, one.id, min(arguments.limit, MAX_LINES))
        return {
            "success": True,
            "messages": [talk.shown(each) for each in found],
            "conversation_state": one.state.value,
            "total_count": total,
            "truncated": total > len(found),
            "instruction": "Go on.",
        }

    return await context.board.as_agent(context, work)


async def get_task_conversations(context: Context, arguments: AgentArguments) -> Json:
    """List what was talked about for the caller's task and the one above it."""
    del arguments

    def work(unit: Unit, run: Run) -> Json:
        own = [] if run.task_id is None else [task_store.get_task(unit, run.task_id)]
        ids = [ident for one in own for ident in (one.id, one.parent_id) if ident is not None]
        found = conversation_reads.of_tasks(unit, ids)
        counts = Counter(one.state for one in found)
        asked = [each for ident in ids[:1] for each in delegations.of_task(unit, ident)]
        return {
            "success": True,
            "conversations": [talk.line(one) for one in found],
            "summary": {
                "total": len(found),
                "active": counts[Standing.ACTIVE],
                "pending": counts[Standing.PENDING],
                "terminating": counts[Standing.TERMINATING],
                "ended": counts[Standing.ENDED] + counts[Standing.EXPIRED],
            },
            "delegations": [
                {
                    "delegation_id": each.id,
                    "status": each.state.value,
                    "target_agent_id": each.target_agent_id,
                    "purpose": each.purpose,
                    "result": each.result,
                }
                for each in asked
            ],
            "instruction": "get_conversation_messages has what was said in one. Go on.",
        }

    return await context.board.as_agent(context, work)


async def list_conversations(context: Context, arguments: ListConversations) -> Json:
    """List conversations of agents."""

    def work(unit: Unit) -> Json:
        given = arguments
        which = conversation_reads.Which(
            None if given.project_id is None else meant_project(unit, given.project_id),
            None if given.agent_id is None else meant_agent(unit, given.agent_id),
            given.is_open,
        )
        found = conversation_reads.listed(
            unit, which, limit=given.limit + 1, after=given.after, newest=given.newest
        )
        return rows.page("conversations", [rows.plain(one) for one in found], given.limit)

    return await context.board.store.read(work)


async def read_conversation(context: Context, arguments: ReadConversation) -> Json:
    """Show a conversation and the end of what was said there."""

    def work(unit: Unit) -> Json:
        one = conversation_reads.find(unit, arguments.conversation_id)
        found, total = conversation_reads.spoken(unit, one.id, arguments.limit)
        return {
            "conversation": rows.plain(one),
            "messages": [
                {**rows.plain(each), "created_at": iso(each.created_at)} for each in found
            ],
            "total_count": total,
        }

    return await context.board.store.read(work)


async def stop_conversation(context: Context, arguments: OneConversation) -> Json:
    """End a conversation of agents; both hear it."""

    def work(unit: Unit) -> Json:
        which = conversation_reads.find(unit, arguments.conversation_id)
        return {"conversation": rows.plain(conversations.end_by_person(unit, which.id))}

    return await context.board.store.write(work)


def _clean(text: str, key: str) -> str:
    return clean_text(text, key, 4 * MAX_CONTENT_CHARS)


TOOLS = table(
    (
        tool(
            StartConversation,
            start_conversation,
            "Ask another agent of your project for a conversation.",
            Role.AGENT,
            purposes=CHAT,
        ),
        tool(
            EndConversation,
            end_conversation,
            "End a conversation with another agent.",
            Role.AGENT,
            purposes=CHAT,
        ),
        tool(
            AgentArguments,
            get_task_conversations,
            "See what was talked about for your task.",
            Role.AGENT,
        ),
        tool(
            ReadMessages,
            get_conversation_messages,
            "Read a conversation of yours.",
            Role.AGENT,
            purposes=ANY_PURPOSE,
        ),
    )
)
#: Those of people.
PERSON_TOOLS = table(
    (
        tool(ListConversations, list_conversations, "List conversations of agents.", Role.PERSON),
        tool(ReadConversation, read_conversation, "Read one of them.", Role.PERSON),
        tool(OneConversation, stop_conversation, "End one of them.", Role.PERSON),
    )
)
