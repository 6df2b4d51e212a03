"""What an agent calls in a session for its chat, and what people write and read there."""

from __future__ import annotations

from typing import Annotated, Final, cast

import anyio
from pydantic import Field

from aiagent_coordinator.chats import Author, Message
from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server import rows
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import CHAT, AgentArguments, Arguments, Context, table, tool
from aiagent_coordinator.server.tools_look import of_project
from aiagent_coordinator.server.tools_person import Page, meant_agent, meant_project
from aiagent_coordinator.store import chat, legacy
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.questions import clean_text
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.workflows.chat import ChatState, next_step

#: Longest message of an agent.
MAX_CONTENT_CHARS: Final = 4000
#: Who a person is in a chat; what other clients may say for it.
PERSON: Final = "person"
_PEOPLE: Final = frozenset({PERSON, "user", "human"})
#: How long a call waits for somebody to write, where its caller says nothing.
WAIT_SECONDS: Final = 45
#: A client that never shook hands asks again after this.
_ASK_AGAIN_SECONDS: Final = 2
_NEXT = "Call get_next_action."


class SendMessage(AgentArguments):
    """Arguments of `send_message`."""

    content: str = Field(min_length=1, max_length=MAX_CONTENT_CHARS)
    target_agent_id: str = PERSON
    """Who is meant: `person`."""
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


async def next_action(context: Context, timeout_seconds: int | None) -> Json:
    """Tell an agent what to do next in its chat; waits a while for somebody to write."""
    board, identity = context.board, context.identity
    is_bare = context.call.is_bare
    seconds = timeout_seconds if timeout_seconds is not None else (0 if is_bare else WAIT_SECONDS)
    keys = (chat_key(str(identity.agent_id), str(identity.project_id)), str(identity.run_id))
    in_the_way = await _is_in_the_way(context)

    def look(unit: Unit) -> ChatState:
        run = run_store.get_run(unit, cast("str", identity.run_id))
        idle = (unit.now - chat.last_said(unit, run)).total_seconds()
        return ChatState(chat.unread(unit, run), idle, run.stop_reason, in_the_way)

    bell = board.bells.bell(*keys)
    try:
        # after the bell hangs: what comes from now on rings it
        if next_step(await board.store.read(look)).action == "wait_for_messages" and seconds:
            with anyio.move_on_after(min(seconds, WAIT_SECONDS)):
                await bell.wait()
    finally:
        board.bells.mute(bell, *keys)
    request_id = context.call.request_id
    if board.bells.is_closing and request_id is not None:
        # without an answer the bridge sends this again to the next server
        context.call.session.channel.settle(request_id)
        await anyio.sleep_forever()

    def work(unit: Unit, run: Run) -> Json:
        step = next_step(look(unit))
        if step.action == "logout" and run.reported_at is None:
            # a chat that was told to end has ended well
            run_store.record_agent_report(unit, run, "success", None)
        told: Json = {"action": step.action, "state": step.state, "instruction": step.instruction}
        if step.action == "wait_for_messages":
            told["wait_seconds"] = 0 if seconds else _ASK_AGAIN_SECONDS
        return {"success": True, **told, **step.facts}

    return await board.as_agent(context, work)


async def _is_in_the_way(context: Context) -> bool:
    """Whether a task waits for this pair's only process."""
    board, identity = context.board, context.identity
    run = await board.auth.live.get(str(identity.run_id))
    if run is None or not legacy.is_legacy(run) or board.keeps_apart:
        return False
    line = await board.snapshot.of_pair(run.agent_id, run.project_id)
    return line is not None and line["action"] == "start"


def chat_key(agent_id: str, project_id: str) -> str:
    """What rings when somebody writes in a chat."""
    return f"chat:{agent_id}/{project_id}"


async def get_pending_messages(context: Context, arguments: AgentArguments) -> Json:
    """Give an agent what people wrote, and what was said before."""
    del arguments

    def work(unit: Unit, run: Run) -> Json:
        before, pending, total = chat.read(unit, run)
        return {
            "success": True,
            "context_messages": [_shown(one) for one in before],
            "pending_messages": [_shown(one) for one in pending],
            "total_history_count": total,
            "context_truncated": total > len(before) + len(pending),
            "instruction": (
                "Answer with send_message, once for all of them or one by one. " + _NEXT
                if pending
                else _NEXT
            ),
        }

    return await context.board.as_agent(context, work)


async def send_message(context: Context, arguments: SendMessage) -> Json:
    """Say something to the people of the project."""
    if arguments.target_agent_id not in _PEOPLE:
        raise ValidationError(
            "a message goes to a person: target_agent_id is `person`", key="target_agent_id"
        )

    def work(unit: Unit, run: Run) -> Json:
        said = clean_text(arguments.content, "content", 4 * MAX_CONTENT_CHARS)
        about = arguments.related_task_id
        if about is not None:
            of_project(unit, about, run)
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
            "Read what people wrote to you.",
            Role.AGENT,
            purposes=CHAT,
        ),
        tool(SendMessage, send_message, "Answer a person.", Role.AGENT, purposes=CHAT),
    )
)
#: Those of people.
PERSON_TOOLS = table(
    (
        tool(WriteChat, write_chat, "Write to an agent.", Role.PERSON),
        tool(ReadChat, read_chat, "Read a chat.", Role.PERSON),
    )
)
