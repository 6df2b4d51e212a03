"""When circuits open, for how long, and what closes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiagent_coordinator.coordinator.breaker import BreakerPolicy, Breakers, Ending

PROVIDER = ("provider", "codex")
LINE = ("line", "ann/garden/task")
BOTH = (PROVIDER, LINE)
OTHER = (PROVIDER, ("line", "bob/garden/task"))
POLICY = BreakerPolicy(failures=3, first_seconds=60, max_seconds=200, spread=0)


def breakers(policy: BreakerPolicy = POLICY, chance: float = 0.5) -> Breakers:
    return Breakers(policy, lambda: chance)


def fail(these: Breakers, times: int, now: float = 0.0) -> None:
    for number in range(times):
        these.ended(f"run_{number}", BOTH, Ending.QUICK_FAILURE, "exit code 1", now)


def test_fewer_failures_than_the_limit_close_nothing():
    these = breakers()
    fail(these, 2)
    assert these.closed_for(BOTH, 0) is None
    assert these.shown(0) == []


def test_quick_failures_in_a_row_open_the_circuit_and_the_reason_says_why():
    these = breakers()
    fail(these, 3)
    reason = these.closed_for(BOTH, 10)
    assert reason == "agent ann failed 3 times in a row (exit code 1): rests for 50 s"
    assert these.seconds_to_next(10) == 50
    assert [(each["scope"], each["state"]) for each in these.shown(10)] == [("line", "open")]


def test_one_line_of_work_alone_never_opens_its_providers_circuit():
    these = breakers()
    fail(these, 20)
    assert these.closed_for(OTHER, 0) is None


def test_failures_of_two_lines_open_their_providers_circuit_for_all():
    these = breakers()
    fail(these, 2)
    these.ended("run_o", OTHER, Ending.QUICK_FAILURE, "exit code 2", 0)
    third = (PROVIDER, ("line", "cem/garden/task"))
    assert (
        these.closed_for(third, 0)
        == "provider codex failed 3 times in a row (exit code 2): rests for 60 s"
    )


def test_a_good_end_in_between_starts_the_count_again():
    these = breakers()
    fail(these, 2)
    these.ended("run_x", BOTH, Ending.WORKED, "", 0)
    fail(these, 2)
    assert these.closed_for(BOTH, 0) is None


def test_a_run_that_was_stopped_or_lost_counts_neither_way():
    these = breakers()
    fail(these, 2)
    these.ended("run_x", BOTH, Ending.SILENT, "stopped", 0)
    assert these.closed_for(BOTH, 0) is None
    fail(these, 1)
    assert these.closed_for(BOTH, 0) is not None


def test_other_circuits_stay_closed():
    these = breakers()
    fail(these, 3)
    assert these.closed_for((("provider", "claude"), ("line", "ann/house/task")), 0) is None


def test_after_the_rest_one_run_tries_and_the_others_wait_for_it():
    these = breakers()
    fail(these, 3)
    assert these.closed_for(BOTH, 60) is None
    assert these.trying(60) == frozenset([LINE])
    these.started("run_t", BOTH)
    assert these.trying(60) == frozenset()
    assert "run run_t tries" in (these.closed_for(BOTH, 61) or "")
    assert these.shown(61)[0]["state"] == "half-open"


def test_the_trials_good_end_closes_the_circuit():
    these = breakers()
    fail(these, 3)
    these.started("run_t", BOTH)
    these.ended("run_t", BOTH, Ending.WORKED, "", 70)
    assert these.closed_for(BOTH, 70) is None
    assert these.shown(70) == []


def test_each_failed_trial_doubles_the_rest_up_to_the_longest():
    these = breakers()
    fail(these, 3)
    now = 60.0
    for rest in (120, 200, 200):
        these.started("run_t", BOTH)
        opened = these.ended("run_t", BOTH, Ending.QUICK_FAILURE, "exit code 1", now)
        assert opened == [LINE]
        assert these.seconds_to_next(now) == rest
        now += rest


def test_a_trial_that_was_stopped_leaves_the_trial_to_the_next():
    these = breakers()
    fail(these, 3)
    these.started("run_t", BOTH)
    these.ended("run_t", BOTH, Ending.SILENT, "stopped", 61)
    assert these.closed_for(BOTH, 61) is None
    assert these.trying(61) == frozenset([LINE])


def test_runs_that_were_under_way_when_it_opened_do_not_prolong_the_rest():
    these = breakers()
    fail(these, 3)
    fail(these, 5, now=30)
    assert these.seconds_to_next(30) == 30


@pytest.mark.parametrize(("chance", "rest"), [(0.0, 45), (0.5, 60), (1.0, 75)])
def test_chance_moves_a_rest_by_a_quarter_at_most(chance: float, rest: float):
    these = breakers(BreakerPolicy(failures=1, first_seconds=60, spread=0.25), chance)
    fail(these, 1)
    assert these.seconds_to_next(0) == rest


@given(st.lists(st.sampled_from(list(Ending)), max_size=60), st.floats(0, 1))
def test_a_rest_is_never_longer_than_the_longest(endings: list[Ending], chance: float):
    these = breakers(BreakerPolicy(failures=2, first_seconds=60, max_seconds=200), chance)
    now = 0.0
    for number, ending in enumerate(endings):
        if these.closed_for(BOTH, now) is not None:
            now += these.seconds_to_next(now) or 0
        run_id = f"run_{number}"
        these.started(run_id, BOTH)
        these.ended(run_id, BOTH, ending, "why", now)
        assert (these.seconds_to_next(now) or 0) <= 200.001
