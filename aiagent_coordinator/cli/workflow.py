"""`workflow list|show|validate`: what agents are told step by step, and whether a file of it can be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.errors import ConfigError, NotFoundError
from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from aiagent_coordinator.workflows.library import Found


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
    found = _found(project)
    if as_json:
        output.json_result({"workflows": [_line(one) for one in found]})
        return
    output.table(
        [text(f"table.{name}") for name in ("name", "hierarchy", "origin", "title")],
        [
            (
                one.name,
                one.workflow.role.value if one.workflow else "",
                one.origin,
                one.workflow.title if one.workflow else one.problem,
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
    found = {one.name: one for one in _found(project)}
    if name not in found:
        known = ", ".join(found)
        raise NotFoundError(text("workflow.none", name=name, known=known))
    output.talk(str(found[name].file))
    output.result(found[name].file.read_text("utf-8").rstrip("\n"))


@workflow.command(help=text("help.workflow.validate"))
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@options.as_json
@options.common
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Read workflows as the server would; exit with 3 when one cannot be used."""
    found = [_read(file) for file in files] if files else _everywhere()
    bad = [one for one in found if one.problem is not None]
    problems = [line for one in bad if one.problem for line in _problems(one.problem)]
    if as_json:
        output.json_result({"valid": not bad, "workflows": [_line(one) for one in found]})
    elif not bad:
        output.result(text("workflow.valid", count=len(found)))
    if problems:
        first, *rest = problems
        for line in rest:
            output.talk(text("error.prefix", message=line))
        raise ConfigError(first, problems=problems)


def _found(project: str | None) -> list[Found]:
    from aiagent_coordinator.workflows.library import Library

    return Library().list(None if project is None else _folders().get(project, Path()))


def _everywhere() -> list[Found]:
    """Every file once: those of all projects, the user's and those that ship."""
    from aiagent_coordinator.workflows.library import Library

    library = Library()
    found = {one.file: one for one in library.list(None)}
    for folder in _folders().values():
        found |= {one.file: one for one in library.list(folder)}
    return list(found.values())


def _read(file: Path) -> Found:
    from aiagent_coordinator.workflows.library import Found
    from aiagent_coordinator.workflows.reading import load_workflow

    try:
        return Found(file.stem, "file", file, load_workflow(file))
    except ConfigError as error:
        return Found(file.stem, "file", file, None, error)


def _folders() -> dict[str, Path]:
    """The folders of the projects that the configuration declares, by id."""
    from aiagent_coordinator.config import load_settings
    from aiagent_coordinator.config.find import find_config

    given = options.current()
    loaded = load_settings(find_config(given.config), overrides=given.overrides)
    return {one.id: one.path for one in loaded.settings.projects if one.path is not None}


def _problems(error: ConfigError) -> list[str]:
    listed = error.details.get("problems")
    return [str(line) for line in listed] if isinstance(listed, list) else [error.message]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - lines


def _line(one: Found) -> dict[str, Any]:
    known = one.workflow
    return {
        "name": one.name,
        "origin": one.origin,
        "file": str(one.file),
        "role": known.role.value if known else None,
        "title": known.title if known else None,
        "stages": list(known.stages) if known else None,
        "problems": [] if one.problem is None else _problems(one.problem),
    }
