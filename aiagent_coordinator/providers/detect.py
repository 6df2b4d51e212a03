"""Where a CLI is: an absolute path, never one that the agent's own workspace could have put there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aiagent_coordinator.providers.shape import PYTHON_EXECUTABLE, Definition


def resolve(definition: Definition, path_env: str | None, forbidden: Path) -> Path | None:
    """Find the definition's executable.

    Args:
        definition: Whose executable.
        path_env: The `PATH` the CLI will have; the system's default when None.
        forbidden: The workspace: nothing in it is ever started as a CLI.

    Returns:
        An absolute path to an executable file, links not followed (some programs read their own
        name); None when there is none.
    """
    executable = definition.detect.executable
    if executable == PYTHON_EXECUTABLE:
        # ourselves: whoever could have replaced this file has replaced us already
        return Path(sys.executable)
    if "/" in executable:
        return _accept(Path(executable), forbidden)
    for folder in safe_path(path_env, forbidden).split(os.pathsep):
        found = _accept(Path(folder) / executable, forbidden) if folder else None
        if found:
            return found
    return None


def safe_path(path_env: str | None, forbidden: Path) -> str:
    """A `PATH` without what depends on the current folder and without the workspace's own folders."""
    folders = (os.defpath if path_env is None else path_env).split(os.pathsep)
    kept = [f for f in folders if f.startswith("/") and not _is_inside(Path(f), forbidden)]
    return os.pathsep.join(kept)


def _accept(path: Path, forbidden: Path) -> Path | None:
    if not path.is_absolute() or not path.is_file() or not os.access(path, os.X_OK):
        return None
    return None if _is_inside(path, forbidden) else path


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder, as it is written or as its links lead."""
    written = Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder))
    return written or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
