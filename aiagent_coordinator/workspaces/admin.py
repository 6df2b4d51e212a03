"""The entry of our worktree under the repository's `worktrees`: found, made, mended.

It is found from the common directory. The worktree's own `.git` file can be rewritten by an agent,
so it is only ever written here, never read.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import threading
import time
from pathlib import Path

from aiagent_coordinator.errors import GitError
from aiagent_coordinator.ids import GENERATED_ID
from aiagent_coordinator.workspaces.base import Reason, refusal
from aiagent_coordinator.workspaces.git import TREE_SECONDS, Git
from aiagent_coordinator.workspaces.naming import make_folder
from aiagent_coordinator.workspaces.owngit import OwnGit

#: What an interrupted merge, rebase, pick or bisect leaves; a new attempt must not continue it.
_OPERATION = (
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "MERGE_AUTOSTASH",
    "AUTO_MERGE",
    "SQUASH_MSG",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "REBASE_HEAD",
    "BISECT_LOG",
    "BISECT_START",
    "BISECT_NAMES",
    "BISECT_TERMS",
    "BISECT_EXPECTED_REV",
    "rebase-merge",
    "rebase-apply",
    "sequencer",
)
#: Where such an operation keeps commits that no branch names.
_OPERATION_COMMITS = (
    "MERGE_HEAD",
    "MERGE_AUTOSTASH",
    "rebase-merge/autostash",
    "rebase-merge/orig-head",
    "rebase-apply/autostash",
    "rebase-apply/orig-head",
)
_OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_SHORT_BYTES = 4096

#: One `git worktree add` at a time in a repository: two trip over each other's half-made entries.
_adding: dict[Path, threading.Lock] = {}
#: git makes an entry in milliseconds; one that is not whole after this long never will be.
HALF_MADE_SECONDS = 60.0
#: Seconds before another try, when another program was in the way.
_PAUSES = (0.05, 0.2, 0.5)


def mend(own: OwnGit) -> Path | None:
    """Return the worktree's admin folder with its two pointers right; None when it has to be made.

    A half-made one is removed. The work tree's files are not touched.

    Raises:
        WorkspaceError: the work tree has a repository of its own at its top.
    """
    dot_git = own.path / ".git"
    if dot_git.is_dir() and not dot_git.is_symlink():
        raise refusal(
            Reason.NESTED_REPOSITORY,
            f"a repository was made in place of the workspace's own: {own.path}",
            hint="move its .git away",
            paths=[".git"],
        )
    admin = locate(own)
    if admin is None:
        return None
    if not _is_whole(admin):
        shutil.rmtree(admin)
        return None
    _replace(admin / "gitdir", f"{dot_git}\n")
    _replace(dot_git, f"gitdir: {admin}\n")
    return admin


def ensure(own: OwnGit, branch: str) -> Path:
    """Return the worktree's admin folder; one that is missing or half made is made anew.

    Raises:
        WorkspaceError: as `mend`.
    """
    admin = mend(own)
    if admin is None:
        _add(own, branch)
        admin = mend(own)
    if admin is None:
        raise GitError(f"git did not register the worktree {own.path}", reason="git_failed")
    return admin


def locate(own: OwnGit) -> Path | None:
    """Find the worktree's admin folder by its path or by our lock; None when there is none."""
    folder = own.repository.common_dir / "worktrees"
    wanted = os.path.realpath(own.path)
    by_lock: Path | None = None
    for admin in sorted(folder.iterdir()) if folder.is_dir() else ():
        if admin.is_symlink():
            continue
        target = _read(admin / "gitdir")
        if target and os.path.realpath(Path(target).parent) == wanted:
            return admin
        if _read(admin / "locked") == _reason(own):
            by_lock = admin
    return by_lock


def head_of(own: OwnGit, admin: Path) -> str | None:
    """The commit the worktree's HEAD stands at."""
    return own.repository.commit(f"worktrees/{admin.name}/HEAD")


def settle(own: OwnGit, admin: Path, *, run_id: str, branch: str, commit: str) -> None:
    """End what was interrupted and put HEAD on the branch.

    Every commit that HEAD or an interrupted operation names, and that is no ancestor of `commit`,
    gets a rescue ref first; `commit` is what the branch stands at. Neither the index nor a file of
    the work tree changes.
    """
    head = f"refs/heads/{branch}"
    is_there = _read(admin / "HEAD") == f"ref: {head}"
    candidates = [None if is_there else head_of(own, admin)]
    candidates += [own.repository.commit(oid) for oid in _operation_commits(admin)]
    for lost in dict.fromkeys(candidates):
        if lost is not None and not own.is_ancestor(lost, commit):
            own.repository.rescue(run_id, lost)
    for name in (*_OPERATION, "index.lock", "HEAD.lock"):
        path = admin / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if not is_there:
        own.repository.git.run("symbolic-ref", f"worktrees/{admin.name}/HEAD", head)


def publish_index(git: Git, admin: Path) -> None:
    """Give the worktree the index that `git` uses, so that the agent's git sees a clean tree."""
    git.run("update-index", "-q", "--refresh", seconds=TREE_SECONDS, accept=(0, 1))
    draft = admin / f"index.{secrets.token_hex(4)}"
    shutil.copyfile(git.env["GIT_INDEX_FILE"], draft)
    draft.replace(admin / "index")


def _operation_commits(admin: Path) -> list[str]:
    words = [_read(admin / name) for name in _OPERATION_COMMITS]
    return [oid for text in words for oid in text.split() if _OID.match(oid)]


def _add(own: OwnGit, branch: str) -> None:
    """Let git register the worktree, in an empty folder that then makes way for the real one."""
    # git names the entry after the folder's last name and refuses a folder with files in it.
    folder = make_folder(own.path.parent, ".new") / own.path.name
    shutil.rmtree(folder, ignore_errors=True)
    how = ("--no-checkout", "--lock", "--reason", _reason(own))
    _add_alone(own, *how, str(folder), branch)
    shutil.rmtree(folder)
    _clear_drafts(folder.parent)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def _clear_drafts(folder: Path) -> None:
    """Remove the folders of tasks whose making was killed and that may never be worked on again."""
    # another task may be just making or removing its own: what is missed goes the next time
    with contextlib.suppress(FileNotFoundError):
        for draft in folder.iterdir():
            age = time.time() - draft.lstat().st_mtime
            if GENERATED_ID.match(draft.name) and age > HALF_MADE_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)


def _add_alone(own: OwnGit, *args: str) -> None:
    """Add a worktree while nobody else of this process does, and again if another program did.

    `git worktree add` reads the entries of all worktrees and dies on one that is just being made.
    """
    # setdefault is atomic: a second lock made in between is never used
    alone = _adding.setdefault(own.repository.common_dir, threading.Lock())
    for pause in (*_PAUSES, None):
        try:
            with alone:
                own.repository.git.run("worktree", "add", *args, seconds=TREE_SECONDS)
        except GitError as error:
            if pause is None or error.details.get("reason") != Reason.GIT_FAILED.value:
                raise
            # what the failed try may have left would be refused by the next one
            shutil.rmtree(args[-2], ignore_errors=True)
            _clear_half_made(own.repository.common_dir / "worktrees")
            time.sleep(pause)
        else:
            return


def _clear_half_made(admins: Path) -> None:
    """Remove entries of ours that a crash of the machine left half-made: no git command gets past them.

    Only what has the name of a task, is not whole, and is too old to be just in the making.
    """
    for admin in admins.iterdir() if admins.is_dir() else ():
        # another program may take one away while we look
        with contextlib.suppress(FileNotFoundError):
            age = time.time() - admin.stat().st_mtime
            if GENERATED_ID.match(admin.name) and age > HALF_MADE_SECONDS and not _is_whole(admin):
                shutil.rmtree(admin, ignore_errors=True)


def _is_whole(admin: Path) -> bool:
    # git writes these one after the other: a kill in between leaves an empty one
    return _read(admin / "commondir") != "" and _read(admin / "HEAD") != ""


def _reason(own: OwnGit) -> str:
    return f"aiagent-coordinator: {own.record.task}"


def _read(path: Path) -> str:
    """The text of a small plain file without its final newline; empty when there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return ""
        return os.fsdecode(file.read(_SHORT_BYTES)).rstrip("\n")


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    draft.write_bytes(os.fsencode(text))
    draft.replace(path)
