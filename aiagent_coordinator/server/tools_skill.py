"""Skills: what people keep and give to agents, what coordinators fetch for a run, what agents register."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated, Final

from anyio import to_thread
from pydantic import Field

from aiagent_coordinator import skills
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.paths import host_id
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server import rows
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import (
    ANY_PURPOSE,
    AgentArguments,
    Arguments,
    Context,
    table,
    tool,
)
from aiagent_coordinator.server.tools_person import Nothing, meant_agent
from aiagent_coordinator.skill_archives import read_archive
from aiagent_coordinator.skill_sources import from_text, inside
from aiagent_coordinator.skills import Called, Packed
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store import skills as skill_store
from aiagent_coordinator.store.unit import Unit

#: As text: four characters for three bytes.
MAX_BASE64_CHARS: Final = skills.MAX_ARCHIVE_BYTES // 3 * 4 + 4
MAX_GUIDE_CHARS: Final = 1024 * 1024

FolderName = Annotated[str, Field(max_length=63)]
ShownName = Annotated[str, Field(max_length=skills.MAX_NAME_CHARS)]
Description = Annotated[str, Field(max_length=skills.MAX_DESCRIPTION_CHARS)]
Place = Annotated[str, Field(min_length=1, max_length=4096)]


class AddSkill(Arguments):
    """Arguments of `add_skill`."""

    archive_base64: Annotated[str, Field(min_length=1, max_length=MAX_BASE64_CHARS)]
    """A ZIP archive with a SKILL.md."""
    directory_name: FolderName | None = None
    """What its folder is called; else as its SKILL.md calls it."""
    name: ShownName | None = None
    description: Description | None = None
    replace: bool = False
    """Put it in the place of the one that has this name."""


class OneSkill(Arguments):
    """A skill by its directory name, its id, or the beginning of that."""

    skill_id: str


class GiveSkill(OneSkill):
    """Arguments of `assign_skill` and `unassign_skill`."""

    agent_id: str


class FetchSkill(Arguments):
    """Arguments of `fetch_skill`."""

    sha256: Annotated[str, Field(max_length=64)]


class RegisterSkill(AgentArguments):
    """Arguments of `register_skill`; exactly one of the first three."""

    zip_file_path: Place | None = None
    """An archive in your workspace."""
    folder_path: Place | None = None
    """A folder in your workspace."""
    skill_md_content: Annotated[str, Field(max_length=MAX_GUIDE_CHARS)] | None = None
    """The text of a SKILL.md."""
    name: ShownName | None = None
    description: Description | None = None
    directory_name: FolderName | None = None


async def add_skill(context: Context, arguments: AddSkill) -> Json:
    """Keep a skill."""
    called = _called(arguments.directory_name, arguments.name, arguments.description)
    packed = await to_thread.run_sync(_from_base64, arguments.archive_base64, called)

    def work(unit: Unit) -> Json:
        kept = skill_store.keep(
            unit, packed, added_by=skill_store.PERSON, replaces=arguments.replace
        )
        return {"skill": _line(unit, kept)}

    return await context.board.store.write(work)


async def list_skills(context: Context, arguments: Nothing) -> Json:
    """List the skills that are kept, and who is given them."""
    del arguments

    def work(unit: Unit) -> Json:
        return {"skills": [_line(unit, one) for one in skill_store.list_skills(unit)]}

    return await context.board.store.read(work)


async def get_skill(context: Context, arguments: OneSkill) -> Json:
    """Show a skill: its files, and its guide."""

    def work(unit: Unit) -> tuple[Json, bytes]:
        found = skill_store.find(unit, arguments.skill_id)
        return _line(unit, found), skill_store.archive(unit, found.sha256)

    line, archive = await context.board.store.read(work)
    content = await to_thread.run_sync(read_archive, archive)
    guide = content[skills.GUIDE].content.decode("utf-8", "replace")
    listed = [
        {"path": path, "size": len(file.content), "executable": file.is_executable}
        for path, file in content.items()
    ]
    return {"skill": {**line, "content": listed, "guide": guide[:MAX_GUIDE_CHARS]}}


async def remove_skill(context: Context, arguments: OneSkill) -> Json:
    """Forget a skill."""

    def work(unit: Unit) -> Json:
        found = skill_store.find(unit, arguments.skill_id)
        line = _line(unit, found)
        skill_store.remove(unit, found, actor=context.identity.actor)
        return {"skill": line}

    return await context.board.store.write(work)


async def assign_skill(context: Context, arguments: GiveSkill) -> Json:
    """Give an agent a skill from its next run on."""

    def work(unit: Unit) -> Json:
        found = skill_store.find(unit, arguments.skill_id)
        agent_id = meant_agent(unit, arguments.agent_id)
        skill_store.assign(unit, found, agent_id, actor=context.identity.actor)
        return {"skill": _line(unit, found), "agent_id": agent_id}

    return await context.board.store.write(work)


async def unassign_skill(context: Context, arguments: GiveSkill) -> Json:
    """Give an agent a skill no more."""

    def work(unit: Unit) -> Json:
        found = skill_store.find(unit, arguments.skill_id)
        agent_id = meant_agent(unit, arguments.agent_id)
        skill_store.unassign(unit, found, agent_id, actor=context.identity.actor)
        return {"skill": _line(unit, found), "agent_id": agent_id}

    return await context.board.store.write(work)


async def fetch_skill(context: Context, arguments: FetchSkill) -> Json:
    """Give the archive that a claim named."""
    sha256 = arguments.sha256
    archive = await context.board.store.read(lambda unit: skill_store.archive(unit, sha256))
    return {"sha256": sha256, "archive_base64": base64.b64encode(archive).decode("ascii")}


async def register_skill(context: Context, arguments: RegisterSkill) -> Json:
    """Keep a skill that an agent made; a person decides who is given it."""
    ways = (arguments.zip_file_path, arguments.folder_path, arguments.skill_md_content)
    if sum(way is not None for way in ways) != 1:
        raise ValidationError(
            "give exactly one of zip_file_path, folder_path and skill_md_content",
            key="zip_file_path",
        )
    run_id = str(context.identity.run_id)
    place = await context.board.store.read(lambda unit: run_store.workspace_of(unit, run_id))
    packed = await to_thread.run_sync(_from_agent, arguments, place)

    def work(unit: Unit, run: Run) -> Json:
        kept = skill_store.register(unit, packed, run.agent_id)
        return {
            "success": True,
            "status": "success",
            "skill_id": kept.id,
            "name": kept.name,
            "directory_name": kept.directory_name,
            "archive_size": kept.size,
            "instruction": "It is kept. A person decides which agents are given it. Go on.",
        }

    return await context.board.as_agent(context, work)


def _from_agent(arguments: RegisterSkill, place: tuple[str, str] | None) -> Packed:
    """Read what an agent names, in its own run's workspace alone. Blocks."""
    called = _called(arguments.directory_name, arguments.name, arguments.description)
    if arguments.skill_md_content is not None:
        return skills.packed(from_text(arguments.skill_md_content), called)
    named = arguments.zip_file_path or arguments.folder_path or ""
    if place is None or place[0] != host_id():
        raise ValidationError(
            "your workspace is not on the server's machine, so it cannot read your files",
            hint="give the text as skill_md_content",
        )
    is_folder = arguments.folder_path is not None
    content = inside(Path(place[1]), named, is_folder=is_folder)
    last = Path(named).name if is_folder else Path(named).stem
    return skills.packed(content, called, fallback=last)


def _from_base64(text: str, called: Called) -> Packed:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValidationError("archive_base64 is no base64", key="archive_base64") from None
    return skills.packed(read_archive(data), called)


def _called(directory_name: str | None, name: str | None, description: str | None) -> Called:
    return Called(directory_name or "", name or "", description or "")


def _line(unit: Unit, skill: skills.Skill) -> Json:
    return {**rows.plain(skill), "agents": skill_store.agents_of(unit, skill.id)}


TOOLS = table(
    (
        tool(
            RegisterSkill,
            register_skill,
            "Keep a skill you wrote: a folder or a ZIP in your workspace with a SKILL.md, or its text. "
            "Whom it is given, a person decides.",
            Role.AGENT,
            purposes=ANY_PURPOSE,
        ),
    )
)

OTHER_TOOLS = table(
    (
        tool(AddSkill, add_skill, "Keep a skill.", Role.PERSON),
        tool(Nothing, list_skills, "List skills.", Role.PERSON),
        tool(OneSkill, get_skill, "Show a skill.", Role.PERSON),
        tool(OneSkill, remove_skill, "Forget a skill.", Role.PERSON),
        tool(GiveSkill, assign_skill, "Give an agent a skill.", Role.PERSON),
        tool(GiveSkill, unassign_skill, "Give an agent a skill no more.", Role.PERSON),
        tool(FetchSkill, fetch_skill, "Give the archive of a skill.", Role.COORDINATOR),
    )
)
