"""`task add|list|show|cancel|retry|answer|approve|reject|depend|unlock`."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from aiagent_coordinator.cli import equipment, options, output
from aiagent_coordinator.cli.connect import call, call_pages, locate
from aiagent_coordinator.cli.later import Later
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.messages import text
from aiagent_coordinator.tasks import TERMINAL, TaskStatus

#: What the board takes; more is refused here, before it is read to its end.
DESCRIPTION_BYTES = 256 * 1024


@click.group(help=text("help.task"))
@options.common
def task() -> None:
    """Put work on the board and look at it."""


task.add_command(Later("unlock", "unlock", "unlock_task", "task."))


@task.command(help=text("help.task.add"))
@click.option("--project", required=True, metavar="ID", help=text("help.option.project"))
@click.option("--agent", metavar="ID", help=text("help.option.agent"))
@click.option("--title", required=True, metavar="TEXT", help=text("help.option.title"))
@click.option("--description", metavar="TEXT", help=text("help.option.description"))
@click.option("--priority", type=int, metavar="N", help=text("help.option.priority"))
@click.option("--depends-on", multiple=True, metavar="ID", help=text("help.option.depends_on"))
@click.option("--max-attempts", type=int, metavar="N", help=text("help.option.max_attempts"))
@click.option("--check", "checks", multiple=True, metavar="ARGV", help=text("help.option.check"))
@click.option("--branch", metavar="NAME", help=text("help.option.branch"))
@click.option("--needs-approval", is_flag=True, help=text("help.option.needs_approval"))
@click.option("--review-by", metavar="WHO", help=text("help.option.review_by"))
@click.option("--workflow", metavar="NAME", help=text("help.option.workflow"))
@click.option(
    "--budget", "budgets", multiple=True, metavar="AMOUNT", help=text("help.option.budget")
)
@equipment.options
@options.as_json
@options.common
def add(
    *,
    project: str,
    agent: str | None,
    title: str,
    description: str | None,
    priority: int | None,
    depends_on: tuple[str, ...],
    max_attempts: int | None,
    checks: tuple[str, ...],
    branch: str | None,
    needs_approval: bool,
    review_by: str | None,
    workflow: str | None,
    budgets: tuple[str, ...],
    as_json: bool,
    **given: str | bool | None,
) -> None:
    """Put a task on the board."""
    arguments = {
        "project_id": project,
        "agent_id": agent,
        "title": title,
        "description": None if description is None else read_text(description),
        "priority": priority,
        "depends_on": list(depends_on) or None,
        "max_attempts": max_attempts,
        "checks": [{"argv": argv_of(check)} for check in checks] or None,
        "branch": branch,
        "workflow": workflow,
        "budget": list(budgets) or None,
        "needs_approval": needs_approval or None,
        "review_by": review_by,
        **equipment.given(given),
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
    answer: dict[str, Any] = call(options.current(), "get_task", task_id=task_id, details=True)
    found: dict[str, Any] = answer["task"]
    if as_json:
        around = {name: value for name, value in answer.items() if name != "task"}
        output.json_result({**around, **found})
        return
    known = {name: value for name, value in found.items() if name != "question"}
    output.facts(output.localized(equipment.shown(known), locate(options.current()).zone))
    if answer.get("parked"):
        output.result(answer["parked"])
    questions: list[dict[str, Any]] = answer.get("questions") or []
    for asked in questions:
        state = asked.get("answer") or text("task.unanswered", id=asked["id"])
        output.result(text("task.question", question=asked["text"]))
        output.result(text("task.answer", state=state))
    left: list[dict[str, Any]] = answer.get("handoffs") or []
    for one in left:
        output.result(text("task.handoff", **one))
    zone = locate(options.current()).zone
    told: list[dict[str, Any]] = answer.get("tells") or []
    for one in told:
        output.result(text("task.tell", **one, state=heard(one, found["status"], zone)))
    runs: list[dict[str, Any]] = answer.get("runs") or []
    for run in runs:
        ended = run.get("outcome") or f"{run['phase']}  {output.doing(run)}".strip()
        output.result(text("task.run", id=run["id"], attempt=run["attempt"], state=ended))


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


@task.command(help=text("help.task.retry"))
@click.argument("task_id", metavar="ID")
@click.option("--attempts", type=click.IntRange(1), metavar="N", help=text("help.option.attempts"))
@options.as_json
@options.common
def retry(task_id: str, attempts: int | None, as_json: bool) -> None:
    """Put a failed or cancelled task back."""
    changed: dict[str, Any] = call(
        options.current(), "retry_task", task_id=task_id, attempts=attempts
    )["task"]
    if as_json:
        output.json_result(changed)
    else:
        output.result(text("task.retried", id=changed["id"], status=changed["status"]))


@task.command(help=text("help.task.answer"))
@click.argument("ident", metavar="ID")
@click.argument("answer", metavar="TEXT")
@options.as_json
@options.common
def answer(ident: str, answer: str, as_json: bool) -> None:
    """Answer a question of a task."""
    which = "question_id" if ident.startswith("qst_") else "task_id"
    given = {which: ident, "answer": read_text(answer)}
    done = call(options.current(), "answer_question", **given)
    if as_json:
        output.json_result(done)
    else:
        now: dict[str, Any] = done["task"]
        output.result(text("task.answered", id=now["id"], status=standing(now)))


@task.command(help=text("help.task.approve"))
@click.argument("task_id", metavar="ID")
@click.option("--reason", metavar="TEXT", help=text("help.option.why"))
@options.as_json
@options.common
def approve(task_id: str, reason: str | None, as_json: bool) -> None:
    """Let a task begin, or its result count."""
    changed = call(options.current(), "approve_task", task_id=task_id, reason=reason)["task"]
    if as_json:
        output.json_result(changed)
    else:
        output.result(text("task.approved", id=changed["id"], status=standing(changed)))


@task.command(help=text("help.task.reject"))
@click.argument("task_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help=text("help.option.why"))
@options.as_json
@options.common
def reject(task_id: str, reason: str, as_json: bool) -> None:
    """Refuse a task, or send its result back."""
    changed = call(options.current(), "reject_task", task_id=task_id, reason=reason)["task"]
    if as_json:
        output.json_result(changed)
    else:
        output.result(text("task.rejected", id=changed["id"], status=standing(changed)))


@task.command(help=text("help.task.depend"))
@click.argument("task_id", metavar="ID")
@click.option("--on", multiple=True, metavar="ID", help=text("help.option.depends_on"))
@click.option("--not-on", metavar="ID", help=text("help.option.not_on"))
@options.as_json
@options.common
def depend(task_id: str, on: tuple[str, ...], not_on: str | None, as_json: bool) -> None:
    """Change what a task waits for."""
    if not on and not_on is None:
        raise ValidationError(text("task.depend_nothing"))
    given = options.current()
    changed: dict[str, Any] = {}
    if on:
        changed = call(given, "add_dependencies", task_id=task_id, depends_on=list(on))["task"]
    if not_on is not None:
        changed = call(given, "remove_dependency", task_id=task_id, depends_on=not_on)["task"]
    if as_json:
        output.json_result(changed)
    else:
        output.result(text("task.depends", id=changed["id"], status=standing(changed)))


def heard(one: dict[str, Any], status: str, zone: str) -> str:
    """Whether the agent of a task has heard a message, for people."""
    if one["delivered_at"] is None:
        return text("task.tell.missed" if TaskStatus(status) in TERMINAL else "task.tell.waits")
    return text(f"task.tell.{one['way']}", at=output.local(one["delivered_at"], zone))


def standing(item: dict[str, Any]) -> str:
    """The status of a task for people: with what it waits for, that an audit holds it, or that it is tried again."""
    if item.get("is_locked"):
        return f"{item['status']} (locked)"
    if item.get("wait_reason"):
        return f"{item['status']} ({item['wait_reason']})"
    if item["status"] == TaskStatus.QUEUED and (item.get("attempt") or 1) > 1:
        return "queued (retry)"
    return str(item["status"])


def argv_of(line: str) -> list[str]:
    """Split a command of the command line into its words.

    Raises:
        ValidationError: it has none, or a quote is open.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ValidationError(text("input.check", value=line, reason=error)) from None
    if not words:
        raise ValidationError(text("input.check", value=line, reason="it is empty"))
    return words


def read_text(given: str) -> str:
    """A text of the command line; `-` reads it from standard input.

    Raises:
        ValidationError: it is too long, or no UTF-8.
    """
    if given != "-":
        return given
    raw = sys.stdin.buffer.read(DESCRIPTION_BYTES + 1)
    if len(raw) > DESCRIPTION_BYTES:
        raise ValidationError(text("input.too_long", limit=DESCRIPTION_BYTES // 1024))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValidationError(text("input.not_utf8")) from error
