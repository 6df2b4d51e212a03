"""`template list|show|validate|run`: tasks that belong together, made at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiagent_coordinator.cli import options, output, yaml_files
from aiagent_coordinator.cli.connect import call
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from aiagent_coordinator.templates import Template
    from aiagent_coordinator.workflows.finding import Found


@click.group(help=text("help.template"))
@options.common
def template() -> None:
    """Look at templates, check them, and make their tasks."""


@template.command("list", help=text("help.template.list"))
@click.option("--project", metavar="ID", help=text("help.option.workflow_project"))
@options.as_json
@options.common
def list_templates(project: str | None, as_json: bool) -> None:
    """List every template, with what is wrong with it."""
    from aiagent_coordinator.workflows.library import TEMPLATES

    found = yaml_files.found(TEMPLATES, project)
    if as_json:
        listed = [yaml_files.with_problems(one, _line(one)) for one in found]
        output.json_result({"templates": listed})
        return
    output.table(
        [text(f"table.{name}") for name in ("name", "origin", "variables", "title")],
        [
            (
                one.name,
                one.origin,
                ", ".join(one.value.variables) if one.value else "",
                one.value.title if one.value else one.problem,
            )
            for one in found
        ],
    )


@template.command(help=text("help.template.show"))
@click.argument("name")
@click.option("--project", metavar="ID", help=text("help.option.workflow_project"))
@options.common
def show(name: str, project: str | None) -> None:
    """Print the file of a template."""
    from aiagent_coordinator.workflows.library import TEMPLATES

    yaml_files.show(TEMPLATES, name, project)


@template.command(help=text("help.template.validate"))
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@options.as_json
@options.common
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Read templates as the server would; exit with 3 when one cannot be used."""
    from aiagent_coordinator.workflows.library import TEMPLATES

    yaml_files.validate(TEMPLATES, files, as_json=as_json, line=_line)


@template.command(help=text("help.template.run"))
@click.argument("name")
@click.option("--project", required=True, metavar="ID", help=text("help.option.template_project"))
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help=text("help.option.set"))
@click.option("--key", metavar="TEXT", help=text("help.option.template_key"))
@click.option("--dry-run", is_flag=True, help=text("help.option.template_dry_run"))
@options.as_json
@options.common
def run(
    *,
    name: str,
    project: str,
    pairs: tuple[str, ...],
    key: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the tasks of a template, or say which they would be."""
    made = call(
        options.current(),
        "run_template",
        project_id=project,
        name=name,
        values=_values(pairs),
        key=key,
        dry_run=dry_run,
    )
    if as_json:
        output.json_result(made)
        return
    tasks: list[dict[str, Any]] = made["tasks"]
    if made.get("already_made"):
        output.talk(text("template.already", under=key))
    names = ("order", "agent", "title") if dry_run else ("order", "id", "status", "agent", "title")
    output.table(
        [text(f"table.{one}") for one in names],
        [[task.get("agent_id" if one == "agent" else one) for one in names] for task in tasks],
    )


def _values(pairs: Sequence[str]) -> dict[str, str]:
    """The variables of the command line.

    Raises:
        ValidationError: one has no `=`, or is given twice.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise ValidationError(text("template.no_pair", pair=pair))
        if name in values:
            raise ValidationError(text("template.twice", name=name))
        values[name] = value
    return values


def _line(one: Found[Template]) -> dict[str, Any]:
    known = one.value
    return {
        "title": known.title if known else None,
        "variables": [
            {"name": each.name, "about": each.about, "default": each.default}
            for each in known.variables.values()
        ]
        if known
        else [],
        "tasks": len(known.tasks) if known else None,
    }
