"""`project add|list|show|pause|resume|archive`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.messages import text


@click.group(help=text("help.project"))
@options.common
def project() -> None:
    """Projects: bodies of work, each on one repository or folder."""


@project.command(help=text("help.project.add"))
@click.argument("project_id", metavar="ID")
@click.option("--path", metavar="DIR", help=text("help.option.path"))
@click.option("--base-ref", metavar="REF", help=text("help.option.base_ref"))
@click.option(
    "--workspace",
    type=click.Choice(["worktree", "directory", "scratch"]),
    help=text("help.option.workspace"),
)
@click.option("--check", "checks", multiple=True, metavar="ARGV", help=text("help.option.check"))
@click.option("--agent", "agents", multiple=True, metavar="ID", help=text("help.option.works_here"))
@click.option("--max-concurrent", type=int, metavar="N", help=text("help.option.runs_at_a_time"))
@options.as_json
@options.common
def add(
    *,
    project_id: str,
    path: str | None,
    base_ref: str | None,
    workspace: str | None,
    checks: tuple[str, ...],
    agents: tuple[str, ...],
    max_concurrent: int | None,
    as_json: bool,
) -> None:
    """Make a project that no configuration declares."""
    from aiagent_coordinator.cli.task import argv_of

    if path is not None and not path.strip():
        raise ValidationError(text("project.path_empty"))
    made: dict[str, Any] = call(
        options.current(),
        "create_project",
        project_id=project_id,
        # typed in a shell: the server has another working directory
        path=None if path is None else str(Path(path).expanduser().absolute()),
        base_ref=base_ref,
        workspace=workspace,
        checks=[argv_of(check) for check in checks] or None,
        agents=list(agents) or None,
        max_concurrent=max_concurrent,
    )["project"]
    if as_json:
        output.json_result(made)
    else:
        output.result(text("project.added", id=made["id"]))


@project.command("list", help=text("help.project.list"))
@options.as_json
@options.common
def list_projects(as_json: bool) -> None:
    """List projects."""
    projects: list[dict[str, Any]] = call(options.current(), "list_projects")["projects"]
    if as_json:
        output.json_result({"projects": projects})
    elif not projects:
        output.talk(text("list.no_projects"))
    else:
        output.table(
            [text(f"table.{name}") for name in ("id", "status", "workspace", "path")],
            [(one["id"], one["status"], one["workspace"], one["path"]) for one in projects],
        )


@project.command(help=text("help.project.show"))
@click.argument("project_id", metavar="ID")
@options.as_json
@options.common
def show(project_id: str, as_json: bool) -> None:
    """Show one project."""
    found: dict[str, Any] = call(options.current(), "get_project", project_id=project_id)["project"]
    if as_json:
        output.json_result(found)
    else:
        output.facts(list(found.items()))


def _status_command(name: str) -> None:
    @project.command(name, help=text(f"help.project.{name}"))
    @click.argument("project_id", metavar="ID")
    @options.as_json
    @options.common
    def change(project_id: str, as_json: bool) -> None:
        changed: dict[str, Any] = call(options.current(), f"{name}_project", project_id=project_id)[
            "project"
        ]
        if as_json:
            output.json_result(changed)
        else:
            output.result(text("project.changed", id=changed["id"], status=changed["status"]))

    change.__doc__ = f"Answer `project {name}`."


for _name in ("pause", "resume", "archive"):
    _status_command(_name)
