"""Names of branches and paths below a folder: nothing leads out of it.

Checks and acts go through folder descriptors, so that a link swapped in between is refused too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Generator
from pathlib import Path

from aiagent_coordinator.errors import PathEscapeError
from aiagent_coordinator.ids import path_name, slug

#: Branches of ours lie under this; everything else in a repository belongs to the user.
BRANCH_PREFIX = "aiagent"
#: Longest file name on the file systems in use.
NAME_BYTES = 255
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def branch_name(project_id: str, task_id: str, title: str) -> str:
    """The branch of a task that names none: `aiagent/<project>/<task>-<slug of the title>`."""
    end = slug(title)
    name = path_name(task_id) + (f"-{end}" if end else "")
    return f"{BRANCH_PREFIX}/{path_name(project_id)}/{name}"


def parts(relative: str) -> tuple[str, ...]:
    """Split a relative path with `/` into its names.

    Raises:
        PathEscapeError: it is empty, absolute, holds `.`, `..`, NUL or a name that no file can have.
    """
    names = tuple(relative.split("/"))
    for name in names:
        try:
            size = len(os.fsencode(name))
        except UnicodeEncodeError:
            raise PathEscapeError(f"{relative!r} cannot be a path") from None
        if name in {"", ".", ".."} or "\0" in name or size > NAME_BYTES:
            raise PathEscapeError(f"{relative!r} is no path below its folder")
    return names


def confined(root: Path, relative: str) -> Path:
    """Join a relative path to a folder; what exists of it below the folder holds no link.

    Raises:
        PathEscapeError: the path leads out, or one of its names is a symbolic link.
    """
    path = root
    for name in parts(relative):
        path = path / name
        if path.is_symlink():
            raise PathEscapeError(f"{path} is a symbolic link", path=str(path))
    return path


@contextlib.contextmanager
def open_folder(root: Path, names: tuple[str, ...], *, make: bool = False) -> Generator[int]:
    """Open a folder below `root` name by name without following a link; yields its descriptor.

    Raises:
        PathEscapeError: one of the names is a link or no folder.
        FileNotFoundError: one is missing and `make` is false.
    """
    held = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=held)
            try:
                below = os.open(name, _FOLDER, dir_fd=held)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise PathEscapeError(
                    f"{root / '/'.join(names)} does not stay in its folder: {name} is no plain folder"
                ) from error
            os.close(held)
            held = below
        yield held
    finally:
        os.close(held)


def make_folder(root: Path, relative: str) -> Path:
    """Make a folder (0700) and its parents below `root`; one that exists is kept.

    Raises:
        PathEscapeError: the path leads out, or one of its names is a link or no folder.
    """
    names = parts(relative)
    with open_folder(root, names, make=True):
        return root.joinpath(*names)


def remove(root: Path, relative: str) -> None:
    """Remove a file, link or folder below `root`, and the folders that are then empty.

    Links are removed, never followed. What is already gone is fine.

    Raises:
        PathEscapeError: the path leads out of `root`.
    """
    names = parts(relative.rstrip("/"))
    try:
        with open_folder(root, names[:-1]) as folder:
            info = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                shutil.rmtree(names[-1], dir_fd=folder)
            else:
                os.unlink(names[-1], dir_fd=folder)
    except FileNotFoundError:
        return
    for depth in range(len(names) - 1, 0, -1):
        try:
            with open_folder(root, names[: depth - 1]) as folder:
                os.rmdir(names[depth - 1], dir_fd=folder)
        except (OSError, PathEscapeError):
            return
