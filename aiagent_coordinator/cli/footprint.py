"""`doctor --footprint`: everything of ours that lies on this machine for one configuration, with sizes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiagent_coordinator import paths
from aiagent_coordinator.cli import service_files
from aiagent_coordinator.cli.service_manager import Manager
from aiagent_coordinator.wire.process import TimedOut, run_bounded

if TYPE_CHECKING:
    from aiagent_coordinator.config import Loaded

_GIT_SECONDS = 20.0
#: What is ours in a repository of the user's.
_REFS = ("refs/heads/aiagent/", "refs/aiagent/")
_SERVICE = "aiagent-coordinator"


@dataclass(frozen=True)
class Trace:
    """One thing of ours: a path, or a name in a repository."""

    kind: str
    place: str
    #: Of what lies there; 0 for a name in a repository, whose content is that of its commits.
    size_bytes: int = 0


def footprint(loaded: Loaded) -> Iterator[Trace]:
    """Everything of this configuration that exists now."""
    state = loaded.state_dir
    yield from _path("state", state.root)
    yield from _path("logs", loaded.settings.log_directory)
    for file in (loaded.socket, paths.door_of(loaded.socket), *loaded.pointer_files):
        yield from _path("runtime", file)
    for run in _names(state.runs):
        for folder in {tempfile.gettempdir(), "/tmp"}:  # noqa: S108 - looked at, not written
            yield from _path("temporary", Path(folder) / paths.run_temp_name(run))
    unit = Manager.of(None, _SERVICE).file
    if os.path.lexists(unit) and service_files.look(unit).whose.name in {"OURS", "EDITED"}:
        yield from _path("service", unit)
    yield from _path("settings", paths.user_config_dir())
    for project in loaded.settings.projects:
        if project.path is not None and project.workspace == "worktree":
            yield from _repository(project.path, state.root)


def _path(kind: str, path: Path | None) -> Iterator[Trace]:
    if path is not None and os.path.lexists(path):
        yield Trace(kind, str(path), _size(path))


def _size(path: Path) -> int:
    """Bytes on the disk, links not followed; what goes meanwhile counts nothing."""
    total = 0
    folders = [path]
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_blocks * 512
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
    except OSError:
        pass
    return total


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return []


def _repository(path: Path, state: Path) -> Iterator[Trace]:
    """Branches, refs and registered worktrees of ours in a repository of the user's."""
    for ref in _git(path, "for-each-ref", "--format=%(refname)", *_REFS).split():
        yield Trace("branch" if ref.startswith("refs/heads/") else "ref", f"{path}: {ref}")
    real = os.path.realpath(state)
    for line in _git(path, "worktree", "list", "--porcelain").splitlines():
        place = line.removeprefix("worktree ")
        if place != line and Path(os.path.realpath(place)).is_relative_to(real):
            yield Trace("worktree", f"{path}: {place}")


def _git(path: Path, *words: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    argv = ["git", "-C", str(path), "-c", "core.fsmonitor=false", *words]
    try:
        done = run_bounded(argv, env=clean, timeout_seconds=_GIT_SECONDS)
    except (OSError, TimedOut):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
