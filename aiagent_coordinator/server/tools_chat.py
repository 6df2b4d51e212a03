"""What an agent calls in a session for its chat, and what people write and read there."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from aiagent_coordinator.chats import Author, Message
from aiagent_coordinator.clock import iso
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server import rows, talk
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.talk import MAX_CONTENT_CHARS
from aiagent_coordinator.server.tools import CHAT, AgentArguments, Arguments, Context, table, tool
from aiagent_coordinator.server.tools_look import of_project
from aiagent_coordinator.server.tools_person import Page, meant_agent, meant_project
from aiagent_coordinator.store import chat, conversation_reads
from aiagent_coordinator.store.questions import clean_text
from aiagent_coordinator.store.unit import Unit

#: Who a person is in a chat; what other clients may say for it.
PERSON: Final = "person"
_PEOPLE: Final = frozenset({PERSON, "user", "human", None})
_NEXT = "Call get_next_action."


class SendMessage(AgentArguments):
    """Arguments of `send_message`."""

    content: str = Field(min_length=1, max_length=MAX_CONTENT_CHARS)
    target_agent_id: str | None = None
    """Who is meant: `person`, which is the default, or the other agent of a conversation."""
    conversation_id: str | None = None
    """The conversation in which you say it."""
    related_task_id: str | None = None
    """A task of your project that it is about."""


class Pair(Arguments):
    """An agent in a project, each by its id or the beginning of it."""

    agent_id: str
    project_id: str


class WriteChat(Pair):
    """Arguments of `write_chat`."""

    content: Annotated[str, Field(min_length=1)]


class ReadChat(Page):
    """Arguments of `read_chat`."""

    agent_id: str
    project_id: str


async def get_pending_messages(context: Context, arguments: AgentArguments) -> Json:
    """Give an agent what people and other agents said to it, and what was said before."""
    del arguments

    def work(unit: Unit, run: Run) -> Json:
        before, pending, total = chat.read(unit, run)
        told = conversation_reads.read(unit, run, chat.MAX_PENDING - len(pending))
        return {
            "success": True,
            "context_messages": [_shown(one) for one in before],
            "pending_messages": [
                *(_shown(one) for one in pending),
                *({**talk.shown(one), "receiver_id": run.agent_id} for one in told),
            ],
            "total_history_count": total,
            "context_truncated": total > len(before) + len(pending),
            "instruction": (
                "Answer with send_message, once for all of people or one by one, and in each "
                "conversation with its conversation_id. " + _NEXT
                if pending or told
                else _NEXT
            ),
        }

    return await context.board.as_agent(context, work)


async def send_message(context: Context, arguments: SendMessage) -> Json:
    """Say something to the people of the project, or to the other agent of a conversation."""

    def work(unit: Unit, run: Run) -> Json:
        said = clean_text(arguments.content, "content", 4 * MAX_CONTENT_CHARS)
        about, target = arguments.related_task_id, arguments.target_agent_id
        if about is not None:
            of_project(unit, about, run)
        if arguments.conversation_id is not None or target not in _PEOPLE:
            told = talk.say(unit, run, said, target, arguments.conversation_id)
            return {"success": True, **told, "instruction": _NEXT}
        sent = chat.reply(unit, run, said, about)
        return {"success": True, "message_id": sent.id, "instruction": _NEXT}

    return await context.board.as_agent(context, work)


async def write_chat(context: Context, arguments: WriteChat) -> Json:
    """Write to an agent; a session of its chat reads it."""

    def work(unit: Unit) -> Json:
        pair = _meant(unit, arguments.agent_id, arguments.project_id)
        actor = context.identity.actor
        return {"message": rows.plain(chat.write(unit, *pair, arguments.content, actor=actor))}

    return await context.board.store.write(work)


async def read_chat(context: Context, arguments: ReadChat) -> Json:
    """Read a chat."""

    def work(unit: Unit) -> Json:
        pair = _meant(unit, arguments.agent_id, arguments.project_id)
        found = chat.history(
            unit,
            *pair,
            limit=arguments.limit + 1,
            after=arguments.after,
            newest=arguments.newest,
        )
        return rows.page("messages", [rows.plain(one) for one in found], arguments.limit)

    return await context.board.store.read(work)


def _meant(unit: Unit, agent: str, project: str) -> tuple[str, str]:
    return meant_agent(unit, agent), meant_project(unit, project)


def _shown(message: Message) -> Json:
    is_agents = message.author is Author.AGENT
    return {
        "id": message.id,
        "sender_id": message.agent_id if is_agents else message.author.value,
        "receiver_id": PERSON if is_agents else message.agent_id,
        "content": message.body,
        "created_at": iso(message.created_at),
    }


TOOLS = table(
    (
        tool(
            AgentArguments,
            get_pending_messages,
            "Read what people and other agents said to you.",
            Role.AGENT,
            purposes=CHAT,
        ),
        tool(
            SendMessage,
            send_message,
            "Answer a person, or the other agent of a conversation.",
            Role.AGENT,
            purposes=CHAT,
        ),
    )
)
#: Those of people.
PERSON_TOOLS = table(
    (
        tool(WriteChat, write_chat, "Write to an agent.", Role.PERSON),
        tool(ReadChat, read_chat, "Read a chat.", Role.PERSON),
    )
)
