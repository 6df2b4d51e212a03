"""The user's repository: found, read, and given refs of ours; nothing else in it is written.

Refs that change are those of `refs/aiagent/` and the task's branch, each with the value expected.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiagent_coordinator.errors import GitError
from aiagent_coordinator.ids import path_name
from aiagent_coordinator.tasks import Project
from aiagent_coordinator.workspaces.base import Reason, refusal
from aiagent_coordinator.workspaces.git import Git, environment, user_environment

#: Keeps commits that a seal or a new attempt would otherwise drop from every branch.
RESCUE = "refs/aiagent/rescue"
#: Keeps the snapshots of runs that worked in the user's own checkout.
RUNS = "refs/aiagent/runs"
#: git moves a ref in milliseconds; a lock this old was left by a kill.
_LOCK_SECONDS = 30.0
#: Rescue refs of one run; each holds another commit, so two are already rare.
_RESCUES = 100


@dataclass(frozen=True)
class Repository:
    """A repository by its common directory, the one that all its worktrees share."""

    common_dir: Path
    object_format: str

    @property
    def git(self) -> Git:
        """Git on the user's repository, for refs and objects only."""
        return Git(self.common_dir, environment()).having(GIT_DIR=self.common_dir)

    def commit(self, name: str) -> str | None:
        """The commit a name stands for, or None."""
        done = self.git.run(
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            f"{name}^{{commit}}",
            accept=(0, 1, 128),
        )
        return done.stdout.decode("ascii").strip() or None if done.returncode == 0 else None

    def move(self, ref: str, commit: str, expected: str | None) -> None:
        """Point a ref at a commit if it still has the expected value (None: it does not exist).

        A symbolic ref is replaced, never followed.

        Raises:
            GitError: it has another value by now (`branch_moved`), or cannot be written.
        """
        if commit == expected and not self._is_symbolic(ref):
            return
        self._drop_dead_lock(ref)
        old = expected or "0" * len(commit)
        try:
            self.git.run("update-ref", "--no-deref", "-m", "aiagent-coordinator", ref, commit, old)
        except GitError as error:
            if self.commit(ref) == expected:
                raise
            raise GitError(
                f"{ref} was moved by somebody else",
                hint="it is safe to try again",
                reason=Reason.BRANCH_MOVED.value,
                ref=ref,
            ) from error

    def rescue(self, run_id: str, commit: str) -> str:
        """Keep a commit under a ref of the run and return the ref; the same commit gets one ref."""
        stem = f"{RESCUE}/{path_name(run_id)}"
        for number in range(1, _RESCUES):
            ref = stem if number == 1 else f"{stem}-{number}"
            found = self.commit(ref)
            if found == commit:
                return ref
            if found is None:
                self.move(ref, commit, None)
                return ref
        raise GitError(
            f"there are too many rescue refs under {stem}", reason=Reason.GIT_FAILED.value
        )

    def rescued(self, run_id: str) -> str | None:
        """The first rescue ref of a run, if it has one."""
        ref = f"{RESCUE}/{path_name(run_id)}"
        return ref if self.commit(ref) else None

    def checked_out_at(self, branch: str, *, besides: Path) -> Path | None:
        """Where a branch is checked out, other than in the given worktree."""
        # Read from the files, not from `git worktree list`: that fails as a whole while any other
        # worktree is just being made, or was left half-made by a kill.
        for head, where in self._heads():
            if head == f"refs/heads/{branch}" and not _is_same(where, besides):
                return where
        return None

    def _heads(self) -> Iterator[tuple[str, Path]]:
        """What every worktree, the main one first, has checked out; detached ones are left out."""
        main = self.common_dir.parent if self.common_dir.name == ".git" else self.common_dir
        admins = self.common_dir / "worktrees"
        places = [(self.common_dir / "HEAD", main)]
        if admins.is_dir():
            places += [(admin / "HEAD", _place(admin)) for admin in sorted(admins.iterdir())]
        for file, where in places:
            head = _symbolic(file)
            if head:
                yield head, where

    def refuse_elsewhere(self, branch: str, *, besides: Path) -> None:
        """Refuse a branch that is checked out in another place.

        Raises:
            WorkspaceError: it is; moving it would change that checkout under its user.
        """
        where = self.checked_out_at(branch, besides=besides)
        if where is not None:
            raise refusal(
                Reason.BRANCH_CHECKED_OUT,
                f"the branch {branch} is checked out at {where}",
                hint="check out another branch there, or give the task another branch",
                branch=branch,
                path=str(where),
            )

    def check_branch(self, branch: str) -> None:
        """Refuse a name that git would not take for a branch.

        Raises:
            WorkspaceError: it is none.
        """
        fine = "\0" not in branch and not branch.startswith("-") and branch != "HEAD"
        if not (fine and self.git.has("check-ref-format", f"refs/heads/{branch}")):
            raise refusal(Reason.BAD_BRANCH, f"{branch!r} is no name for a branch")

    def _is_symbolic(self, ref: str) -> bool:
        return self.git.has("symbolic-ref", "--quiet", ref)

    def _drop_dead_lock(self, ref: str) -> None:
        lock = self.common_dir / f"{ref}.lock"
        with contextlib.suppress(OSError):
            if time.time() - lock.lstat().st_mtime > _LOCK_SECONDS:
                lock.unlink()


def _is_same(one: Path | None, other: Path) -> bool:
    return one is not None and os.path.realpath(one) == os.path.realpath(other)


@dataclass(frozen=True)
class Checkout:
    """What lies at a project's path: its repository, its own git directory, its HEAD."""

    repository: Repository
    git_dir: Path
    head: str | None
    is_bare: bool
    is_top: bool


def project_folder(project: Project) -> Path:
    """The project's folder.

    Raises:
        WorkspaceError: it does not exist or is no folder.
    """
    path = Path(project.path)
    if not path.is_dir():
        raise refusal(
            Reason.PATH_MISSING,
            f"the folder of project {project.id} does not exist: {path}",
            hint="correct the project's path",
            path=str(path),
        )
    return path


def find(path: Path) -> Checkout | None:
    """Look at what repository a folder belongs to; None when it belongs to none.

    Raises:
        GitError: there is one, and git cannot read it.
    """
    git = Git(path)
    done = git.run(
        "rev-parse",
        "--path-format=absolute",
        "--is-bare-repository",
        "--show-object-format",
        "--git-common-dir",
        "--absolute-git-dir",
        # The last, because it fails where there is no work tree.
        "--show-toplevel",
        accept=(0, 128),
    )
    facts = os.fsdecode(done.stdout).rstrip("\n").split("\n", 4)
    if len(facts) < 4:
        if b"not a git repository" in done.stderr:
            return None
        words = done.stderr.decode("utf-8", "replace").strip()
        raise GitError(f"the repository at {path} cannot be read: {words}", reason="git_failed")
    bare, object_format, common, git_dir = facts[:4]
    repository = Repository(Path(common), object_format)
    head = git.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}", accept=(0, 1, 128))
    return Checkout(
        repository,
        Path(git_dir),
        head.stdout.decode("ascii").strip() or None,
        is_bare=bare == "true",
        is_top=len(facts) > 4 and os.path.realpath(facts[4]) == os.path.realpath(path),
    )


def require(project: Project) -> Checkout:
    """The repository of a project that needs one.

    Raises:
        WorkspaceError: there is no folder, no repository, or only a bare one.
    """
    path = project_folder(project)
    found = find(path)
    if found is not None and found.is_bare:
        raise refusal(
            Reason.BARE,
            f"the repository at {path} is bare",
            hint="name a checkout of it as the project's path",
        )
    if found is None or not found.is_top:
        raise refusal(
            Reason.NOT_A_REPOSITORY,
            f"{path} is not the top of a git repository",
            hint="run git init there, name the top folder, or set workspace: directory",
            path=str(path),
        )
    return found


def base_of(project: Project, found: Checkout) -> str:
    """The commit that a new branch of the project starts from.

    Raises:
        WorkspaceError: the project's base is unknown, or nothing was ever committed.
    """
    if project.base_ref is None:
        if found.head is None:
            raise refusal(
                Reason.NO_COMMITS,
                f"the repository at {project.path} has no commits yet",
                hint="commit something first",
            )
        return found.head
    commit = found.repository.commit(project.base_ref)
    if commit is None:
        raise refusal(
            Reason.NO_BASE,
            f"the repository at {project.path} has no {project.base_ref!r} to start from",
            hint="correct the project's base_ref, or fetch it",
            base_ref=project.base_ref,
        )
    return commit


def user_values(git_dir: Path) -> dict[str, str]:
    """The user's effective git settings, keys in lower case; the last value of a key counts.

    `git config` only reads; it is the one call that sees the user's own configuration files.
    """
    git = Git(git_dir, {**user_environment(), "GIT_DIR": str(git_dir)})
    values: dict[str, str] = {}
    for item in git.names("config", "--null", "--list", "--includes"):
        key, has_value, value = item.partition("\n")
        values[key] = value if has_value else "true"
    return values


def _symbolic(head: Path) -> str | None:
    """The ref that a HEAD file names; None for a commit, and for what is missing or half-written."""
    try:
        if head.is_symlink():
            return os.fspath(head.readlink())
        text = head.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return text.removeprefix("ref:").strip() if text.startswith("ref:") else None


def _place(admin: Path) -> Path:
    """Where the worktree of an admin directory is."""
    try:
        text = (admin / "gitdir").read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:
        return admin
    return Path(text).parent if text else admin
