"""The skills of a run: fetched from the server, unpacked into the run's own folder, named in its prompt."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, cast

import anyio

from aiagent_coordinator import skill_archives, skills
from aiagent_coordinator.errors import CoordinatorError, ValidationError
from aiagent_coordinator.ids import path_name
from aiagent_coordinator.pipeline.context import Context
from aiagent_coordinator.pipeline.run import RunRecord, Stage
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)


async def give(record: RunRecord, context: Context) -> RunRecord:
    """Unpack what the claim says the agent has. What cannot be had is left out, with a warning.

    Safe to enter twice: what stood there goes first.

    Raises:
        OSError: the disk refuses it.
    """
    if record.is_guest or not _claimed(record):
        return record
    top = _top(record, context)
    await anyio.to_thread.run_sync(_remove, top)
    given: list[str] = []
    for skill in _claimed(record):
        name = path_name(str(skill["directory_name"]))
        sha256 = str(skill["sha256"])
        try:
            archive = await context.skills.fetch(sha256)
            if skills.digest(archive) != sha256:
                raise ValidationError("it is not what its digest says")
            await anyio.to_thread.run_sync(
                skill_archives.unpack, archive, _below(record, context) / name
            )
        except CoordinatorError as error:
            _left_out(record, name, error.message)
            continue
        given.append(name)
    return record.at(Stage.PREPARE, skills=tuple(given))


def opened_dir(record: RunRecord, context: Context) -> str:
    """The folder that the CLI is to be shown for its skills; empty without any."""
    if record.is_guest:
        has = bool(record.agent.get("skills"))
        return str(context.state.run(record.run_id) / "skills") if has else ""
    return str(_top(record, context)) if record.skills else ""


def section(record: RunRecord, context: Context) -> str:
    """What the prompt says of them; empty without any."""
    if record.is_guest or not record.skills:
        return ""
    folder = _below(record, context)
    about = {path_name(str(one["directory_name"])): one for one in _claimed(record)}
    listed = [
        f"- {about[name]['name']}{_described(about[name])}\n  {folder / name / skills.GUIDE}"
        for name in record.skills
    ]
    return "# Skills\n\nRead the one that fits before you begin:\n\n" + "\n".join(listed)


def _described(skill: dict[str, Any]) -> str:
    return f": {skill['description']}" if skill.get("description") else ""


def _claimed(record: RunRecord) -> list[dict[str, Any]]:
    listed: list[Any] = list(record.agent.get("skills") or ())
    return [
        cast("dict[str, Any]", one) for one in listed[: skills.MAX_SKILLS] if isinstance(one, dict)
    ]


def _top(record: RunRecord, context: Context) -> Path:
    needs = context.catalog.get(record.provider).skills
    return context.state.run(record.run_id) / "files" / needs.dir


def _below(record: RunRecord, context: Context) -> Path:
    """Where the folders of the skills lie, as this CLI looks for them."""
    return _top(record, context) / context.catalog.get(record.provider).skills.below


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _left_out(record: RunRecord, name: str, reason: str) -> None:
    log_event(
        logger,
        logging.WARNING,
        "run.skill_left_out",
        "a skill was left out",
        run_id=record.run_id,
        agent_id=record.agent_id,
        skill=name,
        error=reason,
    )
