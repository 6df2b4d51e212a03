"""What persons call about templates: which there are, and make their tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from aiagent_coordinator.server import rows
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import Arguments, Context, table, tool
from aiagent_coordinator.server.tools_person import meant_project
from aiagent_coordinator.store import projects, templating
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.templates import MAX_VALUE_CHARS, Template
from aiagent_coordinator.workflows.finding import Found
from aiagent_coordinator.workflows.values import problems_of

Name = Annotated[str, Field(min_length=1, max_length=100)]
Value = Annotated[str, Field(max_length=MAX_VALUE_CHARS)]


class ListTemplates(Arguments):
    """Arguments of `list_templates`."""

    project_id: str | None = None
    """Also those of this project, which go first."""


class RunTemplate(Arguments):
    """Arguments of `run_template`."""

    project_id: str
    name: Name
    values: Annotated[dict[Name, Value], Field(max_length=100, default_factory=dict)]
    """A value for each variable that has no default."""
    key: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """Said again, what was made under it is shown, and nothing is made."""
    dry_run: bool = False
    """Only say what would be made."""


async def list_templates(context: Context, arguments: ListTemplates) -> Json:
    """List templates, each with what it asks for and what is wrong with it."""

    def work(unit: Unit) -> Path | None:
        named = arguments.project_id
        return None if named is None else folder_of(unit, meant_project(unit, named))

    folder = await context.board.store.read(work)
    return {"templates": [_line(one) for one in context.board.task_templates.list(folder)]}


async def run_template(context: Context, arguments: RunTemplate) -> Json:
    """Make the tasks of a template, all or none; under one key once."""
    board = context.board

    def found(unit: Unit) -> tuple[str, Template]:
        project_id = meant_project(unit, arguments.project_id)
        return project_id, board.task_templates.find(arguments.name, folder_of(unit, project_id))

    def planned(unit: Unit) -> Json:
        project_id, template = found(unit)
        would = templating.plan(unit, project_id, template, arguments.values)
        lines = [
            {**rows.plain(one.draft), "agent_id": one.agent_id, "project_id": project_id}
            for one in would
        ]
        return {
            "template": template.name,
            "project_id": project_id,
            "dry_run": True,
            "tasks": lines,
        }

    def made(unit: Unit) -> Json:
        project_id, template = found(unit)
        done = templating.run(
            unit,
            project_id,
            template,
            arguments.values,
            max_attempts=board.terms.retry.max_attempts,
            key=arguments.key,
            actor=context.identity.actor,
        )
        return {
            "template": template.name,
            "project_id": project_id,
            "dry_run": False,
            "already_made": done.is_known,
            "tasks": [
                {"order": order, **rows.task_line(task)} for order, task in done.tasks.items()
            ],
        }

    if arguments.dry_run:
        return await board.store.read(planned)
    return await board.store.write(made)


def folder_of(unit: Unit, project_id: str) -> Path | None:
    """Where a project's own files lie; None: it has no folder."""
    path = projects.get_project(unit, project_id).path
    return Path(path) if path else None


def _line(one: Found[Template]) -> Json:
    known = one.value
    return {
        "name": one.name,
        "origin": one.origin,
        "file": str(one.file),
        "title": known.title if known else None,
        "variables": [rows.plain(each) for each in known.variables.values()] if known else [],
        "tasks": len(known.tasks) if known else None,
        "problems": [] if one.problem is None else problems_of(one.problem),
    }


TOOLS = table(
    (
        tool(ListTemplates, list_templates, "List templates of tasks.", Role.PERSON),
        tool(RunTemplate, run_template, "Make the tasks of a template.", Role.PERSON),
    )
)
