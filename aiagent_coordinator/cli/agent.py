"""`agent add|list|show|unlock`."""

from __future__ import annotations

from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call
from aiagent_coordinator.cli.later import Later
from aiagent_coordinator.messages import text


@click.group(help=text("help.agent"))
@options.common
def agent() -> None:
    """Agents: who does the work."""


agent.add_command(Later("unlock", "unlock", "unlock_agent", "agent."))


@agent.command(help=text("help.agent.add"))
@click.argument("agent_id", metavar="ID")
@click.option("--provider", required=True, metavar="NAME", help=text("help.option.provider"))
@click.option("--model", metavar="NAME", help=text("help.option.model"))
@click.option("--role", metavar="TEXT", help=text("help.option.role"))
@click.option(
    "--approval",
    type=click.Choice(["ask", "edits", "bypass"]),
    help=text("help.option.approval"),
)
@click.option("--max-concurrent", type=int, metavar="N", help=text("help.option.runs_at_a_time"))
@click.option(
    "--project", "projects", multiple=True, metavar="ID", help=text("help.option.works_in")
)
@click.option(
    "--hierarchy", type=click.Choice(["worker", "manager"]), help=text("help.option.hierarchy")
)
@click.option("--parent", metavar="ID", help=text("help.option.parent"))
@click.option("--workflow", metavar="NAME", help=text("help.option.workflow"))
@options.as_json
@options.common
def add(
    *,
    agent_id: str,
    provider: str,
    model: str | None,
    role: str | None,
    approval: str | None,
    max_concurrent: int | None,
    projects: tuple[str, ...],
    hierarchy: str | None,
    parent: str | None,
    workflow: str | None,
    as_json: bool,
) -> None:
    """Make an agent that no configuration declares."""
    made: dict[str, Any] = call(
        options.current(),
        "create_agent",
        agent_id=agent_id,
        provider=provider,
        model=model,
        role=role,
        approval=approval,
        max_concurrent=max_concurrent,
        projects=list(projects) or None,
        hierarchy=hierarchy,
        parent=parent,
        workflow=workflow,
    )["agent"]
    if as_json:
        output.json_result(made)
    else:
        output.result(text("agent.added", id=made["id"]))


@agent.command("list", help=text("help.agent.list"))
@options.as_json
@options.common
def list_agents(as_json: bool) -> None:
    """List agents."""
    agents: list[dict[str, Any]] = call(options.current(), "list_agents")["agents"]
    if as_json:
        output.json_result({"agents": agents})
    elif not agents:
        output.talk(text("list.no_agents"))
    else:
        output.table(
            [text(f"table.{name}") for name in ("id", "provider", "model", "approval", "runs")],
            [
                (one["id"], one["provider"], one["model"], one["approval"], one["max_concurrent"])
                for one in agents
            ],
        )


@agent.command(help=text("help.agent.show"))
@click.argument("agent_id", metavar="ID")
@options.as_json
@options.common
def show(agent_id: str, as_json: bool) -> None:
    """Show one agent."""
    found: dict[str, Any] = call(options.current(), "get_agent", agent_id=agent_id)["agent"]
    if as_json:
        output.json_result(found)
    else:
        output.facts(list(found.items()))
