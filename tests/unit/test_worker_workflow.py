from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.workflows.worker import (
    Action,
    Stage,
    WorkerState,
    next_step,
    stage_after_reading,
)


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
