"""`run list|show`."""

from __future__ import annotations

from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call, call_pages, locate
from aiagent_coordinator.messages import text

#: What `run list --json` prints of each run; scripts rely on the names.
FIELDS = (
    "id",
    "task_id",
    "agent_id",
    "project_id",
    "provider",
    "attempt",
    "phase",
    "outcome",
    "reason",
    "exit_code",
    "signal",
    "started_at",
    "ended_at",
    "log_path",
    "branch",
    "commit",
)


@click.group(help=text("help.run"))
@options.common
def run() -> None:
    """Look at runs."""


@run.command("list", help=text("help.run.list"))
@click.option("--task", "task_id", metavar="ID", help=text("help.option.task"))
@click.option("--limit", type=click.IntRange(1), metavar="N", help=text("help.option.limit"))
@options.as_json
@options.common
def list_runs(task_id: str | None, limit: int | None, as_json: bool) -> None:
    """List runs."""
    runs = call_pages(options.current(), "list_runs", "runs", limit, task_id=task_id)
    if as_json:
        output.json_result({"runs": [{name: item.get(name) for name in FIELDS} for item in runs]})
        return
    if not runs:
        output.talk(text("list.no_runs"))
        return
    zone = locate(options.current()).zone
    names = ("id", "phase", "outcome", "reason", "attempt", "agent", "started")
    output.table(
        [text(f"table.{name}") for name in names],
        [
            (
                item["id"],
                item["phase"],
                item.get("outcome"),
                item.get("reason"),
                item["attempt"],
                item["agent_id"],
                output.local(item.get("started_at") or "", zone),
            )
            for item in runs
        ],
    )


@run.command(help=text("help.run.show"))
@click.argument("run_id", metavar="ID")
@options.as_json
@options.common
def show(run_id: str, as_json: bool) -> None:
    """Show one run."""
    found: dict[str, Any] = call(options.current(), "get_run", run_id=run_id)["run"]
    if as_json:
        output.json_result(found)
    else:
        output.facts(output.localized(found, locate(options.current()).zone))
