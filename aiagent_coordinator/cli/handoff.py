"""`handoff list|show`: what agents left each other."""

from __future__ import annotations

from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call, call_pages, locate
from aiagent_coordinator.messages import text


@click.group(help=text("help.handoff"))
@options.common
def handoff() -> None:
    """Hand-offs: what agents left each other for a task."""


@handoff.command("list", help=text("help.handoff.list"))
@click.option("--project", metavar="ID", help=text("help.option.handoff_project"))
@click.option("--task", metavar="ID", help=text("help.option.handoff_task"))
@click.option("--agent", metavar="ID", help=text("help.option.handoff_agent"))
@click.option("--pending", is_flag=True, help=text("help.option.pending"))
@click.option("--limit", type=click.IntRange(1), metavar="N", help=text("help.option.limit"))
@options.as_json
@options.common
def list_handoffs(
    *,
    project: str | None,
    task: str | None,
    agent: str | None,
    pending: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """List hand-offs."""
    found = call_pages(
        options.current(),
        "list_handoffs",
        "handoffs",
        limit,
        project_id=project,
        task_id=task,
        agent_id=agent,
        pending=pending,
    )
    if as_json:
        output.json_result({"handoffs": found})
    elif not found:
        output.talk(text("list.no_handoffs"))
    else:
        output.table(
            [text(f"table.{name}") for name in ("id", "task", "from", "to", "taken_by", "summary")],
            [
                (
                    one["id"],
                    one["task_id"],
                    one["from_agent_id"],
                    one["to_agent_id"],
                    one["accepted_by"],
                    one["summary"].splitlines()[0],
                )
                for one in found
            ],
        )


@handoff.command(help=text("help.handoff.show"))
@click.argument("ident", metavar="ID")
@options.as_json
@options.common
def show(ident: str, as_json: bool) -> None:
    """Show one hand-off."""
    given = options.current()
    found: dict[str, Any] = call(given, "get_handoff", handoff_id=ident)["handoff"]
    if as_json:
        output.json_result(found)
    else:
        output.facts(output.localized(found, locate(given).zone))
