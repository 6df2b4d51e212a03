"""Prepare: the workspace, the run's folder, and every file the CLI will need.

Safe to enter twice: everything is made again in place, nothing is started.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio

from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import (
    ConfigError,
    ProviderError,
    SpawnError,
    ValidationError,
    WorkspaceError,
)
from aiagent_coordinator.executors.programs import copy_programs
from aiagent_coordinator.ids import path_name
from aiagent_coordinator.logs.merge import create_log
from aiagent_coordinator.paths import make_private, run_temp_name
from aiagent_coordinator.pipeline import confinement, equipment, sessions, skills
from aiagent_coordinator.pipeline.chat import build as build_chat_prompt
from aiagent_coordinator.pipeline.context import Context, Control
from aiagent_coordinator.pipeline.guest import build as build_guest_prompt
from aiagent_coordinator.pipeline.handoff import left_for
from aiagent_coordinator.pipeline.launching import account_env, rendered_for, system_prompt_file
from aiagent_coordinator.pipeline.prompt import PromptFacts
from aiagent_coordinator.pipeline.prompt import build as build_prompt
from aiagent_coordinator.pipeline.run import RunRecord, Stage
from aiagent_coordinator.providers.logins import link_logins
from aiagent_coordinator.providers.modes import mode_of, takes_session
from aiagent_coordinator.providers.shape import AnswersVia, Mode
from aiagent_coordinator.runs import Purpose
from aiagent_coordinator.sandbox.policy import Kind
from aiagent_coordinator.tasks import Check, Project, WorkspaceKind
from aiagent_coordinator.workspaces import Reason, get_workspace, refusal

#: Reasons of a workspace that pass: the stage is entered again, and given up only if they stay.
PASSING = frozenset({Reason.GIT_FAILED.value, Reason.TIMED_OUT.value})
#: Longest name of a run's temporary folder: longer ones break programs that put sockets there.
TEMP_DIR_BYTES = 40


async def run(record: RunRecord, context: Context, control: Control) -> RunRecord:
    """Make everything ready; what cannot be made ready ends the run with a named reason."""
    if control.stop_reason:
        return record.at(
            Stage.EXIT,
            stop_reason=control.stop_reason,
            exit_reason="not_started",
            **_ended(context),
        )
    try:
        equipment.check(record, context)
    except ValidationError as error:
        return _failed(record, context, "options_invalid", error.message)
    try:
        record = await skills.give(await _workspace(record, context), context)
        return await anyio.to_thread.run_sync(_files, record, context)
    except WorkspaceError as error:
        if error.details.get("reason") in PASSING:
            raise
        reason = "disk" if error.details.get("reason") == "disk" else "workspace_invalid"
        return _failed(record, context, reason, error.message)
    except (ProviderError, SpawnError) as error:
        return _failed(record, context, "spawn_failed", error.message)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        return _failed(record, context, "disk", f"{error.strerror}: {error.filename}")


def _failed(record: RunRecord, context: Context, reason: str, message: str) -> RunRecord:
    return record.at(Stage.EXIT, exit_reason=reason, error=message, **_ended(context))


def _ended(context: Context) -> dict[str, str | None]:
    return {"ended_at": iso(context.clock.now())}


def project_of(record: RunRecord) -> Project:
    """The project as the claim described it."""
    described = record.project
    return Project(
        id=str(described["id"]),
        name=str(described.get("name") or described["id"]),
        path=str(described["path"]),
        base_ref=record.task.get("base_ref"),
        workspace=WorkspaceKind(described.get("workspace", "worktree")),
        allow_dirty=bool(described.get("allow_dirty", False)),
    )


async def _workspace(record: RunRecord, context: Context) -> RunRecord:
    project = project_of(record)
    if record.is_guest:
        return await anyio.to_thread.run_sync(_guest_folder, record, project.path)
    prepared = await get_workspace(project.workspace).prepare(
        project,
        task_id=record.task["id"],
        title=record.task["title"],
        branch=record.task.get("branch"),
        run_id=record.run_id,
        state=context.state,
    )
    return record.at(
        Stage.PREPARE,
        workspace_path=str(prepared.path),
        workspace_kind=prepared.kind.value,
        workspace_git_dir=str(prepared.git_dir) if prepared.git_dir else None,
        branch=prepared.branch,
        base_commit=prepared.base_commit,
    )


def _guest_folder(record: RunRecord, path: str) -> RunRecord:
    """Work in the folder that another make's server names, as its own coordinator does."""
    folder = Path(path)
    if not folder.is_absolute():
        raise refusal(Reason.PATH_MISSING, f"the server names no folder to work in: {path!r}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(Reason.PATH_MISSING, f"{folder}: {error.strerror}") from error
    kind = WorkspaceKind.DIRECTORY.value
    return record.at(Stage.PREPARE, workspace_path=str(folder.resolve()), workspace_kind=kind)


def _files(record: RunRecord, context: Context) -> RunRecord:
    """Write the run's files: programs, CLI configuration, prompt. In a worker thread."""
    choice = confinement.choose(record, context)
    record = record.at(Stage.PREPARE, sandbox=choice.kind.value)
    if choice.kind is Kind.NONE:
        _refuse_project_code(record, context)
    folder = context.state.run(record.run_id)
    make_private(folder / "files")
    copy_programs(folder)
    record = record.at(Stage.PREPARE, temp_dir=str(_temp_dir(record.run_id)))
    mode = mode_of(context.catalog.get(record.provider), record.agent.get("mode"))
    record = _session(record.at(Stage.PREPARE, is_live=mode is Mode.LIVE), context)
    account_env(record, context)  # refuses an account that is not declared here
    prompt = _prompt(_without_role(record, context), context)
    rendered = rendered_for(record, context, prompt)
    for name, content in rendered.files.items():
        write_private(folder / "files" / name, content)
    link_logins(folder / "files", rendered.links)
    record = record.at(
        Stage.PREPARE,
        argv=rendered.argv,
        argv_masked=rendered.argv_masked,
        warnings={**record.warnings, **equipment.warnings_of(record, context)},
        stdin=rendered.stdin,
    )
    confinement.write_plans(record, context, choice)
    write_private(folder / "prompt", prompt.encode())
    if record.is_guest:
        _write_credentials(record, context)
    log_path = _log_path(record, context)
    create_log(log_path, log_header(record), masker=context.masker)
    return record.at(Stage.LAUNCH, log_path=str(log_path))


def _refuse_project_code(record: RunRecord, context: Context) -> None:
    """Start nothing that would run what is checked into a project and was never asked about.

    Raises:
        WorkspaceError: there is such a file; it is named.
    """
    workspace = Path(record.workspace_path or "")
    for pattern in context.catalog.get(record.provider).launch.runs_unasked:
        found = next((path for path in workspace.glob(pattern) if not path.is_dir()), None)
        if found is not None:
            raise refusal(
                Reason.RUNS_UNASKED,
                f"{record.provider} would run {found.relative_to(workspace)} of this project unasked; "
                "take it away, set a sandbox, or give the work to an agent of another provider",
            )


def _without_role(record: RunRecord, context: Context) -> RunRecord:
    """Write the agent's role where its CLI wants it; the prompt then does without."""
    file = system_prompt_file(record, context)
    if file is None:
        return record
    write_private(file, f"{str(record.agent['role']).strip()}\n".encode())
    agent = {**record.agent, "role": ""}
    return replace(record, claim={**record.claim, "agent": agent})


def _prompt(record: RunRecord, context: Context) -> str:
    if record.is_guest:
        return build_guest_prompt(record, context.state.run(record.run_id))
    if record.purpose == Purpose.CHAT:
        return build_chat_prompt(record, skills.section(record, context))
    definition = context.catalog.get(record.provider)
    facts = replace(
        _prompt_facts(record, can_report=definition.can_report),
        answers_on_stdin=definition.launch.answers is AnswersVia.STDIN and not record.is_live,
        skills=skills.section(record, context),
    )
    return build_prompt(facts)


def _write_credentials(record: RunRecord, context: Context) -> None:
    """What the bridge shows a server of another make; it stands in no prompt and no environment."""
    shown = {
        "agent_id": record.agent_id,
        "passkey": context.passkeys.get(record.agent_id, ""),
        "project_id": record.project_id,
    }
    text = json.dumps(shown)
    write_private(context.state.run(record.run_id) / "credentials", text.encode())


def _session(record: RunRecord, context: Context) -> RunRecord:
    """Go on with the session of the run before where the CLI can; else begin one."""
    before: dict[str, Any] = record.task.get("resume") or {}
    can_resume = takes_session(context.catalog.get(record.provider), is_live=record.is_live)
    has_files = can_resume and sessions.bring(record, before.get("run_id"), context)
    return record.at(
        Stage.PREPARE,
        resumed_session_id=before.get("provider_session_id") if has_files else None,
        new_session_id=record.new_session_id or str(uuid.uuid4()),
    )


def write_private(path: Path, content: bytes) -> None:
    """Write a file of the run, readable by the owner alone, never through a link."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(content)
    draft.rename(path)


def _temp_dir(run_id: str) -> Path:
    """The run's temporary folder. Its name follows from the run, so a second entry finds it."""
    name = run_temp_name(run_id)
    path = Path(tempfile.gettempdir()) / name
    if len(os.fsencode(path)) > TEMP_DIR_BYTES:
        path = Path("/tmp") / name  # noqa: S108 - private by mode and owner check below
    try:
        make_private(path)
    except ConfigError as error:
        raise SpawnError(f"no private temporary folder: {error.message}") from error
    return path


def _log_path(record: RunRecord, context: Context) -> Path:
    """Where the readable log will be; its header says at once which run it is."""
    root = context.log_directory or context.state.logs
    folder = root / path_name(record.project_id) / path_name(record.agent_id)
    # A second entry keeps the name of the first: it holds the time.
    for earlier in folder.glob(f"*-{record.run_id}.log"):
        return earlier
    stamp = context.clock.now().strftime("%Y%m%dT%H%M%SZ")
    return folder / f"{stamp}-{record.run_id}.log"


def log_header(record: RunRecord) -> str:
    """The first line of the readable log: whose it is."""
    return (
        f"run {record.run_id} task {record.task['id']} attempt {record.task.get('attempt', 1)}"
        f" agent {record.agent_id} provider {record.provider}"
    )


def _prompt_facts(record: RunRecord, *, can_report: bool) -> PromptFacts:
    task = record.task
    return PromptFacts(
        task_id=task["id"],
        title=task["title"],
        description=task.get("description", ""),
        acceptance=tuple(task.get("acceptance", ())),
        checks=tuple(shlex.join(check.argv) for check in checks_of(record)),
        attempt=int(task.get("attempt", 1)),
        max_attempts=int(task.get("max_attempts", 1)),
        handoff=task.get("handoff"),
        answers=tuple((one["question"], one["answer"]) for one in task.get("answers", ())),
        tells=tuple(str(one["text"]) for one in task.get("tells", ())),
        handoffs=left_for(task.get("handoffs", ())),
        agent_id=record.agent_id,
        role=record.agent.get("role") or "",
        project_name=str(record.project.get("name") or record.project_id),
        branch=record.branch,
        workspace_kind=record.workspace_kind or "worktree",
        can_report=can_report,
    )


def checks_of(record: RunRecord) -> tuple[Check, ...]:
    """The commands that prove the result: the project's, then the task's own."""
    return tuple(Check(tuple(check["argv"])) for check in record.task.get("checks", ()))
