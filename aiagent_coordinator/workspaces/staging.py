"""What a work tree holds, compared with a commit or put into a tree; no filter and no hook runs.

Three things cannot be committed without losing something, and are refused by name: a repository
made inside the work tree, a changed file that git would pass through a filter, and a sub-module
that was moved to another commit.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiagent_coordinator.workspaces.base import Reason, refusal
from aiagent_coordinator.workspaces.git import SCAN_SECONDS, TREE_SECONDS, Git, joined
from aiagent_coordinator.workspaces.owngit import OwnGit

#: The folder for inputs, logs and the like of ours; nothing in it is ever committed by us.
TOOL_DIR = ".aiagent"
_GITLINK = "160000"
#: A pointer of git-lfs is below 1024 bytes. Source: github.com/git-lfs/git-lfs docs/spec.md
_POINTER_BYTES = 1024
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-.*\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize [0-9]+\n\Z"
)
_BLOCK = 1 << 20
#: How many names an error lists.
_NAMED = 5


@dataclass(frozen=True)
class Entry:
    """One path of an index."""

    mode: str
    oid: str


@dataclass(frozen=True)
class WorkTree:
    """A work tree seen through a fresh index.

    Attributes:
        known: Signatures of filtered files and sub-modules that count as unchanged.
        nested: Repositories that were there before the run; they are left out.
    """

    git: Git
    path: Path
    object_format: str
    known: Mapping[str, str] = field(default_factory=dict[str, str])
    nested: tuple[str, ...] = ()

    @property
    def scope(self) -> tuple[str, ...]:
        """The paths we look at: all but our own folder and what was never part of the work."""
        out = (TOOL_DIR, *self.nested)
        return ("--", ".", *(f":(top,exclude,literal){name}" for name in out))

    def entries(self) -> dict[str, Entry]:
        """What the index holds."""
        found: dict[str, Entry] = {}
        for line in self.git.names("ls-files", "-s", "-z"):
            facts, _, name = line.partition("\t")
            mode, oid, _stage = facts.split(" ")
            found[name] = Entry(mode, oid)
        return found

    def untracked(self) -> list[str]:
        """Files that are neither in the index nor ignored; a repository's name ends with `/`."""
        return self.git.names("ls-files", "-z", "--others", "--exclude-standard", *self.scope)

    def modified(self) -> list[str]:
        """Files of the index that are changed or gone."""
        self.git.run("update-index", "-q", "--refresh", seconds=TREE_SECONDS, accept=(0, 1))
        how = ("-z", "--name-only", "--no-ext-diff", "--ignore-submodules=all")
        return self.git.names("diff-files", *how, *self.scope, seconds=TREE_SECONDS)

    def hold(self, names: Iterable[str]) -> None:
        """Keep the index's entries of these paths, whatever the work tree holds."""
        self._mark("--assume-unchanged", names)

    def unhold(self, names: Iterable[str]) -> None:
        """Look at these paths again."""
        self._mark("--no-assume-unchanged", names)

    def _mark(self, how: str, names: Iterable[str]) -> None:
        data = joined(sorted(names))
        if data:
            self.git.run("update-index", how, "-z", "--stdin", stdin=data, seconds=SCAN_SECONDS)

    def filtered(self, names: Iterable[str]) -> set[str]:
        """Those of the paths that git would pass through a filter program.

        Both the attributes in the index and those in the work tree count: taking an attribute away
        must not put a decrypted file into a commit.
        """
        data = joined(sorted(names))
        found: set[str] = set()
        if not data:
            return found
        for source in ((), ("--cached",)):
            words = self.git.run(
                "check-attr", *source, "-z", "--stdin", "filter", stdin=data, seconds=SCAN_SECONDS
            ).stdout.split(b"\0")
            for name, value in zip(words[::3], words[2::3], strict=False):
                if value not in {b"unspecified", b"unset", b"set"}:
                    found.add(os.fsdecode(name))
        return found

    def special(
        self, entries: Mapping[str, Entry], filtered: Collection[str] | None = None
    ) -> dict[str, Entry]:
        """Filtered files and sub-modules of the index that the work tree still has."""
        if filtered is None:
            filtered = self.filtered(entries)
        return {
            name: entry
            for name, entry in entries.items()
            if (entry.mode == _GITLINK or (name in filtered and entry.mode.startswith("100")))
            and self._is_there(name, entry)
        }

    def _is_there(self, name: str, entry: Entry) -> bool:
        try:
            mode = (self.path / name).lstat().st_mode
        except OSError:
            return False
        return stat.S_ISDIR(mode) if entry.mode == _GITLINK else stat.S_ISREG(mode)

    def signature(self, name: str, entry: Entry) -> str:
        """What a filtered file or sub-module is now, without reading the file."""
        path = self.path / name
        if entry.mode == _GITLINK:
            return self._head_of(path) or entry.oid
        info = path.lstat()
        return f"{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}:{info.st_ino}"

    def changed(self, special: Mapping[str, Entry]) -> list[str]:
        """Those of the filtered files and sub-modules that are not what the index or the start says."""
        doubtful: dict[str, Entry] = {}
        moved: list[str] = []
        for name, entry in special.items():
            if entry.mode == _GITLINK:
                now = self.signature(name, entry)
                if now not in {entry.oid, self.known.get(name)}:
                    moved.append(name)
            elif not self._is_as_known(name, entry):
                doubtful[name] = entry
        pointers = self._pointers({entry.oid for entry in doubtful.values()})
        for name, entry in doubtful.items():
            content = pointers.get(entry.oid)
            if content is None or _digest(self.path / name, "sha256", blob=False) != content:
                moved.append(name)
        return sorted(moved)

    def _is_as_known(self, name: str, entry: Entry) -> bool:
        if self.known.get(name) == self.signature(name, entry):
            return True
        return _digest(self.path / name, self.object_format, blob=True) == entry.oid

    def _pointers(self, oids: set[str]) -> dict[str, str]:
        """For blobs that are pointers of git-lfs: the sha256 of what they stand for."""
        found: dict[str, str] = {}
        for oid in oids:
            if int(self.git.line("cat-file", "-s", oid)) < _POINTER_BYTES:
                match = _POINTER.match(self.git.run("cat-file", "blob", oid).stdout)
                if match:
                    found[oid] = match[1].decode("ascii")
        return found

    def _head_of(self, folder: Path) -> str | None:
        """The commit a sub-module stands at; None when it was never filled."""
        git_file = folder / ".git"
        if not git_file.exists():
            return None
        git = Git(self.path).having(GIT_DIR=git_file)
        done = git.run("rev-parse", "--verify", "--quiet", "HEAD", accept=(0, 1, 128))
        return done.stdout.decode("ascii").strip() or None if done.returncode == 0 else None

    def repositories(self, entries: Mapping[str, Entry], untracked: Iterable[str]) -> list[str]:
        """Repositories inside the work tree, other than sub-modules, that hold files we would commit."""
        others = list(untracked)
        links = {name for name, entry in entries.items() if entry.mode == _GITLINK}
        found = {name.rstrip("/") for name in others if name.endswith("/")}
        folders = {
            str(parent)
            for name in (*(set(entries) - links), *others)
            for parent in Path(name.rstrip("/")).parents
        } - {"."}
        real = {"."}
        for folder in sorted(folders, key=lambda name: name.count("/")):
            if str(Path(folder).parent) in real and _is_folder(self.path / folder):
                real.add(folder)
                if os.path.lexists(self.path / folder / ".git"):
                    found.add(folder)
        return sorted(found - links - set(self.nested))


def look(own: OwnGit, git: Git) -> WorkTree:
    """The work tree of a task through an index."""
    record = own.record
    return WorkTree(git, own.path, record.object_format, record.known, tuple(record.nested))


def stage(tree: WorkTree) -> str:
    """Put everything that is not ignored into the index and return its tree.

    Raises:
        WorkspaceError: something cannot be committed without losing it.
    """
    entries = tree.entries()
    untracked = tree.untracked()
    _refuse(
        Reason.NESTED_REPOSITORY,
        tree.repositories(entries, untracked),
        "a repository was made inside the workspace",
        "move its files out of it, or remove its .git",
    )
    filtered = tree.filtered([*entries, *untracked])
    special = tree.special(entries, filtered)
    changed = tree.changed(special)
    _refuse(
        Reason.SUBMODULE_CHANGED,
        [name for name in changed if special[name].mode == _GITLINK],
        "a sub-module stands at another commit",
        "commit and push it where it belongs, then name the commit in the parent repository",
    )
    _refuse(
        Reason.FILTERED_CHANGED,
        [*changed, *sorted(filtered.intersection(untracked))],
        "a file that git passes through a filter was changed",
        "filters of the repository are never run here; leave these files as they are",
    )
    tree.hold(special)
    tree.git.run("add", "-A", *tree.scope, seconds=TREE_SECONDS)
    written = tree.git.line("write-tree", seconds=SCAN_SECONDS)
    tree.unhold(special)
    return written


@dataclass(frozen=True)
class Changes:
    """How a work tree differs from a commit."""

    tracked: tuple[str, ...]
    untracked: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.tracked or self.untracked)


def compare(tree: WorkTree, *, trusted: Mapping[str, Entry] | None = None) -> Changes:
    """Say how the work tree differs from the index; nothing is written into the repository.

    Args:
        tree: The work tree; its index gets file times.
        trusted: Filtered files and sub-modules, when they count as unchanged; else they are looked at.
    """
    special = tree.special(tree.entries()) if trusted is None else trusted
    changed = tree.changed(special) if trusted is None else []
    tree.hold(special)
    modified = tree.modified()
    tree.unhold(special)
    return Changes(tuple(sorted({*modified, *changed})), tuple(tree.untracked()))


def named(names: Iterable[str]) -> str:
    """A short list of names for a message."""
    listed = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more


def _refuse(reason: Reason, names: list[str], message: str, hint: str) -> None:
    if names:
        raise refusal(reason, f"{message}: {named(names)}", hint=hint, paths=names[:_NAMED])


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _digest(path: Path, algorithm: str, *, blob: bool) -> str | None:
    """Hash a plain file, as git names a blob or as it is; None when it is none."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            return None
        if blob:
            digest.update(b"blob %d\0" % info.st_size)
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
