"""`tell`: say something to the agent of a task while it works."""

from __future__ import annotations

from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call
from aiagent_coordinator.messages import text


@click.command(help=text("help.tell"))
@click.argument("ident", metavar="ID")
@click.argument("content", metavar="TEXT")
@click.option("--interrupt", is_flag=True, help=text("help.option.interrupt"))
@options.as_json
@options.common
def tell(*, ident: str, content: str, interrupt: bool, as_json: bool) -> None:
    """Tell the agent of a task something."""
    from aiagent_coordinator.cli.task import read_text

    arguments = {"task_id": ident, "text": read_text(content), "interrupt": interrupt}
    sent: dict[str, Any] = call(options.current(), "tell_agent", **arguments)["tell"]
    if as_json:
        output.json_result(sent)
    else:
        way = text(f"tell.way.{sent['way'] or 'next'}")
        output.result(text("tell.sent", id=sent["id"], task=sent["task_id"], way=way))
