"""Kind `scratch`: a task of a project without a repository gets a fresh, empty one of its own.

It lies in the state directory and stays there; the agent works in a worktree of it, like everywhere.
"""

from __future__ import annotations

from dataclasses import replace

from aiagent_coordinator.ids import path_name
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.tasks import Project, WorkspaceKind
from aiagent_coordinator.workspaces.base import Prepared
from aiagent_coordinator.workspaces.git import Git
from aiagent_coordinator.workspaces.naming import make_folder
from aiagent_coordinator.workspaces.threads import in_thread
from aiagent_coordinator.workspaces.worktree import WorktreeWorkspace

#: Checked out in the repository itself; a name that no task wants to work on.
_BRANCH = "aiagent-empty"


class ScratchWorkspace(WorktreeWorkspace):
    """Worktrees of repositories that we make."""

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
        """Make the task's repository, then its worktree; see `Workspace.prepare`."""
        path = await in_thread(_make_repository, project, task_id, state)
        prepared = await super().prepare(
            replace(project, path=path, base_ref=None),
            task_id=task_id,
            title=title,
            branch=branch,
            run_id=run_id,
            state=state,
        )
        return replace(prepared, kind=WorkspaceKind.SCRATCH)


def _make_repository(project: Project, task_id: str, state: StateDir) -> str:
    """Make a repository with one empty commit; a second entry finds it, or finishes it."""
    relative = f"scratch/{path_name(project.id)}/{path_name(task_id)}"
    folder = make_folder(state.root, relative)
    git = Git(folder)
    git.run("init", "--quiet", "--template=", f"--initial-branch={_BRANCH}")
    if not git.has("rev-parse", "--verify", "--quiet", "HEAD"):
        tree = git.line("hash-object", "-t", "tree", "-w", "--stdin")
        commit = git.line("commit-tree", tree, "-m", "Begin with nothing")
        git.run("update-ref", f"refs/heads/{_BRANCH}", commit)
    return str(folder)
