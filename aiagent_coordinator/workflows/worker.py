"""What a worker is told next: read the task, work, report, leave. State in, instruction out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """How far a worker is, as kept with its run; a run without one has just begun."""

    TASK_READ = "task_read"
    WORKING = "working"


class Action(StrEnum):
    """What a worker does next."""

    GET_TASK = "get_task"
    WORK = "work"
    REPORT_COMPLETION = "report_completion"
    EXIT = "exit"


@dataclass(frozen=True)
class WorkerState:
    """What is known of a worker when it asks. `stage` may be a word of another program."""

    stage: str | None = None
    is_reported: bool = False
    stop_reason: str | None = None
    #: A question had no answer in time: the task goes on in another run.
    is_suspended: bool = False
    #: Acceptance criteria that the last report left out.
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One answer: the action, how to do it, and the stage to remember from then on."""

    action: Action
    instruction: str
    stage: str | None


_INSTRUCTIONS: dict[Action, str] = {
    Action.GET_TASK: "Call get_my_task to read your task, then call get_next_action.",
    Action.WORK: (
        "Do the task now, in the current folder. Report steps with report_progress when they are "
        "worth telling. When nothing is left to do, call get_next_action."
    ),
    Action.REPORT_COMPLETION: (
        "If the task is done, call report_completed with result 'success' and a summary of what "
        "you changed. If it cannot be done, report 'failed'; if something only a person can clear "
        "is in the way, report 'blocked'; say why in the summary. When the task has acceptance "
        "criteria, name for each, by its number, how you know that it is met (evidence). Then call "
        "get_next_action."
    ),
    Action.EXIT: "You are finished. Call no more tools and exit.",
}


#: Said when nobody answered in time.
SUSPENDED = (
    "There is no answer yet. Commit what you have, report nothing, call no more tools and exit. "
    "The task goes on, with the answer, in another run."
)
#: Said to a program that reads answers itself.
ON_STDIN = (
    "Your question is asked. Stay, and read the answer on your standard input; it may take long. "
    "Then go on with your task, as the answer says."
)


def missing_evidence(missing: Sequence[str]) -> str:
    """What is said to a worker whose report left criteria out."""
    listed = "\n".join(f"- {one}" for one in missing)
    return (
        f"Your report says nothing about these acceptance criteria:\n{listed}\nMake sure that each is "
        "met, then call report_completed again with evidence for every criterion: its number, and "
        "how you know. If one cannot be met, report 'failed' and say why."
    )


def next_step(state: WorkerState) -> Step:
    """Decide what the worker does next. Pure.

    Asking again moves on only where the worker itself has moved: `work` is said once after the
    task was read, and every later question gets `report_completion` until a report is in.
    """
    if state.stop_reason is not None:
        text = f"This run is being stopped ({state.stop_reason}). Call no more tools and exit."
        return Step(Action.EXIT, text, state.stage)
    if state.is_reported:
        return _step(Action.EXIT, state.stage)
    if state.is_suspended:
        return Step(Action.EXIT, SUSPENDED, state.stage)
    if state.missing:
        return Step(Action.REPORT_COMPLETION, missing_evidence(state.missing), state.stage)
    if state.stage == Stage.TASK_READ:
        return _step(Action.WORK, Stage.WORKING)
    if state.stage == Stage.WORKING:
        return _step(Action.REPORT_COMPLETION, state.stage)
    return _step(Action.GET_TASK, state.stage)


def stage_after_reading(stage: str | None) -> str:
    """The stage of a worker that has just read its task; reading it again loses nothing."""
    return stage if stage == Stage.WORKING else Stage.TASK_READ


def _step(action: Action, stage: str | None) -> Step:
    return Step(action, _INSTRUCTIONS[action], stage)
