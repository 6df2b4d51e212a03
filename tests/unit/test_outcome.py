"""How a run's end is judged from its facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aiagent_coordinator.pipeline.outcome import decide
from aiagent_coordinator.pipeline.run import CheckResult, RunRecord
from aiagent_coordinator.runs import REASONS

SUCCESS = {"report": {"result": "success"}, "hello_at": "t", "authenticated_at": "t"}
PASSED = CheckResult(("true",), 0, 0.1)
FAILED = CheckResult(("false",), 1, 0.1)


TALKED = {"hello_at": "t", "authenticated_at": "t"}


def record(**facts: Any) -> RunRecord:
    base: dict[str, Any] = {"found": "recorded", "exit_code": 0}
    return RunRecord("run_1", "a", "p", "task", 0, "rehearsal", **{**base, **facts})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"facts": {**TALKED, "unanswered": 0}}, ("succeeded", None)),
        ({"facts": {**TALKED, "unanswered": 1}}, ("failed", "no_report")),
        # a server that does not say it
        ({"facts": TALKED}, ("failed", "no_report")),
        ({"facts": {"hello_at": "t", "unanswered": 0}}, ("failed", "never_authenticated")),
        ({"facts": {**TALKED, "unanswered": 0}, "exit_code": 3}, ("failed", "exit_nonzero")),
        (
            {"facts": {**TALKED, "unanswered": 0}, "exit_code": None, "signal": 9},
            ("failed", "signal"),
        ),
    ],
)
def test_a_chat_owes_no_report_but_answers(
    facts: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    end = decide(replace(record(**facts), purpose="chat"), exit0_is_success=False, diagnosed=None)
    assert (end.outcome.value, end.reason) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"facts": SUCCESS}, ("succeeded", None)),
        ({"facts": SUCCESS, "checks": (PASSED,)}, ("succeeded", None)),
        ({"facts": SUCCESS, "exit_code": 7}, ("succeeded", None)),
        ({"facts": SUCCESS, "checks": (PASSED, FAILED)}, ("verify_failed", "verify_failed")),
        ({"facts": {"report": {"result": "failed"}}}, ("failed", "agent_reported")),
        ({"facts": {"report": {"result": "blocked"}}}, ("suspended", "agent_reported")),
        ({"facts": {}}, ("failed", "tools_absent")),
        ({"facts": {"hello_at": "t"}}, ("failed", "never_authenticated")),
        ({"facts": {"hello_at": "t", "authenticated_at": "t"}}, ("failed", "no_report")),
        ({"exit_code": 3}, ("failed", "exit_nonzero")),
        ({"exit_code": None, "signal": 9}, ("failed", "signal")),
        ({"exit_code": None, "signal": 9, "exit_reason": "oom"}, ("failed", "oom")),
        (
            {"stop_reason": "cpu_limit", "exit_reason": "killed", "signal": 9},
            ("failed", "cpu_limit"),
        ),
        (
            {"stop_reason": "process_limit", "exit_reason": "stopped", "signal": 15},
            ("failed", "process_limit"),
        ),
        ({"found": "lost", "exit_code": None}, ("lost", "shim_lost")),
        ({"found": "lost", "exit_code": None, "facts": SUCCESS}, ("lost", "shim_lost")),
        ({"found": "bad_record", "exit_code": None}, ("lost", "bad_record")),
        ({"found": "never_started", "exit_code": None}, ("not_started", "spawn_failed")),
        ({"exit_code": None, "exit_reason": "spawn_failed"}, ("not_started", "spawn_failed")),
        ({"exit_code": None, "exit_reason": "disk"}, ("not_started", "disk")),
        (
            {"found": None, "exit_reason": "workspace_invalid"},
            ("not_started", "workspace_invalid"),
        ),
        (
            {"stop_reason": "cancelled", "exit_reason": "stopped", "signal": 15},
            ("cancelled", "cancelled"),
        ),
        (
            {"stop_reason": "stopped", "exit_reason": "killed", "signal": 9},
            ("stopped", "stopped"),
        ),
        ({"stop_reason": "stalled", "exit_reason": "stopped", "signal": 15}, ("failed", "stalled")),
        (
            {"stop_reason": "lingering", "exit_reason": "stopped", "signal": 15, "facts": SUCCESS},
            ("succeeded", "lingering"),
        ),
        ({"facts": {"question": {"pending": True, "answered": False}}}, ("suspended", "asked")),
        ({"facts": {"question": {"pending": True, "answered": True}}}, ("suspended", "asked")),
        (
            {"facts": {"question": {"pending": False, "answered": False}}, "exit_code": 1},
            ("suspended", "asked"),
        ),
        (
            {"facts": {"question": {"pending": False, "answered": True}}, "exit_code": 1},
            ("failed", "exit_nonzero"),
        ),
        ({"facts": {**SUCCESS, "question": {"pending": True}}}, ("succeeded", None)),
        ({"facts": SUCCESS, "seal_error": "nested"}, ("failed", "workspace_invalid")),
        ({"facts": SUCCESS, "superseded": True}, ("stopped", "superseded")),
        # it heard that its task is cancelled, and left before our signal came
        ({"stop_reason": "cancelled", "facts": TALKED}, ("cancelled", "cancelled")),
        ({"stop_reason": "cancelled", "facts": TALKED, "exit_code": 3}, ("failed", "exit_nonzero")),
        # our stop came when it had ended by itself
        ({"stop_reason": "stopped", "exit_reason": None, "facts": SUCCESS}, ("succeeded", None)),
    ],
)
def test_an_end_is_named(facts: dict[str, Any], expected: tuple[str, str | None]):
    end = decide(record(**facts), exit0_is_success=False, diagnosed=None)
    assert (end.outcome.value, end.reason) == expected
    assert end.reason is None or end.reason in REASONS


def test_what_the_cli_said_of_itself_names_the_reason():
    end = decide(record(exit_code=1), exit0_is_success=False, diagnosed="auth")
    assert (end.outcome.value, end.reason) == ("failed", "auth")


def test_exit_zero_counts_only_for_programs_that_cannot_report():
    assert decide(record(), exit0_is_success=True, diagnosed=None).outcome.value == "succeeded"
    assert decide(record(), exit0_is_success=False, diagnosed=None).outcome.value == "failed"
    failed = decide(record(exit_code=1), exit0_is_success=True, diagnosed=None)
    assert (failed.outcome.value, failed.reason) == ("failed", "exit_nonzero")


def test_a_record_survives_its_journal_form():
    before = record(facts=SUCCESS, checks=(PASSED,), argv=("a", "b"), claim={"fence": 3})
    assert RunRecord.from_json(before.to_json()) == before
