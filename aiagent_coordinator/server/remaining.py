"""Whether anything on the board, or in one project, still goes on by itself. Only reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiagent_coordinator.server import explain, parking
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.store import openings
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.openings import OpenTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TaskStatus

#: Who may take a task: agents of its project, or the one it names.
Place = tuple[str, str | None]


def remaining(unit: Unit, project_id: str | None, around: explain.Around) -> Json:
    """What still moves, and which queued tasks nobody can take.

    A task moves that runs, or that is queued where somebody can take it; a blocked one when anything
    it waits for moves, in whatever project. Waiting for a person is no movement, its live run is.

    Args:
        unit: The unit of work.
        project_id: Only tasks of this project; None: all.
        around: What is known beside the store.

    Returns:
        `is_moving`: whether anything is still to come; `held`: for each place with queued tasks that
        nobody can take, `project_id`, `agent_id` (null: anybody) and `reasons`, the first first.
    """
    tasks = openings.open_tasks(unit)
    held = _held(unit, tasks.values(), around)
    scope = [one.id for one in tasks.values() if project_id in (None, one.project_id)]
    runs = [run for run in run_store.live_runs(unit) if project_id in (None, run.project_id)]
    return {
        "is_moving": bool(runs) or _any_moves(scope, tasks, openings.needs(unit), held),
        "held": [
            {"project_id": project, "agent_id": agent, "reasons": reasons}
            for (project, agent), reasons in held.items()
            if project_id in (None, project)
        ],
    }


def _held(unit: Unit, tasks: Iterable[OpenTask], around: explain.Around) -> dict[Place, list[Json]]:
    """Where queued tasks lie that nobody can take, and why. Places are few, tasks may be many."""
    queued = {(one.project_id, one.agent_id) for one in tasks if one.status is TaskStatus.QUEUED}
    found = {place: explain.why_held(unit, *place, around) for place in queued}
    # what is parked until a time goes on by itself
    return {
        place: reasons
        for place, reasons in found.items()
        if not all(parking.passes(reason) for reason in reasons)
    }


def _any_moves(
    scope: Iterable[str],
    tasks: Mapping[str, OpenTask],
    needs: Mapping[str, tuple[str, ...]],
    held: Mapping[Place, list[Json]],
) -> bool:
    waiting, seen = list(scope), set(scope)
    while waiting:
        task = tasks.get(waiting.pop())
        if task is None:
            continue  # what it waits for is over: it failed, or the task would not be blocked
        if task.status is TaskStatus.RUNNING:
            return True
        is_free = task.status is TaskStatus.QUEUED and not task.is_locked
        if is_free and (task.project_id, task.agent_id) not in held:
            return True
        further = set(needs.get(task.id, ())) - seen
        seen |= further
        waiting += further
    return False
