"""Readings of a run against its limits: what is told, and what ends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aiagent_coordinator.executors.base import Sample
from aiagent_coordinator.pipeline.limits import Judge, LimitOverrides, Reading, RunLimits

MIB = 1024 * 1024


def sample(at: float, **facts: Any) -> Sample:
    base: dict[str, Any] = {
        "cpu_seconds": 0.0,
        "memory_bytes": MIB,
        "processes": 1,
        "newest_start": 5,
    }
    return Sample(at, **base | facts)


def story(limits: RunLimits, *readings: Reading) -> list[list[tuple[str, str | None]]]:
    """What each reading leads to, by kind and reason."""
    judge = Judge(limits, 0.0)
    return [[(one.kind, one.reason) for one in judge.judge(each)] for each in readings]


def quiet(*times: float, **facts: Any) -> list[Reading]:
    return [Reading(at, 0, sample(at, **facts)) for at in times]


def test_silence_is_told_at_half_and_then_ends_the_run():
    limits = RunLimits(silence_seconds=10)
    found = story(limits, *quiet(0, 4, 6, 7, 11))
    assert found == [[], [], [("silence", None)], [], [("silent", "stalled")]]


def test_silence_may_only_be_told():
    limits = RunLimits(silence_seconds=10, silence_action="warn")
    found = story(limits, *quiet(0, 6, 11, 12, 30))
    assert found == [[], [("silence", None)], [("silent", None)], [], []]


@pytest.mark.parametrize(
    "sign",
    [
        {"log_bytes": 1},
        {"cpu_seconds": 2.0},
        {"newest_start": 6},
    ],
)
def test_output_processor_time_and_a_new_child_are_signs_of_life(sign: dict[str, Any]):
    """Many CLIs print nothing for minutes while they work or try again."""
    log_bytes = sign.pop("log_bytes", 0)
    last = Reading(11, log_bytes, sample(11, **sign))
    found = story(RunLimits(silence_seconds=10), *quiet(0, 6), last, Reading(12, log_bytes))
    assert found[2:] == [[], []]


def test_a_little_processor_time_is_what_waiting_takes():
    limits = RunLimits(silence_seconds=10)
    readings = [Reading(at, 0, sample(at, cpu_seconds=at * 0.03)) for at in (0, 6, 11)]
    assert story(limits, *readings)[-1] == [("silent", "stalled")]


def test_a_program_that_waits_for_a_person_is_not_silent():
    """Silence begins when it was answered."""
    limits = RunLimits(silence_seconds=10)
    waiting = [replace(one, awaits_person=True) for one in quiet(0, 6, 11, 50)]
    found = story(limits, *waiting, *quiet(54, 61))
    assert found == [[], [], [], [], [], [("silent", "stalled")]]


def test_after_a_sign_of_life_silence_is_told_anew():
    limits = RunLimits(silence_seconds=10, silence_action="warn")
    noise = Reading(7, 9, sample(7))
    still = Reading(13, 9, sample(13))
    found = story(limits, *quiet(0, 6), noise, still)
    assert found == [[], [("silence", None)], [], [("silence", None)]]


def test_too_much_output_is_told_once_and_far_too_much_ends_the_run():
    limits = RunLimits(log_warn_bytes=10, log_max_bytes=20)
    found = story(limits, *(Reading(0, size) for size in (10, 11, 12, 20, 21)))
    assert found == [[], [("log_size", None)], [], [], [("log_limit", "log_limit")]]


@pytest.mark.parametrize(
    ("limits", "facts", "reason"),
    [
        ({"memory_bytes": 10}, {"memory_bytes": 11}, "memory_limit"),
        ({"processes": 2}, {"processes": 3}, "process_limit"),
    ],
)
@pytest.mark.parametrize("action", ["warn", "kill"])
def test_a_limit_counts_at_the_second_reading_above_it(
    limits: dict[str, Any], facts: dict[str, Any], reason: str, action: str
):
    """One alone may be a moment, as when a program forks to become another."""
    (name,) = limits
    kind = name.partition("_")[0]
    changes: dict[str, Any] = {**limits, f"{kind}_action": action}
    rules = RunLimits(**changes)
    over, under = facts, dict.fromkeys(facts, 1)
    readings = [
        Reading(at, 0, sample(at, **(over if is_over else under)))
        for at, is_over in enumerate((True, False, True, True))
    ]
    wanted = reason if action == "kill" else None
    assert story(rules, *readings) == [[], [], [], [(kind, wanted)]]


def test_processor_time_counts_between_readings_and_may_exceed_one_core():
    limits = RunLimits(cpu_percent=150)
    used = [(0, 0.0), (1, 1.4), (2, 3.2), (3, 4.4), (4, 6.4), (5, 8.4)]
    readings = [Reading(at, at, sample(at, cpu_seconds=seconds)) for at, seconds in used]
    assert [bool(found) for found in story(limits, *readings)] == [False] * 5 + [True]


def test_the_same_look_is_not_counted_twice():
    over = sample(1, memory_bytes=11)
    limits = RunLimits(memory_bytes=10)
    assert story(limits, Reading(1, 0, over), Reading(2, 1, over)) == [[], []]


def test_the_most_that_was_seen_is_kept():
    judge = Judge(RunLimits(), 0.0)
    for at, size in enumerate((3, 9, 4)):
        judge.judge(Reading(at, at, sample(at, memory_bytes=size, processes=size)))
    assert (judge.peak_memory_bytes, judge.peak_processes) == (9, 9)


def test_the_word_of_an_agent_goes_before_that_of_its_project():
    book = LimitOverrides(
        by_project={"p": {"memory_bytes": 1, "processes": 2}}, by_agent={"a": {"memory_bytes": 3}}
    )
    base = RunLimits(processes=9, open_files=7)
    found = book.of(base, project_id="p", agent_id="a")
    assert (found.memory_bytes, found.processes, found.open_files) == (3, 2, 7)
    assert book.of(base, project_id="x", agent_id="y") is base


def test_where_only_a_warning_is_wanted_the_system_is_asked_for_nothing():
    told = RunLimits(memory_bytes=1, memory_action="warn", processes=2, processes_action="warn")
    assert told.caps() == RunLimits().caps()
    ended = RunLimits(memory_bytes=1, processes=2, cpu_percent=50, open_files=64).caps()
    assert (ended.memory_bytes, ended.processes, ended.cpu_percent) == (1, 2, 50)
    assert ended.open_files == 64
