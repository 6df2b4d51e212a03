"""What becomes of the runs of a project that is paused, resumed or put away."""

from __future__ import annotations

from aiagent_coordinator.chats import NoticeKind
from aiagent_coordinator.runs import Run, RunPhase
from aiagent_coordinator.store import notifications, projects
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.runs import RunFilter
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Project

#: Runs of one project at a time are never more.
_ALL = 10_000
_PAUSED = (
    "A person paused this project: nothing new is started in it.",
    "Commit what you have. Then go on with your task to its end.",
)
_RESUMED = ("This project goes on.", "Go on with your task.")


def set_status(
    unit: Unit, project_id: str, status: str, *, stops_runs: bool, actor: str
) -> Project:
    """Pause, resume or archive a project, and tell the agents that work in it.

    Args:
        unit: The unit of work.
        project_id: The project.
        status: `active`, `paused` or `archived`.
        stops_runs: Whether what runs is stopped when the project is no longer active. A stopped run
            costs its task no attempt.
        actor: Who does it.

    Raises:
        NotFoundError: there is no such project.
    """
    before = projects.get_project(unit, project_id)
    project = projects.set_project_status(unit, project_id, status, actor=actor)
    was, is_active = before.status == "active", status == "active"
    if was == is_active:
        return project
    for run in _with_agents(unit, project_id):
        if is_active:
            _tell_resumed(unit, run, actor)
        elif stops_runs:
            run_store.request_stop(unit, run.id, "stopped", actor=actor)
        else:
            notice = notifications.interrupt(run, notifications.PAUSED, _PAUSED)
            notifications.send(unit, notice, actor=actor)
    if is_active:
        notifications.withdraw(unit, project_id, notifications.PAUSED)
    return project


def _with_agents(unit: Unit, project_id: str) -> list[Run]:
    found = run_store.list_runs(unit, RunFilter(project_id=project_id, live=True), limit=_ALL)
    return [run for run in found if run.phase is not RunPhase.FINISHING]


def _tell_resumed(unit: Unit, run: Run, actor: str) -> None:
    notice = notifications.new(
        run.agent_id,
        run.project_id,
        NoticeKind.STATUS_CHANGE,
        notifications.RESUMED,
        _RESUMED,
        run_id=run.id,
        task_id=run.task_id,
    )
    notifications.send(unit, notice, actor=actor)
