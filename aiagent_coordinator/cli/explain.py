"""`explain`: why a task does not run, the first reason first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call, locate
from aiagent_coordinator.cli.task import standing
from aiagent_coordinator.errors import CoordinatorError
from aiagent_coordinator.messages import text

#: Reasons whose text holds an instant; the first of it is ours, what follows may be an agent's words.
_TIMED = frozenset({"not_before", "question"})
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


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
    zone = locate(options.current()).zone
    if not reasons:
        output.result(text("explain.nothing"))
    for number, reason in enumerate(reasons, 1):
        output.result(text("explain.reason", number=number, reason=_localized(reason, zone)))
        if reason.get("do"):
            output.result(text("explain.do", do=reason["do"]))
    for line in _versions({str(one) for one in (task.get("agent_id"),) if one}):
        output.result(line)


def _versions(agents: set[str]) -> Iterator[str]:
    """Programs of these agents that are in another version than what was looked at."""
    from aiagent_coordinator.cli.installed import standing_text
    from aiagent_coordinator.cli.provider import look

    try:
        known = look(asks_login=False, agents=agents)
    except CoordinatorError:
        return  # no configuration of ours, or one that is being edited: the reasons are told
    for probe in known.probes:
        said = standing_text(probe)
        if said:
            yield f"{probe.definition.title}: {said}"


def _localized(reason: dict[str, Any], zone: str) -> str:
    said = str(reason["text"])
    if reason.get("code") not in _TIMED:
        return said
    return _INSTANT.sub(lambda found: output.local(found[0], zone), said, count=1)
