"""Sealing: everything a run left becomes one commit, under a ref that was expected to be where it was.

Every step may be entered again: the tree is computed anew, a commit that is already there is
recognised by its trailer and tree, refs move only from the value that was read.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from aiagent_coordinator.errors import GitError
from aiagent_coordinator.ids import path_name
from aiagent_coordinator.workspaces import admin as admins
from aiagent_coordinator.workspaces.base import Prepared, Reason, Sealed, SealRequest, refusal
from aiagent_coordinator.workspaces.owngit import OwnGit, reopen
from aiagent_coordinator.workspaces.repository import RUNS, Repository
from aiagent_coordinator.workspaces.staging import look, stage

#: A call that outlived a killed coordinator may still move the branch once.
_TRIES = 3


def seal_worktree(prepared: Prepared, request: SealRequest) -> Sealed:
    """Seal a worktree on its task's branch.

    Raises:
        WorkspaceError: see `stage`; or the branch is checked out elsewhere, where moving it would
            change that checkout (the work is then on a rescue ref).
    """
    for _ in range(_TRIES - 1):
        try:
            return _seal_worktree(prepared, request)
        except GitError as error:
            if error.details.get("reason") != Reason.BRANCH_MOVED.value:
                raise
    return _seal_worktree(prepared, request)


def _seal_worktree(prepared: Prepared, request: SealRequest) -> Sealed:
    own = reopen(prepared)
    branch = prepared.branch or ""
    repository = own.repository
    ref = f"refs/heads/{branch}"
    tip = repository.commit(ref)
    if tip is None and prepared.base_commit is not None:
        repository.move(ref, prepared.base_commit, None)
        tip = prepared.base_commit
    admin = admins.ensure(own, branch)
    head = admins.head_of(own, admin)
    parent = _parent(own, prepared.base_commit, head, tip)
    with own.fresh_index(parent) as git:
        tree = stage(look(own, git))
        commit = _commit(own, request, tree, parent, done=tip)
        if commit is None:
            raise refusal(Reason.NO_COMMITS, f"the branch {branch} has no commits")
        _refuse_elsewhere(own, request, branch, commit)
        if tip != parent:
            _rescue(own, request.run_id, tip, commit)
        repository.move(ref, commit, tip)
        admins.publish_index(git, admin)
    admins.settle(own, admin, run_id=request.run_id, branch=branch, commit=commit)
    return Sealed(
        commit=commit,
        branch=branch,
        changed=own.run_of(commit) == request.run_id,
        files=own.count_files(prepared.base_commit, commit),
        rescued_ref=repository.rescued(request.run_id),
        lines=own.count_lines(prepared.base_commit, commit),
    )


def seal_directory(prepared: Prepared, request: SealRequest) -> Sealed:
    """Snapshot a checkout under a ref of the run; its HEAD, index and branches stay where they are.

    Raises:
        WorkspaceError: see `stage`.
    """
    if prepared.git_dir is None:
        return Sealed(commit=None, branch=None, changed=False, files=0, rescued_ref=None)
    own = reopen(prepared)
    ref = f"{RUNS}/{path_name(request.run_id)}"
    head = Repository(Path(own.record.git_dir), own.record.object_format).commit("HEAD")
    earlier = own.repository.commit(ref)
    with own.fresh_index(head) as git:
        tree = stage(look(own, git))
        commit = _commit(own, request, tree, head, done=earlier)
    if commit is None:
        return Sealed(commit=None, branch=None, changed=False, files=0, rescued_ref=None)
    _rescue(own, request.run_id, earlier, commit)
    own.repository.move(ref, commit, earlier)
    own.remember(replace(own.record, sealed_tree=tree))
    return Sealed(
        commit=commit,
        branch=None,
        changed=own.run_of(commit) == request.run_id,
        files=own.count_files(prepared.base_commit, commit),
        rescued_ref=own.repository.rescued(request.run_id),
        lines=own.count_lines(prepared.base_commit, commit),
    )


def message(request: SealRequest) -> str:
    """The message of a sealed commit: title on one line, body, trailers in a paragraph of their own."""
    title = " ".join(request.title.split()) or f"Work on {request.task_id}"
    ids = [re.sub(r"\s+", " ", text) for text in (request.task_id, request.run_id)]
    trailers = f"Task-Id: {ids[0]}\nRun-Id: {ids[1]}"
    body = request.body.strip()
    return "\n\n".join(part for part in (title, body, trailers) if part).replace("\0", "") + "\n"


def _parent(own: OwnGit, base: str | None, head: str | None, tip: str | None) -> str | None:
    """The worktree's HEAD if it descends from where the run started, else the branch."""
    if head is not None and (base is None or own.is_ancestor(base, head)):
        return head
    return tip


def _commit(
    own: OwnGit, request: SealRequest, tree: str, parent: str | None, *, done: str | None
) -> str | None:
    """The commit that holds the tree: one sealed before the kill, the parent itself, or a new one."""
    if parent is not None and own.tree_of(parent) == tree:
        return parent
    if done not in {None, parent} and _is_sealed(own, done or "", tree, request.run_id):
        return done
    if parent is None and not own.git().names("ls-tree", "-z", tree):
        return None
    parents = () if parent is None else ("-p", parent)
    text = message(request).encode("utf-8", "replace")
    return own.git(request.author).line("commit-tree", tree, *parents, "-F", "-", stdin=text)


def _is_sealed(own: OwnGit, commit: str, tree: str, run_id: str) -> bool:
    return own.tree_of(commit) == tree and own.run_of(commit) == run_id


def _rescue(own: OwnGit, run_id: str, lost: str | None, commit: str) -> None:
    if lost is not None and not own.is_ancestor(lost, commit):
        own.repository.rescue(run_id, lost)


def _refuse_elsewhere(own: OwnGit, request: SealRequest, branch: str, commit: str) -> None:
    where = own.repository.checked_out_at(branch, besides=own.path)
    if where is not None:
        kept = own.repository.rescue(request.run_id, commit)
        raise refusal(
            Reason.BRANCH_CHECKED_OUT,
            f"the branch {branch} was checked out at {where} meanwhile; the work is on {kept}",
            hint="check out another branch there and try again",
            branch=branch,
            path=str(where),
            rescued_ref=kept,
        )
