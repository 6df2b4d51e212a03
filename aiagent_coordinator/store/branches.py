"""Which branch a task may name."""

from __future__ import annotations

from sqlalchemy import select

from aiagent_coordinator import ids
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.store import projects, tables
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, WorkspaceKind

_task = tables.task

#: What a team shares: work reaches these by a person's merge.
PROTECTED = frozenset({"main", "master", "trunk", "develop"})


def check(unit: Unit, branch: str, project_id: str) -> None:
    """Refuse a branch that no run of a task could work on.

    One that is checked out somewhere is found when a run is prepared: the server need not have the
    repository at hand.

    Raises:
        ValidationError: git takes no such name, it is protected, or another open task works on it.
        NotFoundError: there is no such project.
    """
    project = projects.get_project(unit, project_id)
    if not ids.is_branch_name(branch):
        raise ValidationError(f"{branch!r} is no name for a branch", key="branch")
    # in a fresh repository nobody shares anything
    is_shared = project.workspace is not WorkspaceKind.SCRATCH
    if is_shared and branch in {*PROTECTED, project.base_ref}:
        raise ValidationError(
            f"the branch {branch} is protected: no task works on it",
            hint="name another branch, and merge it when the work is good",
            key="branch",
        )
    taken = unit.conn.scalar(
        select(_task.c.id).where(
            _task.c.project_id == project_id,
            _task.c.branch == branch,
            _task.c.status.not_in(TERMINAL),
        )
    )
    if taken is not None and is_shared:
        raise ValidationError(
            f"task {taken} works on the branch {branch}",
            hint="name another branch, or wait until that task is over",
            key="branch",
        )
