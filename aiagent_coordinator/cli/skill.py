"""`skill add|list|show|remove|assign|unassign`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import call, locate
from aiagent_coordinator.messages import text


@click.group(help=text("help.skill"))
@options.common
def skill() -> None:
    """Skills: what agents are given to know how something is done."""


@skill.command(help=text("help.skill.add"))
@click.argument("path", type=click.Path(path_type=Path), metavar="PATH")
@click.option("--directory-name", metavar="NAME", help=text("help.option.directory_name"))
@click.option("--name", metavar="TEXT", help=text("help.option.skill_name"))
@click.option("--description", metavar="TEXT", help=text("help.option.skill_description"))
@click.option("--replace", is_flag=True, help=text("help.option.replace"))
@options.as_json
@options.common
def add(
    *,
    path: Path,
    directory_name: str | None,
    name: str | None,
    description: str | None,
    replace: bool,
    as_json: bool,
) -> None:
    """Keep a skill."""
    import base64

    from aiagent_coordinator.skill_sources import from_path
    from aiagent_coordinator.skills import Called, packed

    # read and checked here: the server may have no access to the place
    called = Called(directory_name or "", name or "", description or "")
    whole = path.resolve()
    fallback = whole.stem if whole.suffix.lower() == ".zip" else whole.name
    made = packed(from_path(path), called, fallback=fallback)
    kept: dict[str, Any] = call(
        options.current(),
        "add_skill",
        archive_base64=base64.b64encode(made.archive).decode("ascii"),
        directory_name=made.directory_name,
        name=made.name,
        description=made.description or None,
        replace=replace,
    )["skill"]
    if as_json:
        output.json_result(kept)
    else:
        output.result(text("skill.added", name=kept["directory_name"], files=kept["files"]))


@skill.command("list", help=text("help.skill.list"))
@options.as_json
@options.common
def list_skills(as_json: bool) -> None:
    """List skills."""
    found: list[dict[str, Any]] = call(options.current(), "list_skills")["skills"]
    if as_json:
        output.json_result({"skills": found})
    elif not found:
        output.talk(text("list.no_skills"))
    else:
        headings = ("name", "files", "bytes", "agents", "added_by", "description")
        output.table(
            [text(f"table.{name}") for name in headings],
            [
                (
                    one["directory_name"],
                    one["files"],
                    one["unpacked_size"],
                    ", ".join(one["agents"]),
                    one["added_by"],
                    one["description"],
                )
                for one in found
            ],
        )


@skill.command(help=text("help.skill.show"))
@click.argument("ident", metavar="NAME")
@options.as_json
@options.common
def show(ident: str, as_json: bool) -> None:
    """Show a skill."""
    given = options.current()
    found: dict[str, Any] = call(given, "get_skill", skill_id=ident)["skill"]
    if as_json:
        output.json_result(found)
        return
    content: list[dict[str, Any]] = found.pop("content")
    guide: str = found.pop("guide")
    output.facts(output.localized(found, locate(given).zone))
    output.facts([(one["path"], one["size"]) for one in content])
    for line in guide.splitlines():
        output.result(line)


@skill.command(help=text("help.skill.remove"))
@click.argument("ident", metavar="NAME")
@options.as_json
@options.common
def remove(ident: str, as_json: bool) -> None:
    """Forget a skill."""
    gone: dict[str, Any] = call(options.current(), "remove_skill", skill_id=ident)["skill"]
    if as_json:
        output.json_result(gone)
    else:
        output.result(text("skill.removed", name=gone["directory_name"]))


@skill.command(help=text("help.skill.assign"))
@click.argument("ident", metavar="NAME")
@click.argument("agent", metavar="AGENT")
@options.as_json
@options.common
def assign(ident: str, agent: str, as_json: bool) -> None:
    """Give an agent a skill."""
    done = call(options.current(), "assign_skill", skill_id=ident, agent_id=agent)
    if as_json:
        output.json_result(done)
        return
    found: dict[str, Any] = done["skill"]
    output.result(text("skill.assigned", name=found["directory_name"], agent=done["agent_id"]))


@skill.command(help=text("help.skill.unassign"))
@click.argument("ident", metavar="NAME")
@click.argument("agent", metavar="AGENT")
@options.as_json
@options.common
def unassign(ident: str, agent: str, as_json: bool) -> None:
    """Give an agent a skill no more."""
    done = call(options.current(), "unassign_skill", skill_id=ident, agent_id=agent)
    if as_json:
        output.json_result(done)
        return
    found: dict[str, Any] = done["skill"]
    output.result(text("skill.unassigned", name=found["directory_name"], agent=done["agent_id"]))
