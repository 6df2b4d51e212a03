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
    START_SUBTASK = "start_subtask"
    EXECUTE_SUBTASK = "execute_subtask"
    REVIEW_BLOCKS = "review_and_resolve_blocks"
    DEADLOCK = "dependency_deadlock"
    REPORT_COMPLETION = "report_completion"
    EXIT = "exit"


@dataclass(frozen=True)
class Subtask:
    """A step of the worker's task, as far as the next word depends on it.

    `status` is one of `ready`, `waiting` (for others), `running`, `blocked`, `over`.
    """

    id: str
    title: str
    status: str


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
    #: In the order in which they were made, what matters more first.
    subtasks: tuple[Subtask, ...] = ()


@dataclass(frozen=True)
class Step:
    """One answer: the action, how to do it, and the stage to remember from then on."""

    action: Action
    instruction: str
    stage: str | None
    #: The sub-task that is meant.
    subtask: Subtask | None = None


_INSTRUCTIONS: dict[Action, str] = {
    Action.GET_TASK: "Call get_my_task to read your task, then call get_next_action.",
    Action.WORK: (
        "Do the task now, in the current folder. Report steps with report_progress when they are "
        "worth telling. When it has parts that you want to keep apart, make them sub-tasks first "
        "(create_tasks_batch), and call get_next_action: it leads you through them. When nothing is "
        "left to do, call get_next_action."
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
    if state.stage is not None and any(one.status != "over" for one in state.subtasks):
        return _next_part(state)
    if state.stage == Stage.TASK_READ and not state.subtasks:
        return _step(Action.WORK, Stage.WORKING)
    if state.stage in {Stage.TASK_READ, Stage.WORKING}:
        return _step(Action.REPORT_COMPLETION, Stage.WORKING)
    return _step(Action.GET_TASK, state.stage)


def _next_part(state: WorkerState) -> Step:
    """Lead through the sub-tasks: go on with the one that runs, else begin the first that can."""
    by_status = {one.status: one for one in reversed(state.subtasks)}
    if "running" in by_status:
        one = by_status["running"]
        text = (
            f"Go on with the sub-task {one.title!r}. When it is done, call update_task_status with "
            f"task_id {one.id} and status 'done'; when something is in the way, 'blocked' with the "
            "reason; when it is not needed any more, 'cancelled'. Then call get_next_action."
        )
        return Step(Action.EXECUTE_SUBTASK, text, Stage.WORKING, one)
    if "ready" in by_status:
        one = by_status["ready"]
        text = (
            f"Begin the sub-task {one.title!r}: call update_task_status with task_id {one.id} and status "
            "'in_progress', then call get_next_action."
        )
        return Step(Action.START_SUBTASK, text, Stage.WORKING, one)
    if "blocked" in by_status:
        text = (
            "Only blocked sub-tasks are left. For each: go on with it (update_task_status, "
            "'in_progress'), give it up ('cancelled'), or, when only a person can help, ask with "
            "ask_human or report 'blocked' with report_completed. Then call get_next_action."
        )
        return Step(Action.REVIEW_BLOCKS, text, Stage.WORKING, by_status["blocked"])
    text = (
        "The sub-tasks that are left wait for others that will not be done. Cancel them with "
        "update_task_status, then call get_next_action."
    )
    return Step(Action.DEADLOCK, text, Stage.WORKING, by_status["waiting"])


def stage_after_reading(stage: str | None) -> str:
    """The stage of a worker that has just read its task; reading it again loses nothing."""
    return stage if stage == Stage.WORKING else Stage.TASK_READ


def _step(action: Action, stage: str | None) -> Step:
    return Step(action, _INSTRUCTIONS[action], stage)
