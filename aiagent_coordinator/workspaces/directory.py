"""Kind `directory`: the agent works in the project's own folder.

Nothing of the user's is ever discarded or moved: sealing takes a snapshot under a ref of the run.
A folder that is no repository's top has no commits of ours at all.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from aiagent_coordinator.ids import path_name
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.tasks import Project, WorkspaceKind
from aiagent_coordinator.workspaces.base import Prepared, Reason, Sealed, SealRequest, refusal
from aiagent_coordinator.workspaces.git import Git
from aiagent_coordinator.workspaces.owngit import OwnGit, Record, directory_of, recall
from aiagent_coordinator.workspaces.repository import Checkout, find, project_folder
from aiagent_coordinator.workspaces.seal import seal_directory
from aiagent_coordinator.workspaces.staging import WorkTree, compare, look, named, stage
from aiagent_coordinator.workspaces.threads import in_thread
from aiagent_coordinator.workspaces.tooldir import make_tool_dir
from aiagent_coordinator.workspaces.worktree import is_unchanged


class DirectoryWorkspace:
    """The project's folder itself."""

    async def prepare(
        self,
        project: Project,
        *,
        task_id: str,
        title: str,  # noqa: ARG002 - the protocol's; there is no branch to name
        branch: str | None,  # noqa: ARG002 - the user's branch stays checked out
        run_id: str,  # noqa: ARG002 - nothing is rescued before the run
        state: StateDir,
    ) -> Prepared:
        """Look at the folder and refuse one with changes of the user's; see `Workspace.prepare`."""
        return await in_thread(_prepare, project, task_id, state)

    async def seal(self, prepared: Prepared, request: SealRequest) -> Sealed:
        """Snapshot the folder under a ref of the run; see `Workspace.seal`."""
        return await in_thread(seal_directory, prepared, request)

    async def clean_after_checks(
        self,
        prepared: Prepared,  # noqa: ARG002 - the protocol's
        sealed: Sealed,  # noqa: ARG002 - the protocol's
    ) -> int:
        """Nothing is ever discarded here: 0; `verify_unchanged` says whether checks left something."""
        return 0

    async def verify_unchanged(self, prepared: Prepared, sealed: Sealed) -> bool:
        """Whether the folder still holds the snapshot; False without one."""
        return await in_thread(is_unchanged, prepared, sealed)


def _prepare(project: Project, task_id: str, state: StateDir) -> Prepared:
    path = project_folder(project)
    # Only a repository's top has `.git`; without it no process needs to be started to know.
    found = find(path) if os.path.lexists(path / ".git") else None
    if found is None or found.is_bare or not found.is_top:
        make_tool_dir(path)
        return Prepared(path, WorkspaceKind.DIRECTORY, None, None, None)
    directory = directory_of(state, project.id, task_id)
    earlier = recall(directory)
    own = OwnGit(directory, _record(found, path, task_id, earlier))
    own.refresh()
    with own.fresh_index(found.head) as git:
        own = _inspect(own, found, project, git)
    own.remember(replace(own.record, ready=True))
    make_tool_dir(path)
    return Prepared(path, WorkspaceKind.DIRECTORY, None, found.head, directory)


def _record(found: Checkout, path: Path, task_id: str, earlier: OwnGit | None) -> Record:
    return Record(
        common_dir=str(found.repository.common_dir),
        git_dir=str(found.git_dir),
        object_format=found.repository.object_format,
        path=str(path),
        task=path_name(task_id),
        sealed_tree=None if earlier is None else earlier.record.sealed_tree,
    )


def _inspect(own: OwnGit, found: Checkout, project: Project, git: Git) -> OwnGit:
    """Note what counts as unchanged in this checkout; refuse changes that are not of this task.

    The user's git passed filtered files through their programs and may have moved sub-modules, so
    what they are now is the start that the seal compares with.

    Raises:
        WorkspaceError: there are changes (`dirty`).
    """
    tree = look(own, git)
    entries = tree.entries()
    special = tree.special(entries)
    known = {name: tree.signature(name, entry) for name, entry in special.items()}
    if project.allow_dirty:
        nested = tree.repositories(entries, tree.untracked())
        return OwnGit(own.directory, replace(own.record, known=known, nested=nested))
    own = OwnGit(own.directory, replace(own.record, known=known))
    changes = compare(tree, trusted=special)
    left = [*changes.tracked, *changes.untracked, *_staged(own, found)]
    if left and not _is_own_work(own, look(own, git)):
        raise refusal(
            Reason.DIRTY,
            f"{project.path} has changes that are not committed: {named(set(left))}",
            hint="commit or stash them, or set allow_dirty: true",
            paths=sorted(set(left))[:5],
        )
    return own


def _staged(own: OwnGit, found: Checkout) -> list[str]:
    """Paths whose entry in the user's index differs from HEAD; reads the index, never writes it."""
    if found.head is None or not (found.git_dir / "index").is_file():
        return []
    how = ("--cached", "-z", "--name-only", "--no-ext-diff", "--ignore-submodules=all")
    git = own.git().having(GIT_INDEX_FILE=found.git_dir / "index")
    return git.names("diff-index", *how, found.head)


def _is_own_work(own: OwnGit, tree: WorkTree) -> bool:
    """Whether the changes are exactly what this task's last seal holds, so that nothing can be lost."""
    return own.record.sealed_tree is not None and stage(tree) == own.record.sealed_tree
