"""What a workspace is to the rest of the program: values and one protocol. No I/O.

A workspace is the folder one run works in. Every operation may be entered again after a kill at
any point and then finishes the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from aiagent_coordinator.errors import WorkspaceError
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.tasks import Project, WorkspaceKind


class Reason(StrEnum):
    """Why a workspace was refused; stands in the error's `details["reason"]`."""

    PATH_MISSING = "path_missing"
    NOT_A_REPOSITORY = "not_a_repository"
    BARE = "bare"
    NO_COMMITS = "no_commits"
    NO_BASE = "no_base"
    BAD_BRANCH = "bad_branch"
    BRANCH_CHECKED_OUT = "branch_checked_out"
    BRANCH_DIFFERS = "branch_differs"
    BRANCH_MOVED = "branch_moved"
    DIRTY = "dirty"
    TOOL_DIR = "tool_dir"
    WORKSPACE_MISSING = "workspace_missing"
    NESTED_REPOSITORY = "nested_repository"
    FILTERED_CHANGED = "filtered_changed"
    SUBMODULE_CHANGED = "submodule_changed"
    UNSEALED = "unsealed"
    RUNS_UNASKED = "runs_unasked"
    UNAVAILABLE_KIND = "unavailable_kind"
    GIT_FAILED = "git_failed"
    GIT_MISSING = "git_missing"
    TIMED_OUT = "timed_out"


def refusal(reason: Reason, message: str, *, hint: str = "", **details: object) -> WorkspaceError:
    """Build the error that names why a workspace cannot be used."""
    return WorkspaceError(message, hint=hint, reason=reason.value, **details)


@dataclass(frozen=True)
class Author:
    """Who our commits name as author and committer."""

    name: str = "aiagent-coordinator"
    email: str = "aiagent@localhost"


@dataclass(frozen=True)
class Prepared:
    """A folder that is ready for a run.

    Attributes:
        path: Where the agent works.
        kind: How the folder was made.
        branch: The task's branch; None for kind `directory`.
        base_commit: What the run started from: the branch's tip, or the checkout's HEAD; None
            without a repository or without commits.
        git_dir: Our own git directory for this task; None without a repository.
    """

    path: Path
    kind: WorkspaceKind
    branch: str | None
    base_commit: str | None
    git_dir: Path | None

    def to_json(self) -> dict[str, str | None]:
        """The same as plain values, for a journal."""
        return {
            "path": str(self.path),
            "kind": self.kind.value,
            "branch": self.branch,
            "base_commit": self.base_commit,
            "git_dir": None if self.git_dir is None else str(self.git_dir),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, str | None]) -> Prepared:
        """Rebuild what `to_json` wrote."""
        git_dir = values["git_dir"]
        return cls(
            path=Path(values["path"] or ""),
            kind=WorkspaceKind(values["kind"]),
            branch=values["branch"],
            base_commit=values["base_commit"],
            git_dir=None if git_dir is None else Path(git_dir),
        )


@dataclass(frozen=True)
class SealRequest:
    """What the sealed commit says: title, body, and the trailers `Task-Id` and `Run-Id`."""

    run_id: str
    task_id: str
    title: str
    body: str = ""
    author: Author = Author()


@dataclass(frozen=True)
class Sealed:
    """The commit that holds everything a run left.

    Attributes:
        commit: The sealed commit; None without a repository, or with nothing in it at all.
        branch: The branch that names it; None for kind `directory`.
        changed: Whether sealing made a commit; False when the agent left nothing uncommitted.
        files: Files that differ between the run's base and the sealed commit.
        rescued_ref: Ref that keeps commits which are no ancestors of the sealed one.
        lines: Lines added and deleted between the two, of text files; None where that is not known.
    """

    commit: str | None
    branch: str | None
    changed: bool
    files: int
    rescued_ref: str | None
    lines: tuple[int, int] | None = None


class Workspace(Protocol):
    """One kind of workspace. Git work runs in threads, each call under its own deadline."""

    async def prepare(
        self,
        project: Project,
        *,
        task_id: str,
        title: str,
        branch: str | None,
        run_id: str,
        state: StateDir,
    ) -> Prepared:
        """Make the folder ready, or mend what an earlier attempt or a kill left.

        Raises:
            WorkspaceError: it cannot be used; `details["reason"]` is a `Reason`.
        """
        ...

    async def seal(self, prepared: Prepared, request: SealRequest) -> Sealed:
        """Put everything the run left into one commit. No process of the run may be alive.

        Raises:
            WorkspaceError: something cannot be committed without losing it, by name.
        """
        ...

    async def clean_after_checks(self, prepared: Prepared, sealed: Sealed) -> int:
        """Bring the folder back to the sealed commit; return how many files were put right.

        Ignored files stay. Kind `directory` never discards anything and returns 0.
        """
        ...

    async def verify_unchanged(self, prepared: Prepared, sealed: Sealed) -> bool:
        """Whether the folder still holds exactly the sealed commit; False when there is none."""
        ...
