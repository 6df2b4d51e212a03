"""`init`: a commented coordinator.yaml for what this machine has. Asks nothing, overwrites nothing."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.config.find import FILE_NAME
from aiagent_coordinator.errors import ConfigError
from aiagent_coordinator.ids import slug
from aiagent_coordinator.messages import text

if TYPE_CHECKING:
    from aiagent_coordinator.cli.installed import Installed

_HEAD = """\
# What aiagent-coordinator works on in this folder. Start it, then give it something to do:
#
#   aiagent-coordinator --config {file}
#   aiagent-coordinator task add --config {file} --project {project} --agent {agent} --title 'What to do'
#
# What a setting means and what it is now: aiagent-coordinator config explain KEY

max_concurrent: 3                # runs at a time, over everything
# run_timeout: 2h                # without it only silence ends a run
# silence_timeout: 30m           # a run that prints and does nothing for so long is stopped
# sandbox: landlock              # shut agents in; `doctor` says what this machine can make

agents:
"""
_AGENT = """\
  {name}:
    provider: {name:<22} # {about}
    # model: "..."               # the program's own default without
    approval: {approval:<18} # ask: only our tools · edits: files too · bypass: everything
                                 # (bypass needs a sandbox, or i_understand_unsandboxed: true above)
"""
_REHEARSAL = """\
  rehearsal:
    provider: rehearsal          # the scripted agent that ships: no AI CLI was found on PATH
"""
_PROJECT = """
projects:
  - id: {project}
    path: .                      # this folder; your checkout is never touched
    # base_ref: main             # where work starts; without: what is checked out
    # checks: ["make test"]      # commands that prove a result, run without a shell
    # agents: [{agent}]{gap}# who works here; without: everybody
"""
_NO_REPOSITORY = """
# This folder is no git repository. Make it one with: git init; or name another in place of []:
#  - id: {project}
#    path: ~/src/{project}
projects: []
"""


@click.command(help=text("help.init"))
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@options.as_json
@options.common
def init(folder: Path, as_json: bool) -> None:
    """Write a configuration for this machine."""
    from aiagent_coordinator.cli.installed import NOT_LOOKED_FOR, look
    from aiagent_coordinator.providers.catalog import load_catalog

    folder = _made(folder)
    catalog = load_catalog()
    definitions = [catalog.get(name) for name in catalog if name not in NOT_LOOKED_FOR]
    known = look(one for one in definitions if one.verified)  # others are yours to name
    found = [one for one in known if one.path is not None]
    proposed = propose(folder, found)
    file, before = _keep(folder / FILE_NAME, proposed)
    changes = list(
        difflib.unified_diff(
            before.splitlines(), proposed.splitlines(), FILE_NAME, file.name, lineterm=""
        )
    )
    if as_json:
        output.json_result(
            {
                "file": str(file),
                "agents": [
                    {"provider": one.definition.name, "path": str(one.path), "version": one.version}
                    for one in found
                ],
                "diff": changes if before else [],
            }
        )
        return
    for one in found:
        output.talk(text("init.found", title=one.definition.title, path=one.path, version=_version(one)))  # fmt: skip
    if not found:
        output.talk(text("init.none_found"))
    if not before:
        output.result(text("init.written", file=file))
    elif not changes:
        output.result(text("init.same", file=file))
    else:
        for line in changes:
            output.result(line)
        output.talk(text("init.kept", file=folder / FILE_NAME, draft=file))
    output.talk(text("init.next", file=folder / FILE_NAME))


def propose(folder: Path, found: Sequence[Installed]) -> str:
    """Write the configuration of a folder for the CLIs that were found."""
    project = slug(folder.name) or "project"
    names = [one.definition.name for one in found if _approval(one) != "bypass"]
    first = names[0] if names else "rehearsal"
    agents = "" if names else _REHEARSAL
    agents += "".join(_agent(one) for one in found)
    # checked without starting git: a worktree and a submodule have a file there
    places = [folder, *folder.parents]
    is_repository = any((place / ".git").exists() for place in places)
    return (
        _HEAD.format(file=FILE_NAME, project=project, agent=first)
        + agents
        + (_PROJECT if is_repository else _NO_REPOSITORY).format(
            project=project, agent=first, gap=" " * max(1, 17 - len(first))
        )
    )


def _agent(one: Installed) -> str:
    """The lines of one agent; as a comment where it would do everything unasked."""
    approval = _approval(one)
    lines = _AGENT.format(
        name=one.definition.name,
        approval=approval,
        about=f"{_comment(one.definition.title)} {_version(one)}, {_comment(str(one.path))}",
    )
    if approval != "bypass":
        return lines
    return "".join(f"  # {line[2:]}" for line in lines.splitlines(keepends=True))


def _approval(one: Installed) -> str:
    """The mode that suits most, of those that the program can be held to."""
    return next(mode for mode in ("edits", "ask", "bypass") if mode in one.definition.can.approval)


def _version(one: Installed) -> str:
    return one.version or text("init.unknown_version")


def _comment(words: str) -> str:
    # a file's name may hold line ends; a comment may not
    return re.sub(r"[^\x20-\x7e\xa0-\ud7ff]", "?", words)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(text("init.no_folder", path=folder, reason=error.strerror)) from error
    return folder.resolve()


def _keep(file: Path, content: str) -> tuple[Path, str]:
    """Write the content where nothing of the user's is lost; give where, and what stood there before."""
    before = ""
    if os.path.lexists(file):
        try:
            before = file.read_text("utf-8", "replace")
        except OSError as error:
            raise ConfigError(text("init.unreadable", path=file, reason=error.strerror)) from error
        if before == content:
            return file, before
        before = before or "\n"
        file = file.with_name(f"{file.name}.new")
    draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(content, "utf-8")
        if before:
            draft.replace(file)
        else:
            # unlike a rename it never replaces what somebody else wrote meanwhile
            os.link(draft, file)
    except OSError as error:
        raise ConfigError(text("init.unwritable", path=file, reason=error.strerror)) from error
    finally:
        draft.unlink(missing_ok=True)
    return file, before
