"""Kind `worktree`: each task works in a worktree of its own, in the state directory, on its own branch.

A second attempt finds the worktree as the first left it: commits on the branch and uncommitted
files alike. Only what would mislead it is put right: an interrupted merge or rebase, dead locks, a
`.git` file that points elsewhere, a HEAD that is not on the task's branch (its commits get a
rescue ref first).
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from aiagent_coordinator.ids import path_name
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.tasks import Project, WorkspaceKind
from aiagent_coordinator.workspaces import admin as admins
from aiagent_coordinator.workspaces.base import Prepared, Reason, Sealed, SealRequest, refusal
from aiagent_coordinator.workspaces.git import TREE_SECONDS, joined
from aiagent_coordinator.workspaces.naming import branch_name, confined, make_folder, remove
from aiagent_coordinator.workspaces.owngit import OwnGit, Record, directory_of, recall, reopen
from aiagent_coordinator.workspaces.repository import Checkout, base_of, require
from aiagent_coordinator.workspaces.seal import seal_worktree
from aiagent_coordinator.workspaces.staging import compare, look, named
from aiagent_coordinator.workspaces.threads import in_thread
from aiagent_coordinator.workspaces.tooldir import make_tool_dir


class WorktreeWorkspace:
    """Worktrees of the project's repository, made and sealed without running anything of it."""

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
        """Make the task's worktree, or mend the one it has; see `Workspace.prepare`."""
        wanted = branch or None
        default = branch_name(project.id, task_id, title)
        return await in_thread(_prepare, project, task_id, (wanted, default), run_id, state)

    async def seal(self, prepared: Prepared, request: SealRequest) -> Sealed:
        """Commit what the run left on the task's branch; see `Workspace.seal`."""
        return await in_thread(seal_worktree, prepared, request)

    async def clean_after_checks(self, prepared: Prepared, sealed: Sealed) -> int:
        """Undo what the checks left; see `Workspace.clean_after_checks`."""
        return await in_thread(_clean, prepared, sealed)

    async def verify_unchanged(self, prepared: Prepared, sealed: Sealed) -> bool:
        """Whether the worktree holds the sealed commit; see `Workspace.verify_unchanged`."""
        return await in_thread(is_unchanged, prepared, sealed)


async def remove_worktree(prepared: Prepared) -> None:
    """Remove a worktree whose work is all on its branch; the branch stays. Ignored files go.

    Raises:
        WorkspaceError: it holds something that was never sealed (`unsealed`); nothing is removed.
    """
    await in_thread(_remove, prepared)


def is_unchanged(prepared: Prepared, sealed: Sealed) -> bool:
    """Whether the folder holds exactly the sealed commit; False when there is none."""
    if prepared.git_dir is None or sealed.commit is None:
        return False
    own = reopen(prepared)
    with own.fresh_index(sealed.commit) as git:
        return not compare(look(own, git))


def _prepare(
    project: Project,
    task_id: str,
    branches: tuple[str | None, str],
    run_id: str,
    state: StateDir,
) -> Prepared:
    found = require(project)
    directory = directory_of(state, project.id, task_id)
    earlier = recall(directory)
    relative = f"{path_name(project.id)}/{path_name(task_id)}"
    path = confined(state.worktrees, relative)
    branch = _branch(earlier, branches)
    if branch != branches[1]:
        found.repository.check_branch(branch)
    # A half-made worktree never saw an agent and is written anew; every other keeps its files.
    keep = _has_files(path) and (earlier is None or earlier.record.ready)
    own = OwnGit(directory, _record(found, path, task_id, branch))
    own = own.remember(replace(own.record, ready=keep))
    own.refresh()
    make_folder(state.worktrees, relative)
    admins.mend(own)
    own.repository.refuse_elsewhere(branch, besides=path)
    tip = _tip(project, found, branch)
    admin = admins.ensure(own, branch)
    admins.settle(own, admin, run_id=f"{path_name(run_id)}-before", branch=branch, commit=tip)
    with own.fresh_index(tip if keep else None) as git:
        if not keep:
            git.run("read-tree", "--reset", "-u", tip, seconds=TREE_SECONDS)
        admins.publish_index(git, admin)
    make_tool_dir(path)
    own.remember(replace(own.record, ready=True))
    return Prepared(path, WorkspaceKind.WORKTREE, branch, tip, directory)


def _record(found: Checkout, path: Path, task_id: str, branch: str) -> Record:
    return Record(
        common_dir=str(found.repository.common_dir),
        git_dir=str(found.git_dir),
        object_format=found.repository.object_format,
        path=str(path),
        task=path_name(task_id),
        branch=branch,
    )


def _branch(earlier: OwnGit | None, branches: tuple[str | None, str]) -> str:
    """The branch asked for, else the one the task has already, else the default.

    Raises:
        WorkspaceError: the worktree exists, on another branch than the one asked for.
    """
    wanted, default = branches
    present = earlier.record.branch if earlier is not None else None
    if wanted and present and wanted != present:
        raise refusal(
            Reason.BRANCH_DIFFERS,
            f"the task works on {present} already, not on {wanted}",
            hint="set the task's branch back, or make another task",
            branch=present,
        )
    return wanted or present or default


def _tip(project: Project, found: Checkout, branch: str) -> str:
    """The branch's commit; a branch that does not exist starts at the project's base."""
    ref = f"refs/heads/{branch}"
    tip = found.repository.commit(ref)
    if tip is None:
        tip = base_of(project, found)
        found.repository.move(ref, tip, None)
    return tip


def _has_files(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _clean(prepared: Prepared, sealed: Sealed) -> int:
    if sealed.commit is None:
        return 0
    own = reopen(prepared)
    admin = admins.ensure(own, prepared.branch or "")
    with own.fresh_index(sealed.commit) as git:
        changes = compare(look(own, git))
        for name in changes.untracked:
            remove(own.path, name)
        if changes.tracked:
            how = ("checkout-index", "--force", "-z", "--stdin")
            git.run(*how, stdin=joined(changes.tracked), seconds=TREE_SECONDS)
        if changes:
            admins.publish_index(git, admin)
    return len(changes.tracked) + len(changes.untracked)


def _remove(prepared: Prepared) -> None:
    own = None if prepared.git_dir is None else recall(prepared.git_dir)
    if own is None:
        return
    admin = admins.locate(own)
    if prepared.path.is_dir() and not prepared.path.is_symlink():
        own.refresh()
        _refuse_unsealed(own, prepared, admin)
        shutil.rmtree(prepared.path)
    if admin is not None:
        shutil.rmtree(admin)
    own.remember(replace(own.record, ready=False))


def _refuse_unsealed(own: OwnGit, prepared: Prepared, admin: Path | None) -> None:
    tip = own.repository.commit(f"refs/heads/{prepared.branch}")
    head = None if admin is None else admins.head_of(own, admin)
    with own.fresh_index(tip) as git:
        changes = compare(look(own, git))
    left = [*changes.tracked, *changes.untracked]
    if head is not None and (tip is None or not own.is_ancestor(head, tip)):
        left.append(f"commit {head}")
    if left:
        raise refusal(
            Reason.UNSEALED,
            f"the workspace {prepared.path} holds work that is on no branch: {named(left)}",
            hint="commit it, or move it away",
            path=str(prepared.path),
        )
