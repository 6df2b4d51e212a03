from __future__ import annotations

from enum import StrEnum

from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.workflows import engine
from aiagent_coordinator.workflows.definition import Action, Step, Subtask
from aiagent_coordinator.workflows.definition import State as WorkerState
from aiagent_coordinator.workflows.library import shipped


class Stage(StrEnum):
    """How far a worker is, as kept with its run; a run without one has just begun."""

    TASK_READ = "task_read"
    WORKING = "working"


def next_step(state: WorkerState) -> Step:
    return engine.next_step(shipped("worker"), state)


def stage_after_reading(stage: str | None) -> str | None:
    return engine.after_reading(shipped("worker"), stage)


def test_a_worker_that_asks_and_obeys_is_led_from_its_task_to_the_exit() -> None:
    first = next_step(WorkerState())
    assert first.action is Action.GET_TASK
    stage = stage_after_reading(first.stage)
    second = next_step(WorkerState(stage))
    assert second.action is Action.WORK
    third = next_step(WorkerState(second.stage))
    assert third.action is Action.REPORT_COMPLETION
    assert next_step(WorkerState(third.stage, is_reported=True)).action is Action.EXIT


def test_reading_the_task_again_does_not_send_a_worker_back_to_work() -> None:
    assert stage_after_reading(Stage.WORKING) == Stage.WORKING
    assert stage_after_reading(Stage.TASK_READ) == Stage.TASK_READ
    assert stage_after_reading(None) == Stage.TASK_READ


def test_a_stopped_worker_is_told_why_and_to_exit_wherever_it_is() -> None:
    for stage in (None, Stage.TASK_READ, Stage.WORKING):
        step = next_step(WorkerState(stage, stop_reason="cancelled"))
        assert step.action is Action.EXIT
        assert "cancelled" in step.instruction


@given(st.none() | st.text(max_size=20) | st.sampled_from(list(Stage)))
def test_whatever_stage_was_kept_a_worker_gets_an_action_and_no_dead_end(stage: str | None) -> None:
    seen: list[Action] = []
    for _ in range(4):
        step = next_step(WorkerState(stage))
        assert step.instruction
        seen.append(step.action)
        stage = stage_after_reading(step.stage) if step.action is Action.GET_TASK else step.stage
    assert seen[-1] is Action.REPORT_COMPLETION


@given(st.none() | st.sampled_from(list(Stage)))
def test_asking_twice_without_moving_gives_the_same_answer_from_then_on(stage: str | None) -> None:
    second = next_step(WorkerState(next_step(WorkerState(stage)).stage))
    assert next_step(WorkerState(second.stage)).action in {second.action, Action.REPORT_COMPLETION}


_KINDS = ("ready", "waiting", "running", "blocked", "over")


@given(st.lists(st.sampled_from(_KINDS), max_size=8), st.sampled_from(list(Stage)))
def test_with_subtasks_the_next_word_always_names_one_that_can_be_moved(
    kinds: list[str], stage: Stage
) -> None:
    subtasks = tuple(Subtask(str(number), "t", kind) for number, kind in enumerate(kinds))
    step = next_step(WorkerState(stage, subtasks=subtasks))
    expected = {
        Action.EXECUTE_SUBTASK: "running",
        Action.START_SUBTASK: "ready",
        Action.REVIEW_BLOCKS: "blocked",
        Action.DEADLOCK: "waiting",
    }
    if step.action in expected:
        assert step.subtask is not None
        assert step.subtask.status == expected[step.action]
        assert step.subtask == next(one for one in subtasks if one.status == step.subtask.status)
    else:
        assert all(kind == "over" for kind in kinds)


@given(st.data())
def test_an_agent_that_obeys_comes_to_its_end_whatever_becomes_of_its_subtasks(
    data: st.DataObject,
) -> None:
    """Random valid agents: each word is followed by one of the moves that it asks for."""
    kinds: list[str] = data.draw(st.lists(st.sampled_from(("ready", "waiting")), max_size=6))
    states: dict[int, str] = dict(enumerate(kinds))
    stage: str | None = None
    before: tuple[Action, str | None] | None = None
    for _ in range(200):
        subtasks = tuple(Subtask(str(n), "t", kind) for n, kind in states.items())
        step = next_step(WorkerState(stage, subtasks=subtasks))
        meant = step.subtask.id if step.subtask else None
        assert (step.action, meant) != before, "never the same twice when the agent moved"
        before = step.action, meant
        match step.action:
            case Action.GET_TASK:
                stage = stage_after_reading(step.stage)
                continue
            case Action.REPORT_COMPLETION:
                return
            case Action.WORK:
                pass
            case Action.START_SUBTASK:
                states[int(meant or 0)] = "running"
            case Action.EXECUTE_SUBTASK:
                states[int(meant or 0)] = data.draw(st.sampled_from(("over", "blocked")))
                if data.draw(st.booleans()):
                    states = {n: "ready" if k == "waiting" else k for n, k in states.items()}
            case Action.REVIEW_BLOCKS | Action.DEADLOCK:
                states[int(meant or 0)] = "over"
            case _:
                raise AssertionError(step.action)
        stage = step.stage
    raise AssertionError("it never ends")
