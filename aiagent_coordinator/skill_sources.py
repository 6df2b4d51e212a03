"""Where skills come from on this machine: a folder, a ZIP archive, or one text. Everything here blocks.

What an agent names is read inside one folder alone, step by step from it: a link on the way, in
whatever moment it is put there, is never followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from aiagent_coordinator.errors import ForbiddenError, NotFoundError, ValidationError
from aiagent_coordinator.skill_archives import read_archive
from aiagent_coordinator.skills import (
    GUIDE,
    MAX_ARCHIVE_BYTES,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_FILES,
    File,
    checked,
)

#: Never part of a skill: what git and we keep beside the files, and what a Mac leaves.
_LEFT_OUT: Final = frozenset({".git", ".aiagent", ".DS_Store", "__pycache__"})
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def from_text(text: str) -> dict[str, File]:
    """A skill that is its guide alone.

    Raises:
        ValidationError: there is nothing in it.
    """
    if not text.strip():
        raise ValidationError("the guide is empty")
    return checked({GUIDE: File(text.encode("utf-8", "replace"))})


def from_path(path: Path) -> dict[str, File]:
    """A skill that a person or the configuration names: a folder, or an archive.

    Raises:
        NotFoundError: there is nothing, or nothing that can be read.
        ValidationError: it is no skill.
    """
    try:
        path = path.resolve(strict=True)
        if path.is_dir():
            with _opened(str(path), None, os.O_DIRECTORY) as folder:
                return checked(_tree(folder))
        with _opened(str(path), None) as file:
            return read_archive(_content(file, MAX_ARCHIVE_BYTES, path.name))
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror or error}") from error


def inside(root: Path, named: str, *, is_folder: bool) -> dict[str, File]:
    """A skill that an agent names, inside a folder that it may name things in.

    Args:
        root: That folder; trusted.
        named: Relative to it, or absolute and below it.
        is_folder: Whether a folder is meant; else an archive.

    Raises:
        ForbiddenError: it lies elsewhere, or the way there leads over a link.
        NotFoundError: there is nothing.
        ValidationError: it is no skill.
    """
    parts = _parts(root, named)
    try:
        with (
            _opened(str(root), None, os.O_DIRECTORY) as top,
            _walked(top, parts, is_folder=is_folder) as found,
        ):
            if is_folder:
                return checked(_tree(found, alone=True))
            return read_archive(_content(found, MAX_ARCHIVE_BYTES, named, alone=True))
    except FileNotFoundError:
        raise NotFoundError(f"there is no {named[:200]!r} in your workspace") from None
    except OSError as error:
        # a link (ELOOP), a file where a folder should be, or a mode that keeps us out
        raise ForbiddenError(
            f"{named[:200]!r} cannot be read: {error.strerror}",
            hint="name a plain file or folder of your workspace, or give skill_md_content",
        ) from None


def _parts(root: Path, named: str) -> list[str]:
    path = PurePosixPath(named)
    if path.is_absolute():
        for top in (root, root.resolve()):
            if path.is_relative_to(str(top)):
                path = path.relative_to(str(top))
                break
    if path.is_absolute() or ".." in path.parts:
        raise ForbiddenError(
            f"{named[:200]!r} is not in your workspace", hint="name a path inside of it"
        )
    return [part for part in path.parts if part not in {"", "."}]


@contextmanager
def _walked(top: int, parts: list[str], *, is_folder: bool) -> Generator[int]:
    """The file or folder at the end of a way, each step taken from the one before."""
    if not parts:
        yield top
        return
    first, rest = parts[0], parts[1:]
    flags = os.O_DIRECTORY if rest or is_folder else 0
    with _opened(first, top, flags) as found:
        if rest:
            with _walked(found, rest, is_folder=is_folder) as last:
                yield last
        else:
            yield found


@contextmanager
def _opened(name: str, folder: int | None, flags: int = 0) -> Generator[int]:
    descriptor = os.open(name, _OPEN | flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _tree(top: int, *, alone: bool = False) -> dict[str, File]:
    """Every file below a folder.

    Raises:
        ValidationError: there is another thing than files and folders, or far too much.
    """
    found: dict[str, File] = {}
    left = MAX_BYTES
    for path, descriptor in _files(top, "", MAX_DEPTH):
        content = _content(descriptor, left, path, alone=alone)
        left -= len(content)
        mode = os.fstat(descriptor).st_mode
        found[path] = File(content, bool(mode & stat.S_IXUSR))
        if len(found) > MAX_FILES:
            raise ValidationError(f"it has more than {MAX_FILES} files")
    return found


def _files(folder: int, before: str, depth: int) -> Iterator[tuple[str, int]]:
    """Paths and open files below a folder; a link or a device is refused, not passed over."""
    if depth == 0:
        raise ValidationError(f"{before[:200]!r} is too deep")
    names = sorted(os.listdir(folder))
    if len(names) > MAX_FILES:
        raise ValidationError(f"it has more than {MAX_FILES} files")
    for name in names:
        if name in _LEFT_OUT:
            continue
        path = f"{before}{name}"
        kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(kind):
            with _opened(name, folder, os.O_DIRECTORY) as inner:
                yield from _files(inner, f"{path}/", depth - 1)
        elif stat.S_ISREG(kind):
            with _opened(name, folder) as file:
                yield path, file
        else:
            raise ValidationError(
                f"{path[:200]!r} is a link, a device or another thing than a file"
            )


def _content(descriptor: int, limit: int, name: str, *, alone: bool = False) -> bytes:
    """Read a file that is one, as far as it is not too large.

    Args:
        descriptor: The file.
        limit: Its most bytes.
        name: What it is called in errors.
        alone: Refuse one with a second name: that may stand outside of where we may read.
    """
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        raise ValidationError(f"{name[:200]!r} is no file")
    if alone and info.st_nlink > 1:
        raise ForbiddenError(f"{name[:200]!r} has another name elsewhere: it is a hard link")
    with os.fdopen(os.dup(descriptor), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValidationError(f"{name[:200]!r} makes it larger than it may be")
    return content
