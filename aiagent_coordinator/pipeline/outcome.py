"""How a run ended, decided from its facts. Pure.

The agent's report and the checks decide; the exit code is kept beside them and never stands for
the reason. No report is never success, except for programs that cannot report, and for sessions of a
chat that left nothing without an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiagent_coordinator.executors.base import HoldState
from aiagent_coordinator.pipeline.run import RunRecord
from aiagent_coordinator.runs import Purpose, RunOutcome

#: Ends that we caused and that say nothing about the task.
_OUR_STOPS = frozenset({"stopped", "killed", "drained"})
#: Ends that we caused because a limit was reached.
_LIMIT_STOPS = frozenset(
    {
        "stalled",
        "timed_out",
        "log_limit",
        "memory_limit",
        "cpu_limit",
        "process_limit",
        "turn_limit",
        "budget",
    }
)
#: Records of a run that never reached its CLI.
_NEVER = frozenset({HoldState.NEVER_STARTED.value, HoldState.ABSENT.value})
_LOST = {
    HoldState.LOST.value: "shim_lost",
    HoldState.BAD_RECORD.value: "bad_record",
    HoldState.FOREIGN_FORMAT.value: "bad_record",
}


@dataclass(frozen=True)
class End:
    """An outcome and its reason from the closed list; None for plain success."""

    outcome: RunOutcome
    reason: str | None = None


def claims_success(record: RunRecord, *, exit0_is_success: bool) -> bool:
    """Whether the checks are to be run: the agent reported success, or exit 0 stands for it."""
    early = _early_end(record)
    if early is not None:
        return False
    if record.report:
        return record.report.get("result") == "success"
    return exit0_is_success and record.exit_code == 0 and not _says_failed(record)


def decide(record: RunRecord, *, exit0_is_success: bool, diagnosed: str | None) -> End:
    """Decide outcome and reason after the checks have run.

    Args:
        record: The run's facts, checks included.
        exit0_is_success: For programs that cannot report: exit 0 counts as the report.
        diagnosed: A reason read from the CLI's own output, or None.
    """
    early = _early_end(record)
    if early is not None:
        return early
    if claims_success(record, exit0_is_success=exit0_is_success):
        return _after_checks(record)
    if record.report:
        return _as_reported(record.report)
    question: dict[str, Any] = record.facts.get("question") or {}
    if question.get("pending") or question.get("answered") is False:
        # It asked and left, as it was told to; or left before it was told.
        return End(RunOutcome.SUSPENDED, "asked")
    if diagnosed in {None, "exit_nonzero"} and _could_not_resume(record):
        # Nothing was tried yet: the next run begins anew, with the hand-off, and no attempt is lost.
        return End(RunOutcome.FAILED, "spawn_failed")
    if diagnosed is None and _has_said_all(record):
        return End(RunOutcome.SUCCEEDED)
    reason = _unreported(record) if diagnosed in {None, "exit_nonzero"} else diagnosed
    if reason == "no_report" and asks_in_the_end(record):
        # It had no other way to ask, or took none: a person answers, and no attempt is lost.
        return End(RunOutcome.SUSPENDED, "asked")
    if record.stop_reason == "cancelled" and reason == "no_report":
        # It was told that its task is cancelled, and left before our signal reached it.
        return End(RunOutcome.CANCELLED, "cancelled")
    return End(RunOutcome.FAILED, reason)


def _as_reported(report: Mapping[str, Any]) -> End:
    """The end of a run whose agent says that its task is not done."""
    if report.get("result") == "blocked":
        return End(RunOutcome.SUSPENDED, "agent_reported")
    if report.get("result") == "waiting":
        return End(RunOutcome.SUSPENDED, "delegated")
    return End(RunOutcome.FAILED, "agent_reported")


def _early_end(record: RunRecord) -> End | None:
    """The end of a run whose work is not judged: lost, never started, or stopped by us."""
    if record.superseded:
        return End(RunOutcome.STOPPED, "superseded")
    if record.seal_error:
        return End(RunOutcome.FAILED, "workspace_invalid")
    if record.found in _LOST:
        return End(RunOutcome.LOST, _LOST[record.found])
    if record.exit_reason in {"workspace_invalid", "options_invalid", "spawn_failed", "disk"}:
        return End(RunOutcome.NOT_STARTED, record.exit_reason)
    # A CLI that finished before our signal reached it ended by itself.
    stopped_by_us = record.stop_reason and record.exit_reason in {
        "stopped",
        "killed",
        "not_started",
    }
    if stopped_by_us and record.stop_reason == "cancelled":
        return End(RunOutcome.CANCELLED, "cancelled")
    if stopped_by_us and record.stop_reason in _OUR_STOPS and not record.report:
        return End(RunOutcome.STOPPED, record.stop_reason)
    if stopped_by_us and record.stop_reason in _LIMIT_STOPS and not record.report:
        return End(RunOutcome.FAILED, record.stop_reason)
    if record.found in _NEVER or record.exit_reason == "not_started":
        return End(RunOutcome.NOT_STARTED, "spawn_failed")
    return None


def _after_checks(record: RunRecord) -> End:
    if any(check.exit_code != 0 for check in record.checks):
        return End(RunOutcome.VERIFY_FAILED, "verify_failed")
    if record.stop_reason == "lingering" and record.exit_reason in {"stopped", "killed"}:
        return End(RunOutcome.SUCCEEDED, "lingering")
    return End(RunOutcome.SUCCEEDED)


def asks_in_the_end(record: RunRecord) -> str | None:
    """The question with which a program ended well, in place of a report; a guest's server has no such thing."""
    question: str | None = (record.stated or {}).get("question")
    is_clean = record.exit_code == 0 and record.signal is None and not _says_failed(record)
    if question is None or not is_clean or record.purpose != Purpose.TASK or record.is_guest:
        return None
    return question


def _says_failed(record: RunRecord) -> bool:
    """Whether the program says itself that it failed, whatever its exit code."""
    return (record.stated or {}).get("is_error") is True


def _could_not_resume(record: RunRecord) -> bool:
    """Whether the CLI gave up a session it was to go on with before its agent called us."""
    is_early = not record.facts.get("authenticated_at")
    return bool(record.resumed_session_id and record.exit_code and is_early)


def _has_said_all(record: RunRecord) -> bool:
    """Whether a session for a chat ended by itself and left nothing without an answer: it owes no report."""
    has_talked = record.facts.get("authenticated_at") is not None
    is_clean = record.exit_code == 0 and record.signal is None
    is_chat = record.purpose == Purpose.CHAT
    return is_chat and is_clean and has_talked and record.facts.get("unanswered") == 0


def _unreported(record: RunRecord) -> str:
    if record.signal is not None:
        return "oom" if record.exit_reason == "oom" else "signal"
    if (record.stated or {}).get("lacks_our_tools") and not record.facts.get("hello_at"):
        return "tools_absent"
    if record.exit_code:
        return "exit_nonzero"
    if not record.facts.get("hello_at"):
        return "tools_absent"
    if not record.facts.get("authenticated_at"):
        return "never_authenticated"
    return "no_report"
