"""`chat send|show|conversations|read|end`."""

from __future__ import annotations

from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call, call_pages, locate
from aiagent_coordinator.messages import text

#: What is shown of a chat without --limit.
SHOWN_MESSAGES = 20


@click.group(help=text("help.chat"))
@options.common
def chat() -> None:
    """Write with an agent."""


@chat.command(help=text("help.chat.send"))
@click.option("--project", required=True, metavar="ID", help=text("help.option.chat_project"))
@click.option("--agent", required=True, metavar="ID", help=text("help.option.chat_agent"))
@click.argument("content", metavar="TEXT")
@options.as_json
@options.common
def send(*, project: str, agent: str, content: str, as_json: bool) -> None:
    """Write to an agent."""
    from aiagent_coordinator.cli.task import read_text

    said = {"project_id": project, "agent_id": agent, "content": read_text(content)}
    sent: dict[str, Any] = call(options.current(), "write_chat", **said)["message"]
    if as_json:
        output.json_result(sent)
    else:
        output.result(text("chat.sent", id=sent["id"], agent=sent["agent_id"]))


@chat.command(help=text("help.chat.show"))
@click.option("--project", required=True, metavar="ID", help=text("help.option.chat_project"))
@click.option("--agent", required=True, metavar="ID", help=text("help.option.chat_agent"))
@click.option("--limit", type=click.IntRange(1), metavar="N", help=text("help.option.limit"))
@options.as_json
@options.common
def show(*, project: str, agent: str, limit: int | None, as_json: bool) -> None:
    """Show what was written, oldest first."""
    given = options.current()
    messages = call_pages(
        given,
        "read_chat",
        "messages",
        limit or SHOWN_MESSAGES,
        project_id=project,
        agent_id=agent,
    )
    if as_json:
        output.json_result({"messages": messages})
        return
    if not messages:
        output.talk(text("list.no_messages"))
    zone = locate(given).zone
    for one in messages:
        who = one["agent_id"] if one["author"] == "agent" else one["author"]
        state = text("chat.waits") if _waits(one) else ""
        output.facts([(f"{output.local(one['created_at'], zone)}  {who}{state}", one["body"])])


@chat.command(help=text("help.chat.conversations"))
@click.option("--project", metavar="ID", help=text("help.option.project"))
@click.option("--agent", metavar="ID", help=text("help.option.side"))
@click.option("--open", "is_open", is_flag=True, help=text("help.option.open"))
@click.option("--limit", type=click.IntRange(1), metavar="N", help=text("help.option.limit"))
@options.as_json
@options.common
def conversations(
    *, project: str | None, agent: str | None, is_open: bool, limit: int | None, as_json: bool
) -> None:
    """List what agents talk about among themselves, oldest first."""
    found = call_pages(
        options.current(),
        "list_conversations",
        "conversations",
        limit or SHOWN_MESSAGES,
        project_id=project,
        agent_id=agent,
        is_open=True if is_open else None,
    )
    if as_json:
        output.json_result({"conversations": found})
        return
    if not found:
        output.talk(text("list.no_conversations"))
        return
    names = ("id", "project", "between", "status", "turns", "reason", "purpose")
    output.table(
        [text(f"table.{name}") for name in names],
        [
            (
                one["id"],
                one["project_id"],
                f"{one['initiator_agent_id']}, {one['participant_agent_id']}",
                one["state"],
                f"{one['turns']}/{one['max_turns']}",
                one["end_reason"],
                one["purpose"],
            )
            for one in found
        ],
    )


@chat.command(help=text("help.chat.read"))
@click.argument("conversation", metavar="ID")
@options.as_json
@options.common
def read(*, conversation: str, as_json: bool) -> None:
    """Show a conversation of two agents and what was said there."""
    given = options.current()
    answer = call(given, "read_conversation", conversation_id=conversation)
    if as_json:
        output.json_result(answer)
        return
    one: dict[str, Any] = answer["conversation"]
    facts = {
        "initiator": one["initiator_agent_id"],
        "participant": one["participant_agent_id"],
        "project": one["project_id"],
    }
    why = ""
    if one["end_reason"] is not None:
        why = text("chat.conversation.why", reason=one["end_reason"], by=one["ended_by"])
    output.result(text("chat.conversation", **{**one, **facts}) + why)
    zone = locate(given).zone
    for said in answer["messages"]:
        when = output.local(said["created_at"], zone)
        output.facts([(f"{when}  {said['sender_agent_id']}", said["body"])])


@chat.command(help=text("help.chat.end"))
@click.argument("conversation", metavar="ID")
@options.as_json
@options.common
def end(*, conversation: str, as_json: bool) -> None:
    """End a conversation of two agents."""
    answer = call(options.current(), "stop_conversation", conversation_id=conversation)
    one: dict[str, Any] = answer["conversation"]
    if as_json:
        output.json_result(one)
    else:
        output.result(text("chat.ended", id=one["id"], state=one["state"]))


def _waits(message: dict[str, Any]) -> bool:
    return message["author"] == "person" and message.get("answered_at") is None
