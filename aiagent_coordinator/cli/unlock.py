"""`task unlock` and `agent unlock`: let go of what an audit holds."""

from __future__ import annotations

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call
from aiagent_coordinator.messages import text


@click.command("unlock", help=text("help.task.unlock"))
@click.argument("task_id", metavar="ID")
@options.as_json
@options.common
def unlock_task(task_id: str, as_json: bool) -> None:
    """Let go of a task."""
    from aiagent_coordinator.cli.task import standing

    done = call(options.current(), "unlock_task", task_id=task_id)
    if as_json:
        output.json_result(done)
    else:
        task = done["task"]
        output.result(text("task.unlocked", id=task["id"], status=standing(task)))


@click.command("unlock", help=text("help.agent.unlock"))
@click.argument("agent_id", metavar="ID")
@options.as_json
@options.common
def unlock_agent(agent_id: str, as_json: bool) -> None:
    """Let go of an agent."""
    done = call(options.current(), "unlock_agent", agent_id=agent_id)
    if as_json:
        output.json_result(done)
    else:
        output.result(text("agent.unlocked", id=done["agent_id"]))
