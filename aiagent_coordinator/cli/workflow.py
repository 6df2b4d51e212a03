"""`workflow list|show|validate`: what agents are told step by step, and whether a file of it can be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiagent_coordinator.cli import options, output, yaml_files
from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from aiagent_coordinator.workflows.definition import Workflow
    from aiagent_coordinator.workflows.finding import Found


@click.group(help=text("help.workflow"))
@options.common
def workflow() -> None:
    """Look at workflows and check them."""


@workflow.command("list", help=text("help.workflow.list"))
@click.option("--project", metavar="ID", help=text("help.option.workflow_project"))
@options.as_json
@options.common
def list_workflows(project: str | None, as_json: bool) -> None:
    """List every workflow, with what is wrong with it."""
    from aiagent_coordinator.workflows.library import WORKFLOWS

    found = yaml_files.found(WORKFLOWS, project)
    if as_json:
        listed = [yaml_files.with_problems(one, _line(one)) for one in found]
        output.json_result({"workflows": listed})
        return
    output.table(
        [text(f"table.{name}") for name in ("name", "hierarchy", "origin", "title")],
        [
            (
                one.name,
                one.value.role.value if one.value else "",
                one.origin,
                one.value.title if one.value else one.problem,
            )
            for one in found
        ],
    )


@workflow.command(help=text("help.workflow.show"))
@click.argument("name")
@click.option("--project", metavar="ID", help=text("help.option.workflow_project"))
@options.common
def show(name: str, project: str | None) -> None:
    """Print the file of a workflow."""
    from aiagent_coordinator.workflows.library import WORKFLOWS

    yaml_files.show(WORKFLOWS, name, project)


@workflow.command(help=text("help.workflow.validate"))
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@options.as_json
@options.common
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Read workflows as the server would; exit with 3 when one cannot be used."""
    from aiagent_coordinator.workflows.library import WORKFLOWS

    yaml_files.validate(WORKFLOWS, files, as_json=as_json, line=_line)


def _line(one: Found[Workflow]) -> dict[str, Any]:
    known = one.value
    return {
        "role": known.role.value if known else None,
        "title": known.title if known else None,
        "stages": list(known.stages) if known else None,
    }
