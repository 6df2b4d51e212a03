"""The transition table and what follows from a run's end: properties over all values."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.errors import TransitionError, ValidationError
from aiagent_coordinator.runs import (
    MAX_INFRA_REQUEUES,
    REASONS,
    ReasonClass,
    RetryPolicy,
    RunOutcome,
    dispose,
    reason_class,
)
from aiagent_coordinator.tasks import (
    TERMINAL,
    TRANSITIONS,
    TaskKind,
    TaskStatus,
    WaitReason,
    check_transition,
)

NAMES = [f"T{number}" for number in range(1, 25)]
S = TaskStatus
W = WaitReason

#: The published table once more, by hand: name → (from, wait reason there), (to, wait reason there).
ALLOWED: dict[str, set[tuple[TaskStatus | None, TaskStatus]]] = {
    "T1": {(None, S.BACKLOG), (None, S.QUEUED), (None, S.BLOCKED)},
    "T2": {(S.BACKLOG, S.QUEUED), (S.QUEUED, S.BACKLOG)},
    "T3": {(S.QUEUED, S.BLOCKED), (S.BLOCKED, S.QUEUED)},
    "T4": {(S.QUEUED, S.RUNNING)},
    "T5": {(S.RUNNING, S.WAITING), (S.QUEUED, S.WAITING)},
    "T6": {(S.RUNNING, S.WAITING)},
    "T7": {(S.QUEUED, S.WAITING), (S.RUNNING, S.WAITING)},
    "T8": {(S.RUNNING, S.WAITING)},
    "T9": {(S.WAITING, S.QUEUED), (S.WAITING, S.RUNNING)},
    "T10": {(S.WAITING, S.QUEUED)},
    "T11": {(S.WAITING, S.QUEUED)},
    "T12": {(S.WAITING, S.SUCCEEDED), (S.WAITING, S.QUEUED)},
    "T13": {(S.RUNNING, S.SUCCEEDED)},
    "T14": {(S.RUNNING, S.QUEUED)},
    "T15": {(S.RUNNING, S.QUEUED)},
    "T16": {(S.RUNNING, S.FAILED)},
    "T17": {(status, S.CANCELLED) for status in TaskStatus if status not in TERMINAL},
    "T18": {(S.FAILED, S.QUEUED), (S.CANCELLED, S.QUEUED)},
    "T19": {(S.WAITING, S.FAILED)},
    "T20": {(S.RUNNING, S.QUEUED), (S.RUNNING, S.FAILED)},
    "T21": {(S.QUEUED, S.FAILED), (S.BLOCKED, S.FAILED)},
    "T22": {(S.RUNNING, S.WAITING)},
    "T23": {(S.WAITING, S.QUEUED)},
    "T24": {(S.QUEUED, S.RUNNING), (S.RUNNING, S.SUCCEEDED)},
}
#: Which wait reason a transition into, or out of, waiting is for.
ENTERS = {"T5": W.INPUT, "T6": W.SUBTASKS, "T7": W.AUTH, "T8": W.REVIEW, "T22": W.BLOCKED}
LEAVES = {"T9": W.INPUT, "T10": W.SUBTASKS, "T11": W.AUTH, "T12": W.REVIEW, "T23": W.BLOCKED}


def is_allowed(
    name: str,
    source: TaskStatus | None,
    target: TaskStatus,
    source_wait: WaitReason | None,
    wait: WaitReason | None,
    kind: TaskKind,
) -> bool:
    try:
        check_transition(
            name, source, target, source_wait_reason=source_wait, wait_reason=wait, kind=kind
        )
    except TransitionError:
        return False
    return True


def test_exactly_the_published_changes_are_allowed_for_every_value_there_is() -> None:
    sources = [None, *TaskStatus]
    waits = [None, *WaitReason]
    for name, source, target in product([*NAMES, "T0", "T25", ""], sources, TaskStatus):
        for source_wait, wait, kind in product(waits, waits, (TaskKind.WORK, TaskKind.STEP)):
            wanted = (
                (source, target) in ALLOWED.get(name, set())
                and (name not in ENTERS or wait is ENTERS[name])
                and (name not in LEAVES or source_wait is LEAVES[name])
                and (name != "T24" or kind is TaskKind.STEP)
            )
            found = is_allowed(name, source, target, source_wait, wait, kind)
            assert found == wanted, (name, source, target, source_wait, wait, kind)


def test_a_success_is_never_opened_again_and_the_other_ends_only_by_a_person() -> None:
    leaving = {row.name: row.sources & TERMINAL for row in TRANSITIONS if row.sources & TERMINAL}
    assert leaving == {"T18": {S.FAILED, S.CANCELLED}}


def test_every_status_can_be_reached_and_left() -> None:
    reached: set[TaskStatus | None] = {None}
    while True:
        more = {row.target for row in TRANSITIONS if row.sources & reached}
        if more <= reached:
            break
        reached |= more
    assert reached - {None} == set(TaskStatus)
    for status in set(TaskStatus) - {S.SUCCEEDED}:
        assert any(status in row.sources for row in TRANSITIONS), status


policies = st.builds(
    RetryPolicy,
    backoff_seconds=st.lists(st.floats(0, 10_000), max_size=4).map(tuple),
)
endings = st.fixed_dictionaries(
    {
        "outcome": st.sampled_from(RunOutcome),
        "reason": st.sampled_from([None, *REASONS]),
        "attempt": st.integers(1, 6),
        "max_attempts": st.integers(1, 5),
        "infra_requeues": st.integers(0, MAX_INFRA_REQUEUES + 1),
        "policy": policies,
    }
)


@given(endings)
def test_what_follows_from_a_run_is_always_an_allowed_transition(ending: dict[str, object]) -> None:
    next_ = dispose(**ending)  # pyright: ignore[reportArgumentType]
    assert is_allowed(next_.transition, S.RUNNING, next_.status, None, None, TaskKind.WORK)


@given(endings)
def test_only_a_success_succeeds(ending: dict[str, object]) -> None:
    next_ = dispose(**ending)  # pyright: ignore[reportArgumentType]
    succeeded = ending["outcome"] is RunOutcome.SUCCEEDED
    assert (next_.status is S.SUCCEEDED) == succeeded


@given(endings)
def test_a_task_waits_only_in_the_queue_and_an_attempt_is_spent_only_by_a_retry(
    ending: dict[str, object],
) -> None:
    next_ = dispose(**ending)  # pyright: ignore[reportArgumentType]
    assert next_.wait_seconds >= 0
    assert next_.status is S.QUEUED or next_.wait_seconds == 0
    assert next_.spends_attempt == (next_.transition == "T14")
    assert not (next_.spends_attempt and next_.counts_infra)


@given(st.sampled_from(sorted(REASONS)), st.integers(1, 4), policies)
def test_every_task_ends_after_a_bounded_number_of_counted_failures(
    reason: str, max_attempts: int, policy: RetryPolicy
) -> None:
    counted = {ReasonClass.TRANSIENT, ReasonClass.INFRA, ReasonClass.PERMANENT, ReasonClass.DONE}
    if reason_class(reason) not in counted:
        return
    attempt, infra, status = 1, 0, S.QUEUED
    for _ in range(max_attempts + MAX_INFRA_REQUEUES + 1):
        next_ = dispose(
            RunOutcome.FAILED,
            reason,
            attempt=attempt,
            max_attempts=max_attempts,
            infra_requeues=infra,
            policy=policy,
        )
        status = next_.status
        if status is S.FAILED:
            break
        attempt += next_.spends_attempt
        infra += next_.counts_infra
    assert status is S.FAILED
    assert attempt <= max_attempts
    assert infra <= MAX_INFRA_REQUEUES


def test_waits_grow_along_the_list_and_its_last_repeats() -> None:
    policy = RetryPolicy(backoff_seconds=(30, 120, 600))
    assert [policy.wait_after(attempt) for attempt in range(1, 6)] == [30, 120, 600, 600, 600]
    assert RetryPolicy(backoff_seconds=()).wait_after(1) == 0


def test_a_reason_outside_the_closed_list_is_refused() -> None:
    with pytest.raises(ValidationError):
        reason_class("bad_luck")
