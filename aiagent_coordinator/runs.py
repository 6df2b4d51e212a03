"""Runs: one attempt at a task by one CLI process, and what follows from how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.quota import DEFAULT_ACCOUNT, Lane
from aiagent_coordinator.tasks import Duty, TaskStatus


class RunPhase(StrEnum):
    """How far a run is."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHING = "finishing"
    ENDED = "ended"


class RunOutcome(StrEnum):
    """How a run ended; `suspended` spends no attempt, `lost` is never success."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    VERIFY_FAILED = "verify_failed"
    SUSPENDED = "suspended"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    LOST = "lost"
    NOT_STARTED = "not_started"


class Verification(StrEnum):
    """What the checks say about the sealed commit."""

    VERIFIED = "verified"
    NOT_VERIFIED = "not_verified"
    REFUTED = "refuted"


class Purpose(StrEnum):
    """Why an agent is started in a project."""

    TASK = "task"
    CHAT = "chat"


class ReasonClass(StrEnum):
    """What kind of end a reason is; it decides the task's next status."""

    DONE = "done"
    PERMANENT = "permanent"
    TRANSIENT = "transient"
    INFRA = "infra"
    PARKED = "parked"
    OURS = "ours"
    FENCED = "fenced"


#: The closed list of reasons, each in its class.
REASONS: dict[str, ReasonClass] = {
    **dict.fromkeys(("lingering",), ReasonClass.DONE),
    **dict.fromkeys(
        (
            "refused_permission",
            "workflow_not_found",
            "workspace_invalid",
            "options_invalid",
            "attempts_exhausted",
        ),
        ReasonClass.PERMANENT,
    ),
    **dict.fromkeys(
        (
            "no_report",
            "exit_nonzero",
            "signal",
            "timed_out",
            "stalled",
            "log_limit",
            "memory_limit",
            "cpu_limit",
            "process_limit",
            "oom",
            "turn_limit",
            "cost_limit",
            "context_overflow",
            "never_authenticated",
            "tools_absent",
            "verify_failed",
            "agent_reported",
        ),
        ReasonClass.TRANSIENT,
    ),
    **dict.fromkeys(
        ("spawn_failed", "shim_lost", "bad_record", "lost", "network", "overloaded", "disk"),
        ReasonClass.INFRA,
    ),
    # a program that moved on is no fault of the task: its coordinator starts nothing with it until then
    **dict.fromkeys(
        (
            *("rate_limited", "quota", "billing", "model_unavailable"),
            *("auth", "bad_flags", "budget"),
        ),
        ReasonClass.PARKED,
    ),
    **dict.fromkeys(
        ("asked", "delegated", "cancelled", "stopped", "killed", "drained"), ReasonClass.OURS
    ),
    "superseded": ReasonClass.FENCED,
}

#: Infrastructure failures of one task before it fails: they cost no attempt, so they need a cap.
MAX_INFRA_REQUEUES = 5


def reason_class(reason: str | None) -> ReasonClass:
    """The class of a reason; no reason is `done`.

    Raises:
        ValidationError: the reason is not in the closed list.
    """
    if reason is None:
        return ReasonClass.DONE
    try:
        return REASONS[reason]
    except KeyError:
        raise ValidationError(f"unknown run reason {reason!r}") from None


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon a failed task is tried again. Seconds per attempt; the last repeats."""

    max_attempts: int = 3
    backoff_seconds: tuple[float, ...] = (30.0, 120.0, 600.0)
    #: Failures of the network, the machine or the provider's servers that a task may have, and the waits
    #: from the second on; they cost no attempt. None: as between attempts.
    infra_requeues: int = MAX_INFRA_REQUEUES
    infra_backoff_seconds: tuple[float, ...] | None = None

    def wait_after(self, attempt: int) -> float:
        """Seconds to wait after the given failed attempt (1 is the first)."""
        return _wait(self.backoff_seconds, attempt)

    def infra_wait_after(self, requeues: int) -> float:
        """Seconds to wait after so many such failures before this one; the first is retried at once."""
        waits = self.infra_backoff_seconds
        return (
            _wait(self.backoff_seconds if waits is None else waits, requeues) if requeues else 0.0
        )


def _wait(waits: tuple[float, ...], number: int) -> float:
    return waits[min(number, len(waits)) - 1] if waits else 0.0


@dataclass(frozen=True)
class Disposition:
    """What becomes of the task after a run: transition, status, and how long it rests."""

    transition: str
    status: TaskStatus
    spends_attempt: bool = False
    counts_infra: bool = False
    wait_seconds: float = 0.0
    status_reason: str | None = None


def dispose(
    outcome: RunOutcome,
    reason: str | None,
    *,
    attempt: int,
    max_attempts: int,
    infra_requeues: int,
    policy: RetryPolicy,
) -> Disposition:
    """Decide what follows for the task from how its run ended. Pure.

    Args:
        outcome: How the run ended.
        reason: One of `REASONS`, or None for plain success.
        attempt: The attempt the run was, from 1.
        max_attempts: Attempts the task has in all.
        infra_requeues: Infrastructure failures the task has had before this one.
        policy: Waits between attempts.
    """
    kind = reason_class(reason)
    if outcome is RunOutcome.SUCCEEDED:
        return Disposition("T13", TaskStatus.SUCCEEDED, status_reason=reason)
    if outcome is RunOutcome.CANCELLED:
        return Disposition("T17", TaskStatus.CANCELLED, status_reason=reason)
    if kind is ReasonClass.PERMANENT:
        return Disposition("T16", TaskStatus.FAILED, status_reason=reason)
    if kind in {ReasonClass.TRANSIENT, ReasonClass.DONE}:
        return _spend_attempt(reason, attempt, max_attempts, policy)
    if kind is ReasonClass.INFRA:
        again, failed = ("T20", "T20") if outcome is RunOutcome.LOST else ("T15", "T16")
        if infra_requeues >= policy.infra_requeues:
            return Disposition(
                failed, TaskStatus.FAILED, counts_infra=True, status_reason="attempts_exhausted"
            )
        # The first one is retried at once: most are one bad moment.
        wait = policy.infra_wait_after(infra_requeues)
        return Disposition(
            again, TaskStatus.QUEUED, counts_infra=True, wait_seconds=wait, status_reason=reason
        )
    return Disposition("T15", TaskStatus.QUEUED, status_reason=reason)


def _spend_attempt(
    reason: str | None, attempt: int, max_attempts: int, policy: RetryPolicy
) -> Disposition:
    if attempt >= max_attempts:
        return Disposition("T16", TaskStatus.FAILED, status_reason="attempts_exhausted")
    return Disposition(
        "T14",
        TaskStatus.QUEUED,
        spends_attempt=True,
        wait_seconds=policy.wait_after(attempt),
        status_reason=reason,
    )


@dataclass(frozen=True)
class Assignment:
    """One line of work the loop looks after: an agent in a project for a purpose."""

    agent_id: str
    project_id: str
    purpose: Purpose = Purpose.TASK


@dataclass(frozen=True)
class ShimIdentity:
    """Which process a shim is: pid alone is reused, so start ticks and boot go with it."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True)
class Run:
    """One run as the store keeps it."""

    id: str
    task_id: str | None
    agent_id: str
    project_id: str
    provider: str
    attempt: int
    purpose: Purpose
    slot: int
    phase: RunPhase
    fence: int
    coordinator_id: str
    holder: str
    created_at: datetime
    lease_until: datetime
    outcome: RunOutcome | None = None
    reason: str | None = None
    verification: Verification | None = None
    shim: ShimIdentity | None = None
    host_id: str | None = None
    stage: str | None = None
    hello_at: datetime | None = None
    authenticated_at: datetime | None = None
    reported_result: str | None = None
    reported_summary: str | None = None
    reported_at: datetime | None = None
    #: What the report named for each acceptance criterion: `criterion` (from 1) and `text`.
    evidence: tuple[dict[str, Any], ...] = ()
    #: Criteria that the last refused report left out, and how often a report was refused.
    missing_evidence: tuple[int, ...] = ()
    report_refusals: int = 0
    stop_reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    branch: str | None = None
    base_commit: str | None = None
    commit: str | None = None
    log_path: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: How long its CLI lets one call of ours take; None: not told.
    tool_timeout_seconds: float | None = None
    #: What its CLI calls the session it had, and the one it went on with.
    provider_session_id: str | None = None
    resumed_session_id: str | None = None
    #: Diagnostics of a run that is over; see `pipeline.summary`.
    summary: dict[str, Any] | None = None
    cpu_seconds: float | None = None
    #: Bytes.
    peak_rss: int | None = None
    #: What went over a limit or nearly did: what it is about → a sentence.
    warnings: dict[str, str] | None = None
    #: What its program says that it used: tokens `in`, `out`, `cache`, and `cost` in US dollars.
    usage: dict[str, Any] | None = None
    #: Commands of processes that outlived the CLI, and whether they were ended.
    leftovers: tuple[str, ...] = ()
    leftovers_ended: bool | None = None
    #: Answers to its questions go to its program's standard input, not to the call that asked.
    answers_on_stdin: bool = False
    #: What it is for; fixed when it is claimed.
    duty: Duty = Duty.WORKER
    #: What its program takes in while it works: `turn`, `interrupt`; None: nothing. See `tells`.
    listens: str | None = None
    #: What its program does, in at most 200 characters, secrets masked; None: it does not say.
    activity: str | None = None
    #: What its model has before it: `used` and `limit` (tokens, the limit may be null), and `at`.
    context: dict[str, Any] | None = None
    #: How often its program shortened that.
    compactions: int | None = None
    #: Limits of its account that it was told of: `window`, `status`, `used` (0 to 1), `resets_at`.
    limits: tuple[dict[str, Any], ...] = ()
    #: `tool_calls`, `tool_errors`, `turns`, `retries`.
    counts: dict[str, int] | None = None
    #: With `provider`: what it works on. No model: the program's own default.
    account: str = DEFAULT_ACCOUNT
    model: str | None = None

    @property
    def lane(self) -> Lane:
        """What it works on."""
        return Lane(self.provider, self.account, self.model)
