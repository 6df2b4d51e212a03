"""`audit list|show|validate|activate|suspend|deactivate`: rules that watch the tasks of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiagent_coordinator.cli import options, output, yaml_files
from aiagent_coordinator.cli.connect import call, locate
from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from aiagent_coordinator.audits import Audit
    from aiagent_coordinator.workflows.finding import Found


@click.group(help=text("help.audit"))
@options.common
def audit() -> None:
    """Look at audits, check them, and let them fire or rest."""


@audit.command("list", help=text("help.audit.list"))
@click.option("--project", required=True, metavar="ID", help=text("help.option.audit_project"))
@options.as_json
@options.common
def list_audits(project: str, as_json: bool) -> None:
    """List the audits of a project."""
    answer = call(options.current(), "list_audits", project_id=project)
    if as_json:
        output.json_result(answer)
        return
    audits: list[dict[str, Any]] = answer["audits"]
    output.table(
        [text(f"table.{name}") for name in ("name", "status", "origin", "title")],
        [
            (
                one["name"],
                text("audit.changed", status=one["status"]) if one["is_changed"] else one["status"],
                one["origin"],
                one["problems"][0] if one["problems"] else one["title"],
            )
            for one in audits
        ],
    )


@audit.command(help=text("help.audit.show"))
@click.argument("name")
@click.option("--project", required=True, metavar="ID", help=text("help.option.audit_project"))
@options.as_json
@options.common
def show(name: str, project: str, as_json: bool) -> None:
    """Show an audit: its rules, what it did last, and what it holds."""
    found: dict[str, Any] = call(options.current(), "get_audit", project_id=project, name=name)[
        "audit"
    ]
    if as_json:
        output.json_result(found)
        return
    known = {key: value for key, value in found.items() if not isinstance(value, list)}
    output.facts(list(known.items()))
    zone = locate(options.current()).zone
    for number, rule in enumerate(found["rules"]):
        titles = ", ".join(one["title"] for one in rule["tasks"]) or "-"
        held = ", ".join(rule["lock"]) or "-"
        output.result(
            text("audit.rule", number=number, trigger=rule["trigger"], tasks=titles, held=held)
        )
    for one in found["firings"]:
        made = ", ".join(one["tasks"]) or "-"
        at = output.local(one["at"], zone)
        output.result(text("audit.firing", at=at, task=one["task_id"], made=made))
    for one in found["holds"]:
        output.result(text("audit.holds", what=one["subject"], which=one["subject_id"]))
    for line in found["problems"]:
        output.talk(text("error.prefix", message=line))


@audit.command(help=text("help.audit.validate"))
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@options.as_json
@options.common
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Read audits as the server would; exit with 3 when one cannot be used."""
    from aiagent_coordinator.workflows.library import AUDITS

    yaml_files.validate(AUDITS, files, as_json=as_json, line=_line)


def _status_command(name: str) -> None:
    @audit.command(name, help=text(f"help.audit.{name}"))
    @click.argument("audit_name", metavar="NAME")
    @click.option("--project", required=True, metavar="ID", help=text("help.option.audit_project"))
    @options.as_json
    @options.common
    def change(audit_name: str, project: str, as_json: bool) -> None:
        changed: dict[str, Any] = call(
            options.current(), f"{name}_audit", project_id=project, name=audit_name
        )["audit"]
        if as_json:
            output.json_result(changed)
        else:
            output.result(text("audit.is_now", name=changed["name"], status=changed["status"]))

    change.__doc__ = f"Answer `audit {name}`."


for _name in ("activate", "suspend", "deactivate"):
    _status_command(_name)


def _line(one: Found[Audit]) -> dict[str, Any]:
    known = one.value
    return {
        "title": known.title if known else None,
        "rules": len(known.rules) if known else None,
    }
