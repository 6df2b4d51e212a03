"""Where a CLI is: an absolute path, never one that the agent's own workspace could have put there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aiagent_coordinator.providers.shape import PYTHON_EXECUTABLE, Definition
from aiagent_coordinator.providers.versions import numbers

#: Where installers put programs, below the home (`*`: the newest version), and elsewhere. A service
#: manager's `PATH` names hardly any of them.
_USUAL_HOME = (
    *(".local/bin", ".npm-global/bin", ".volta/bin", ".bun/bin", ".local/share/pnpm", ".cargo/bin"),
    *(".asdf/shims", ".local/share/mise/shims", ".claude/local", ".opencode/bin"),
    *(".nvm/versions/node/*/bin", ".local/share/fnm/node-versions/*/installation/bin"),
)
_USUAL = ("/opt/homebrew/bin", "/usr/local/bin", "/home/linuxbrew/.linuxbrew/bin")


def resolve(
    definition: Definition, path_env: str | None, forbidden: Path, home: str | None = None
) -> Path | None:
    """Find the definition's executable: on the `PATH`, else where installers put it.

    Args:
        definition: Whose executable.
        path_env: The `PATH` the CLI will have; the system's default when None.
        forbidden: The workspace: nothing in it is ever started as a CLI.
        home: The user's home; None: only the `PATH` is looked at.

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
    folders = [
        Path(folder) for folder in safe_path(path_env, forbidden).split(os.pathsep) if folder
    ]
    for folder in (*folders, *_usual_folders(home)):
        found = _accept(folder / executable, forbidden)
        if found:
            return found
    return None


def path_with(path: Path | None, path_env: str) -> str:
    """The `PATH` for a program: its own folder counts too, where its launcher may find its interpreter."""
    if path is None or str(path.parent) in path_env.split(os.pathsep):
        return path_env
    return os.pathsep.join(filter(None, (path_env, str(path.parent))))


def _usual_folders(home: str | None) -> list[Path]:
    if not home or not home.startswith("/"):
        return []
    found: list[Path] = []
    for place in _USUAL_HOME:
        if "*" in place:
            matches = Path(home).glob(place)
            found += sorted(matches, key=lambda one: _version(one, home), reverse=True)
        else:
            found.append(Path(home, place))
    return [*found, *map(Path, _USUAL)]


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


def _version(path: Path, home: str) -> tuple[int, ...]:
    return numbers(str(path.relative_to(home)))
