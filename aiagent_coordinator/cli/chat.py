"""`chat send|show`."""

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


def _waits(message: dict[str, Any]) -> bool:
    return message["author"] == "person" and message.get("answered_at") is None
