"""What the machine bears: memory for what is known of each provider, and a watermark that stays free."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.coordinator.admission import (
    UNKNOWN_PEAK_BYTES,
    Admission,
    Gate,
    Watermarks,
    ending_of,
)
from aiagent_coordinator.coordinator.breaker import BreakerPolicy, Breakers, Ending
from aiagent_coordinator.coordinator.machine import Machine
from aiagent_coordinator.coordinator.plan import Action, Limits, plan
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.runs import Assignment, Purpose

MIB = 1024 * 1024
MARKS = Watermarks(memory=500 * MIB, disk=100 * MIB)


def action(agent: str = "ann", provider: str = "claude", slots: int = 1) -> Action:
    assignment = Assignment(agent, "garden", Purpose.TASK)
    return Action(assignment, "start", "", provider, slots_free=slots, max_concurrent=100)


def gate(free_mib: int | None, *, busy: bool = True, disk_mib: int = 1000, **peaks: int) -> Gate:
    free = None if free_mib is None else free_mib * MIB
    learned = {name: peak * MIB for name, peak in peaks.items()}
    return Gate(Machine(free, disk_mib * MIB), MARKS, learned, lambda _: None, is_busy=busy)


def test_a_start_that_leaves_the_watermark_free_is_let_through():
    assert gate(900, claude=400).closed(action()) is None


def test_a_start_that_would_go_below_the_watermark_waits_and_says_by_how_much():
    reason = gate(800, claude=400).closed(action())
    assert reason == "memory: 800 MiB are free, a run of claude takes 400 MiB, 500 MiB stay free"


def test_what_is_not_known_of_a_provider_is_taken_to_be_usual():
    needed = 500 + UNKNOWN_PEAK_BYTES // MIB
    assert gate(needed).closed(action()) is None
    assert gate(needed - 1).closed(action()) is not None


def test_each_start_of_one_plan_takes_its_part():
    decided = plan(
        [action(slots=10)], [], Limits(total=10), gate=gate(2000, busy=False, claude=400)
    )
    assert len(decided.starts) == 3
    (wait,) = decided.waits
    assert "1200 MiB of it for runs just started" in wait.reason


def test_where_nothing_runs_one_run_may_start_whatever_was_learned():
    assert gate(600, busy=False, claude=4000).closed(action()) is None
    assert gate(499, busy=False, claude=4000).closed(action()) is not None


def test_a_machine_that_does_not_say_what_it_has_is_no_reason_to_wait():
    assert gate(None, claude=4000).closed(action()) is None


def test_a_watermark_of_nothing_is_none():
    open_gate = replace(gate(0, claude=4000), marks=Watermarks(0, 0))
    assert open_gate.closed(action()) is None


def test_a_disk_below_its_watermark_lets_nothing_start():
    reason = gate(9000, disk_mib=99).closed(action())
    assert reason == "disk: 99 MiB are free, 100 MiB stay free"


def test_only_one_run_of_one_plan_tries_what_rested():
    trying = replace(gate(9000), trying=frozenset({("provider", "claude")}))
    actions = [action("ann"), action("bob"), action("cem", "codex")]
    decided = plan(actions, [], Limits(total=10), gate=trying)
    assert [start.action.assignment.agent_id for start in decided.starts] == ["ann", "cem"]
    (wait,) = decided.waits
    assert wait.reason == "one run tries first whether it works again"


RECORD = RunRecord("run_1", "ann", "garden", "task", 0, "claude")
ENDED = replace(
    RECORD, started_at="2026-01-01T00:00:00.000000Z", ended_at="2026-01-01T00:00:03.000000Z"
)


@pytest.mark.parametrize(
    ("record", "ending"),
    [
        (replace(ENDED, outcome="failed", exit_code=1), Ending.QUICK_FAILURE),
        (replace(RECORD, outcome="failed", reason="spawn_failed"), Ending.QUICK_FAILURE),
        (replace(RECORD, outcome="failed", reason="workspace_invalid"), Ending.SILENT),
        (replace(ENDED, outcome="failed", facts={"report": {"result": "failed"}}), Ending.WORKED),
        (
            replace(ENDED, outcome="failed", ended_at="2026-01-01T00:00:13.000000Z"),
            Ending.WORKED,
        ),
        (replace(ENDED, outcome="succeeded"), Ending.WORKED),
        (replace(ENDED, outcome="verify_failed"), Ending.WORKED),
        (replace(ENDED, outcome="suspended"), Ending.WORKED),
        (replace(ENDED, outcome="stopped"), Ending.SILENT),
        (replace(ENDED, outcome="lost"), Ending.SILENT),
        (replace(RECORD, outcome="not_started"), Ending.SILENT),
        (RECORD, Ending.SILENT),
    ],
)
def test_only_a_program_that_failed_by_itself_at_once_counts(record: RunRecord, ending: Ending):
    assert ending_of(record, 10.0) == ending


def test_the_largest_of_the_last_peaks_is_what_a_provider_needs():
    admission = Admission(Breakers(BreakerPolicy(), lambda: 0.5), MARKS, SystemClock())
    for peak in (200, 700, 300):
        admission.ended(replace(ENDED, outcome="succeeded", peak_rss=peak * MIB))
    busy = admission.gate(Machine(1199 * MIB), is_busy=True)
    assert "takes 700 MiB" in (busy.closed(action()) or "")
    assert admission.gate(Machine(1200 * MIB), is_busy=True).closed(action()) is None


def test_a_run_that_was_just_started_has_its_memory_set_aside():
    admission = Admission(Breakers(BreakerPolicy(), lambda: 0.5), MARKS, SystemClock())
    admission.ended(replace(ENDED, outcome="succeeded", peak_rss=400 * MIB))
    admission.started(replace(RECORD, run_id="run_2"))
    assert admission.gate(Machine(1299 * MIB), is_busy=True).closed(action()) is not None
    admission.ended(replace(ENDED, run_id="run_2", outcome="succeeded", peak_rss=400 * MIB))
    assert admission.gate(Machine(1299 * MIB), is_busy=True).closed(action()) is None
