"""Where a run works: one module per kind of workspace, imported when it is first asked for.

`get_workspace` is the door; `base` says what every kind does.
"""

from __future__ import annotations

import importlib
from functools import cache

from aiagent_coordinator.tasks import WorkspaceKind
from aiagent_coordinator.workspaces.base import (
    Author,
    Prepared,
    Reason,
    Sealed,
    SealRequest,
    Workspace,
    refusal,
)

__all__ = [
    "WORKSPACES",
    "Author",
    "Prepared",
    "Reason",
    "SealRequest",
    "Sealed",
    "Workspace",
    "get_workspace",
]

#: Module and class of each kind that exists.
WORKSPACES: dict[WorkspaceKind, tuple[str, str]] = {
    WorkspaceKind.WORKTREE: ("aiagent_coordinator.workspaces.worktree", "WorktreeWorkspace"),
    WorkspaceKind.DIRECTORY: ("aiagent_coordinator.workspaces.directory", "DirectoryWorkspace"),
    WorkspaceKind.SCRATCH: ("aiagent_coordinator.workspaces.scratch", "ScratchWorkspace"),
}


@cache
def get_workspace(kind: WorkspaceKind) -> Workspace:
    """Return the workspace of a kind.

    Raises:
        WorkspaceError: this kind is not available yet.
    """
    if kind not in WORKSPACES:
        raise refusal(
            Reason.UNAVAILABLE_KIND,
            f"workspaces of kind {kind.value} are not available yet",
            hint=f"use one of: {', '.join(known.value for known in WORKSPACES)}",
            kind=kind.value,
        )
    module, name = WORKSPACES[kind]
    workspace: Workspace = getattr(importlib.import_module(module), name)()
    return workspace
