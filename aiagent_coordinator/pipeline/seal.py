"""Seal: everything the agent left becomes one commit, whatever the outcome: no work is lost."""

from __future__ import annotations

from aiagent_coordinator import failpoints
from aiagent_coordinator.errors import WorkspaceError
from aiagent_coordinator.pipeline.context import Context, Control
from aiagent_coordinator.pipeline.prepare import PASSING
from aiagent_coordinator.pipeline.run import RunRecord, Stage, prepared_of
from aiagent_coordinator.workspaces import get_workspace
from aiagent_coordinator.workspaces.base import SealRequest


async def run(record: RunRecord, _context: Context, _control: Control) -> RunRecord:
    """Commit the worktree's state; what cannot be committed fails the run by name."""
    if record.workspace_path is None or record.is_guest or not _ran(record):
        return record.at(Stage.VERIFY)
    prepared = prepared_of(record)
    request = SealRequest(
        run_id=record.run_id,
        task_id=record.task["id"],
        title=record.task["title"],
        body=(record.report or {}).get("summary") or "",
    )
    try:
        sealed = await get_workspace(prepared.kind).seal(prepared, request)
    except WorkspaceError as error:
        if error.details.get("reason") in PASSING:
            raise
        return record.at(Stage.VERIFY, seal_error=error.message, error=error.message)
    failpoints.hit("seal.committed")
    added, deleted = sealed.lines or (None, None)
    return record.at(
        Stage.VERIFY,
        sealed_commit=sealed.commit,
        sealed_changed=sealed.changed,
        sealed_files=sealed.files,
        lines_added=added,
        lines_deleted=deleted,
    )


def _ran(record: RunRecord) -> bool:
    """Whether a CLI may have touched the workspace: when in doubt, yes."""
    return record.shim is not None and record.exit_reason not in {"spawn_failed", "not_started"}
