"""Which workflow a run follows, and what of its world that depends on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiagent_coordinator.errors import ConfigError, NotFoundError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.server.tools_report import criteria_of
from aiagent_coordinator.store import (
    managing,
    projects,
    questions,
    reviews,
    steps,
    subtasks,
    waking,
)
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.tasks import NewTask
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, Duty, Task, TaskStatus
from aiagent_coordinator.workflows import engine
from aiagent_coordinator.workflows.definition import State, Subtask, Workflow
from aiagent_coordinator.workflows.library import DEFAULTS, Library

#: Why a run is stopped whose agent cannot be told what to do.
NOT_FOUND = "workflow_not_found"


def workflow_of(unit: Unit, run: Run, library: Library) -> Workflow:
    """What the agent of a run is told step by step: as the task says, else the agent, else its duty.

    Raises:
        NotFoundError: there is none of that name, or it is for others.
        ConfigError: its file cannot be used.
    """
    task = None if run.task_id is None else task_store.get_task(unit, run.task_id)
    agent = projects.get_agent(unit, run.agent_id)
    name = (task.workflow if task else None) or agent.workflow or DEFAULTS[run.duty]
    return find(library, name, projects.get_project(unit, run.project_id).path, run.duty)


def find(library: Library, name: str, path: str, duty: Duty) -> Workflow:
    """A workflow by name, for a project with that folder, and for agents of that duty.

    Raises:
        NotFoundError: there is none of that name, or it is for others.
        ConfigError: its file cannot be used.
    """
    found = library.find(name, Path(path) if path else None)
    if found.role is not duty:
        raise NotFoundError(
            f"WORKFLOW_NOT_FOUND: workflow {name} is for a {found.role}, and the agent is a {duty}",
            hint=f"name a workflow of role {duty}, or another agent",
        )
    return found


def check(unit: Unit, library: Library, new: NewTask) -> None:
    """See that the workflow of a task that is to be made is there, and is for its agent.

    Raises:
        NotFoundError: there is none of that name, or it is for others.
        ConfigError: its file cannot be used.
    """
    path = projects.get_project(unit, new.project_id).path
    name = new.workflow or ""
    if new.agent_id is None:
        library.find(name, Path(path) if path else None)
    else:
        find(library, name, path, projects.get_agent(unit, new.agent_id).hierarchy)


def give_up(unit: Unit, run: Run, error: ConfigError | NotFoundError) -> str:
    """End a run that cannot be told what to do; gives what its agent is told.

    It is tried no second time: a file does not mend itself.
    """
    run_store.keep_warnings(unit, run, {"workflow": error.message}, actor="server")
    run_store.request_stop(unit, run.id, NOT_FOUND, actor="server")
    return f"{error.message}. Call no more tools and exit."


def parts_of(unit: Unit, run: Run) -> list[Task]:
    """The sub-tasks that a run's agent deals with: its own steps, or what others do for it."""
    if run.task_id is None:
        return []
    if run.duty is Duty.MANAGER:
        return waking.delegated(unit, run.task_id)
    return steps.of_task(unit, run.task_id)


def state_of(unit: Unit, run: Run, parts: Sequence[Task]) -> State:
    """What of a run its next word depends on."""
    question = questions.last_of_run(unit, run.id)
    task = None if run.task_id is None else task_store.get_task(unit, run.task_id)
    words = _words(unit, run, task, parts)
    return State(
        run.stage,
        run.reported_at is not None,
        run.stop_reason,
        question is not None and question.pending_at is not None and question.closed_at is None,
        criteria_of(unit, run, run.missing_evidence),
        tuple(Subtask(one.id, one.title, words[one.id]) for one in ranked(parts)),
        is_waiting=run.reported_result == "waiting",
        has_workers=run.duty is Duty.MANAGER
        and any(one.enabled for one in subtasks.subordinates(unit, run.agent_id, run.project_id)),
        has_verdict=task is not None
        and run.duty is Duty.REVIEWER
        and reviews.is_decided(unit, task),
        entered=managing.entered_by(task) if task else {},
    )


def read_task(unit: Unit, run: Run, library: Library) -> None:
    """Note that the agent has read its task; where its workflow cannot be used, it hears so when it asks."""
    try:
        stage = engine.after_reading(workflow_of(unit, run, library), run.stage)
    except (ConfigError, NotFoundError):
        return
    enter(unit, run, stage, None)


def enter(unit: Unit, run: Run, stage: str | None, counted: str | None) -> None:
    """Remember the stage of a run, and that one was entered that counts."""
    if stage is not None and stage != run.stage:
        run_store.set_stage(unit, run.id, stage)
    if counted is not None and run.task_id is not None:
        managing.note_entered(unit, task_store.lock_task(unit, run.task_id), counted)


def ranked(parts: Sequence[Task]) -> list[Task]:
    """What matters more first, else in the order in which they were made."""
    return sorted(parts, key=lambda one: -one.priority)


def _words(unit: Unit, run: Run, task: Task | None, parts: Sequence[Task]) -> dict[str, str]:
    if run.duty is Duty.MANAGER and task is not None:
        return waking.standing(unit, task, parts)
    return {one.id: _state_of(one) for one in parts}


def _state_of(part: Task) -> str:
    """How far a step is, as workflows call it."""
    if part.status in TERMINAL:
        return "over"
    words = {TaskStatus.QUEUED: "ready", TaskStatus.RUNNING: "running"}
    return words.get(part.status, "blocked" if part.status is TaskStatus.WAITING else "waiting")
