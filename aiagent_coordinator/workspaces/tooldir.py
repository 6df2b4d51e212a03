"""The folder `.aiagent` in a workspace: inputs, artifacts, logs and hand-off, hidden from git."""

from __future__ import annotations

import os
from pathlib import Path

from aiagent_coordinator.errors import PathEscapeError
from aiagent_coordinator.workspaces.base import Reason, refusal
from aiagent_coordinator.workspaces.naming import make_folder, open_folder
from aiagent_coordinator.workspaces.staging import TOOL_DIR

FOLDERS = ("inputs", "artifacts", "logs", "handoff")


def make_tool_dir(workspace: Path) -> Path:
    """Make the folder and what lies in it; existing ones are kept.

    Its own `.gitignore` hides it, so that nothing of the repository's needs to change.

    Raises:
        WorkspaceError: the repository has something else under that name.
    """
    try:
        folder = make_folder(workspace, TOOL_DIR)
        for name in FOLDERS:
            make_folder(folder, name)
        with open_folder(workspace, (TOOL_DIR,)) as handle:
            how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
            with os.fdopen(os.open(".gitignore", how, 0o600, dir_fd=handle), "wb") as file:
                file.write(b"*\n")
    except (PathEscapeError, OSError) as error:
        raise refusal(
            Reason.TOOL_DIR,
            f"{workspace / TOOL_DIR} cannot be made: {error}",
            hint=f"{TOOL_DIR} in a workspace is a folder of the coordinator; remove what is there",
        ) from error
    return folder
