"""`explain`: why a task does not run, the first reason first."""

from __future__ import annotations

from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call
from aiagent_coordinator.cli.task import standing
from aiagent_coordinator.messages import text


@click.command(help=text("help.explain"))
@click.argument("task_id", metavar="TASK")
@options.as_json
@options.common
def explain(task_id: str, as_json: bool) -> None:
    """Ask the server why a task does not run."""
    answer = call(options.current(), "explain_task", task_id=task_id)
    if as_json:
        output.json_result(answer)
        return
    task: dict[str, Any] = answer["task"]
    reasons: list[dict[str, Any]] = answer["reasons"]
    output.result(text("explain.task", id=task["id"], status=standing(task), title=task["title"]))
    if not reasons:
        output.result(text("explain.nothing"))
    for number, reason in enumerate(reasons, 1):
        output.result(text("explain.reason", number=number, reason=reason["text"]))
        if reason.get("do"):
            output.result(text("explain.do", do=reason["do"]))
