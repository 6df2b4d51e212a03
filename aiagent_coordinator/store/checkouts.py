"""Who works in a folder that is nobody's own: projects with `workspace: directory`, one run at a time.

A run keeps its folder until its result is in: while it is sealed and checked, nothing else may
change what it left there. Projects that share a path share the folder.
"""

from __future__ import annotations

from sqlalchemy import select

from aiagent_coordinator.runs import Purpose, RunPhase
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Project, WorkspaceKind

_project = tables.project
_run = tables.run
_SHARED = _project.c.workspace == WorkspaceKind.DIRECTORY
_BUSY = (
    select(_project.c.path, _run.c.id)
    .join(_run, _run.c.project_id == _project.c.id)
    .where(_SHARED, _run.c.phase != RunPhase.ENDED, _run.c.purpose == Purpose.TASK)
    .order_by(_run.c.id.desc())
)


def busy(unit: Unit) -> dict[str, str]:
    """The folders in use, each with the id of the run that works there."""
    return {row["path"]: row["id"] for row in unit.conn.execute(_BUSY).mappings()}


def lock(unit: Unit, project: Project) -> None:
    """Hold every project of this one's folder against other claims."""
    same = select(_project.c.id).where(_SHARED, _project.c.path == project.path)
    unit.conn.execute(same.order_by(_project.c.id).with_for_update()).all()
