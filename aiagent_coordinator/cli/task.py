"""`task add|list|show|cancel`."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call, call_pages
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.messages import text
from aiagent_coordinator.tasks import TaskStatus

#: What the board takes; more is refused here, before it is read to its end.
DESCRIPTION_BYTES = 256 * 1024


@click.group(help=text("help.task"))
@options.common
def task() -> None:
    """Put work on the board and look at it."""


@task.command(help=text("help.task.add"))
@click.option("--project", required=True, metavar="ID", help=text("help.option.project"))
@click.option("--agent", metavar="ID", help=text("help.option.agent"))
@click.option("--title", required=True, metavar="TEXT", help=text("help.option.title"))
@click.option("--description", metavar="TEXT", help=text("help.option.description"))
@click.option("--priority", type=int, metavar="N", help=text("help.option.priority"))
@click.option("--max-attempts", type=int, metavar="N", help=text("help.option.max_attempts"))
@click.option("--check", "checks", multiple=True, metavar="ARGV", help=text("help.option.check"))
@click.option("--branch", metavar="NAME", help=text("help.option.branch"))
@options.as_json
@options.common
def add(
    *,
    project: str,
    agent: str | None,
    title: str,
    description: str | None,
    priority: int | None,
    max_attempts: int | None,
    checks: tuple[str, ...],
    branch: str | None,
    as_json: bool,
) -> None:
    """Put a task on the board."""
    arguments = {
        "project_id": project,
        "agent_id": agent,
        "title": title,
        "description": _description(description),
        "priority": priority,
        "max_attempts": max_attempts,
        "checks": [{"argv": _argv(check)} for check in checks] or None,
        "branch": branch,
    }
    made = call(options.current(), "create_task", **arguments)["task"]
    if as_json:
        output.json_result(made)
    else:
        output.result(text("task.added", id=made["id"], status=made["status"]))


@task.command("list", help=text("help.task.list"))
@click.option("--project", metavar="ID", help=text("help.option.project"))
@click.option(
    "--status",
    type=click.Choice([status.value for status in TaskStatus]),
    help=text("help.option.status"),
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help=text("help.option.limit"))
@options.as_json
@options.common
def list_tasks(project: str | None, status: str | None, limit: int | None, as_json: bool) -> None:
    """List tasks."""
    tasks = call_pages(
        options.current(), "list_tasks", "tasks", limit, project_id=project, status=status
    )
    if as_json:
        output.json_result({"tasks": tasks})
        return
    if not tasks:
        output.talk(text("list.no_tasks"))
        return
    headings = [text(f"table.{name}") for name in ("id", "status", "project", "agent", "title")]
    output.table(
        headings,
        [
            (item["id"], standing(item), item["project_id"], item.get("agent_id"), item["title"])
            for item in tasks
        ],
    )


@task.command(help=text("help.task.show"))
@click.argument("task_id", metavar="ID")
@options.as_json
@options.common
def show(task_id: str, as_json: bool) -> None:
    """Show one task."""
    found: dict[str, Any] = call(options.current(), "get_task", task_id=task_id)["task"]
    if as_json:
        output.json_result(found)
    else:
        output.facts(list(found.items()))


@task.command(help=text("help.task.cancel"))
@click.argument("task_id", metavar="ID")
@options.as_json
@options.common
def cancel(task_id: str, as_json: bool) -> None:
    """Cancel a task."""
    changed: dict[str, Any] = call(options.current(), "cancel_task", task_id=task_id)["task"]
    if as_json:
        output.json_result(changed)
    else:
        output.result(text("task.cancelled", id=changed["id"]))


def standing(item: dict[str, Any]) -> str:
    """The status of a task for people: with what it waits for, or that it is tried again."""
    if item.get("wait_reason"):
        return f"{item['status']} ({item['wait_reason']})"
    if item["status"] == TaskStatus.QUEUED and (item.get("attempt") or 1) > 1:
        return "queued (retry)"
    return str(item["status"])


def _argv(line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ValidationError(text("input.check", value=line, reason=error)) from None
    if not words:
        raise ValidationError(text("input.check", value=line, reason="it is empty"))
    return words


def _description(given: str | None) -> str | None:
    if given != "-":
        return given
    raw = sys.stdin.buffer.read(DESCRIPTION_BYTES + 1)
    if len(raw) > DESCRIPTION_BYTES:
        raise ValidationError(text("input.too_long", limit=DESCRIPTION_BYTES // 1024))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValidationError(text("input.not_utf8")) from error
