"""What the coordinator's calls carry: arguments and answers, field by field as they are on the wire.

Values only. Times are UTC, durations seconds, sizes bytes. `None` is absent on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import pydantic

from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.handoffs import LeftHandoff
from aiagent_coordinator.quota import DEFAULT_ACCOUNT, Lane, Limit
from aiagent_coordinator.runs import Purpose, RunOutcome, RunPhase, ShimIdentity, Verification
from aiagent_coordinator.skills import GivenSkill
from aiagent_coordinator.tasks import Approval, Check, TaskStatus, WaitReason, WorkspaceKind

T = TypeVar("T")


@dataclass(frozen=True)
class LineWait:
    """A line of work that has something to do and waits at its coordinator, and why."""

    agent_id: str
    project_id: str
    reason: str
    purpose: Purpose = Purpose.TASK


@dataclass(frozen=True)
class OpenCircuit:
    """What a coordinator leaves alone because it failed again and again at once."""

    #: `provider` or `line`.
    scope: str
    name: str
    #: `open`, or `half-open` while one run tries.
    state: str
    #: Quick failures in a row.
    failures: int
    #: Left of the rest.
    seconds: float
    #: Of the last failure.
    reason: str = ""


@dataclass(frozen=True)
class ListActions:
    """Arguments of `list_agent_actions`."""

    coordinator_id: str
    root_agent_id: str | None = None
    #: Agents that this coordinator cannot start, each with the reason; None: not told.
    unfit: dict[str, str] | None = None
    #: What waited at this coordinator when it last looked.
    waits: tuple[LineWait, ...] = ()
    circuits: tuple[OpenCircuit, ...] = ()
    #: `etag` of the answer that the caller has; an answer that says the same has no actions.
    known: str | None = None


@dataclass(frozen=True)
class Action:
    """What should happen for one assignment: start, hold, or stop one of its runs."""

    agent_id: str
    project_id: str
    purpose: Purpose
    action: str
    reason: str
    provider: str
    slots_free: int
    max_concurrent: int
    approval: Approval
    task_id: str | None = None
    model: str | None = None
    #: Of a manager that waits for its sub-tasks: completed, in_progress, total.
    progress: dict[str, int] | None = None
    account: str | None = None
    #: What it may work on now, the first before the others; None: only what is said above.
    lanes: tuple[Lane, ...] | None = None


@dataclass(frozen=True)
class ActionsAnswer:
    """Answer of `list_agent_actions`; the version grows with every committed change.

    Answers of one server with the same `etag` have the same actions, which are left out where the
    caller said that it knows them.
    """

    version: int
    actions: tuple[Action, ...]
    etag: str | None = None


@dataclass(frozen=True)
class ClaimRequest:
    """Arguments of `claim_run`. Idempotent on `run_id`."""

    run_id: str
    coordinator_id: str
    epoch: int
    agent_id: str
    project_id: str
    purpose: Purpose
    slot: int
    token_sha256: str
    #: Whose agent it must be, and in whose folder it works; None: anybody's, where the project lies.
    root_agent_id: str | None = None
    #: What it is to work on, of what the board offered; None: the first that is open.
    lane: Lane | None = None


@dataclass(frozen=True)
class Resume:
    """Where an interrupted task goes on."""

    provider_session_id: str | None = None
    stage: str | None = None
    #: The run that had this session.
    run_id: str | None = None


@dataclass(frozen=True)
class ClaimedAnswer:
    """A question that an earlier run of the task asked, and what a person said to it."""

    question: str
    answer: str
    answered_by: str
    answered_at: datetime


@dataclass(frozen=True)
class ClaimedTell:
    """What a person told the task's agent meanwhile."""

    text: str
    author: str
    at: datetime


@dataclass(frozen=True)
class ClaimedTask:
    """The task of a claim, with the project's checks before its own."""

    id: str
    title: str
    description: str
    acceptance: tuple[str, ...]
    checks: tuple[Check, ...]
    base_ref: str | None
    attempt: int
    max_attempts: int
    branch: str | None = None
    handoff: str | None = None
    answers: tuple[ClaimedAnswer, ...] = ()
    resume: Resume | None = None
    #: For this run's agent, oldest first.
    handoffs: tuple[LeftHandoff, ...] = ()
    #: What people told its agent, oldest first: all of it, or what the session gone on with has not heard.
    tells: tuple[ClaimedTell, ...] = ()
    #: Names of `mcp_servers` and `skills` that it is given; a kind that is absent: all its agent has.
    options: dict[str, list[str]] | None = None


@dataclass(frozen=True)
class ClaimedProject:
    """The project of a claim."""

    id: str
    path: str
    workspace: WorkspaceKind
    allow_dirty: bool = False


@dataclass(frozen=True)
class ClaimedAgent:
    """The agent of a claim."""

    id: str
    provider: str
    approval: Approval
    model: str | None = None
    role: str | None = None
    #: In the order of their names.
    skills: tuple[GivenSkill, ...] = ()
    mode: str | None = None
    #: `ask`, `allow`, `deny`; None: its approval alone says.
    permissions: dict[str, Any] | None = None
    #: The account of the provider.
    account: str = DEFAULT_ACCOUNT


@dataclass(frozen=True)
class ClaimAnswer:
    """Answer of `claim_run`: everything a run needs, or why there is none."""

    claimed: bool
    reason: str | None = None
    fence: int | None = None
    lease_until: datetime | None = None
    task: ClaimedTask | None = None
    project: ClaimedProject | None = None
    agent: ClaimedAgent | None = None


@dataclass(frozen=True)
class StartedReport:
    """Arguments of `report_run_started`."""

    run_id: str
    fence: int
    seq: int
    host_id: str
    shim: ShimIdentity
    workspace: str
    log_path: str
    argv_masked: tuple[str, ...]
    branch: str | None = None
    base_commit: str | None = None
    #: How long its CLI lets one call of ours take.
    tool_timeout_seconds: float | None = None
    #: The session of its CLI that this run goes on with.
    resumed_session_id: str | None = None
    answers_on_stdin: bool = False
    #: What its program takes in while it works: `turn` or `interrupt`; None: nothing.
    listens: str | None = None


@dataclass(frozen=True)
class StartedAnswer:
    """Answer of `report_run_started`."""

    ok: bool = True


@dataclass(frozen=True)
class LiveFacts:
    """What a run's program said of itself: what changed since it was told last, as it is now.

    Attributes:
        activity: What it does, masked; empty: nothing.
        context: `used` and `limit`, tokens; the limit may be null.
        usage: As a run's.
        compactions: How often it shortened its context, all so far.
        compacted: What it said of the last of them, the oldest first.
        limits: Every window that it told of: `window`, `status`, `used`, `resets_at`.
        counts: `tool_calls`, `tool_errors`, `turns`, `retries`.
    """

    activity: str | None = None
    context: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    compactions: int | None = None
    compacted: tuple[str, ...] = ()
    limits: tuple[dict[str, Any], ...] | None = None
    counts: dict[str, int] | None = None


@dataclass(frozen=True)
class HeldRun:
    """One run that a coordinator holds, with what is new about it."""

    run_id: str
    fence: int
    phase: RunPhase
    activity: str | None = None
    provider_session_id: str | None = None
    usage: dict[str, Any] | None = None
    progress: int | None = None
    #: All of them so far: what it is about → a sentence.
    warnings: dict[str, str] = field(default_factory=dict[str, str])
    #: Messages of people that its program took up: all so far.
    heard: tuple[str, ...] = ()
    live: LiveFacts | None = None


@dataclass(frozen=True)
class RenewRequest:
    """Arguments of `renew_runs`: the complete list."""

    coordinator_id: str
    epoch: int
    runs: tuple[HeldRun, ...]


@dataclass(frozen=True)
class StopWish:
    """Somebody wants the run stopped."""

    reason: str


@dataclass(frozen=True)
class AgentReport:
    """How the agent said its task went."""

    result: str
    at: datetime
    summary: str | None = None


@dataclass(frozen=True)
class AskedQuestion:
    """The last question of a run. Pending: the agent was told to commit and exit.

    `answer` is there when it is the coordinator's to deliver, on the program's standard input.
    """

    id: str
    at: datetime
    answered: bool
    pending: bool
    answer: str | None = None


@dataclass(frozen=True)
class Said:
    """A message of a person, to be given to the run's program."""

    id: str
    text: str
    #: What it does is broken off first.
    interrupts: bool = False


@dataclass(frozen=True)
class RenewedRun:
    """One line of the answer: `held`, `superseded` or `unknown`, and what the agent or a person said."""

    run_id: str
    state: str
    stop: StopWish | None = None
    report: AgentReport | None = None
    question: AskedQuestion | None = None
    hello_at: datetime | None = None
    authenticated_at: datetime | None = None
    #: What people say to it and it has not heard.
    tells: tuple[Said, ...] = ()
    #: From which use on the coordinator should say so at once: `tokens` (all together), `cost`.
    tell_at: dict[str, float] | None = None


@dataclass(frozen=True)
class RenewAnswer:
    """Answer of `renew_runs`; `unlisted` are runs the caller should hold and did not name."""

    lease_until: datetime
    runs: tuple[RenewedRun, ...]
    unlisted: tuple[str, ...]


@dataclass(frozen=True)
class ExitReport:
    """Arguments of `report_run_exit`."""

    run_id: str
    fence: int
    seq: int
    ended_at: datetime
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    started_at: datetime | None = None
    cpu_seconds: float | None = None
    peak_rss: int | None = None
    #: Commands of processes that outlived the CLI.
    leftovers: tuple[str, ...] = ()
    leftovers_ended: bool = True
    warnings: dict[str, str] = field(default_factory=dict[str, str])
    #: Messages of people that the program took up.
    heard: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExitAnswer:
    """Answer of `report_run_exit`: what the server knows of the agent's own words."""

    report: AgentReport | None = None
    question: AskedQuestion | None = None
    hello_at: datetime | None = None
    authenticated_at: datetime | None = None
    #: Of a session for a chat: how much it left without an answer. None: it is for a task.
    unanswered: int | None = None


@dataclass(frozen=True)
class CheckResult:
    """One check that was run."""

    argv: tuple[str, ...]
    exit_code: int | None
    seconds: float


@dataclass(frozen=True)
class LogFacts:
    """Where the run's log is and how much it holds."""

    path: str | None = None
    out_bytes: int = 0
    err_bytes: int = 0


@dataclass(frozen=True)
class ResultReport:
    """Arguments of `report_run_result`. `diagnosis` has the keys text and class."""

    run_id: str
    fence: int
    seq: int
    outcome: RunOutcome
    verification: Verification
    reason: str | None = None
    sealed_commit: str | None = None
    branch: str | None = None
    pushed: bool | None = None
    checks: tuple[CheckResult, ...] = ()
    diagnosis: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    log: LogFacts = field(default_factory=LogFacts)
    handoff: str | None = None
    provider_session_id: str | None = None
    summary: dict[str, Any] | None = None
    live: LiveFacts | None = None
    #: What its program ended with in place of a report: a person is to answer. Only with `suspended`.
    question: str | None = None
    #: What its provider said of the limit that ended it.
    limit: Limit | None = None


@dataclass(frozen=True)
class ResultAnswer:
    """Answer of `report_run_result`: where the task stands now."""

    task_status: TaskStatus | None
    attempt: int
    wait_reason: WaitReason | None = None
    not_before: datetime | None = None


@cache
def _adapter(shape: type[Any]) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(shape)


def from_wire(shape: type[T], arguments: object) -> T:
    """Read one of these from what came over the wire; unknown keys of newer programs are ignored.

    Raises:
        ValidationError: a field is missing or has the wrong type; the message names it.
    """
    try:
        return _adapter(shape).validate_python(arguments)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValidationError(f"{where}: {first['msg']}", key=where) from None


def to_wire(value: object) -> dict[str, Any]:
    """Write one of these as plain JSON values; what is None is left out."""
    return _adapter(type(value)).dump_python(value, mode="json", exclude_none=True)


def schema_of(shape: type[Any]) -> dict[str, Any]:
    """The JSON Schema of one of these."""
    return _adapter(shape).json_schema()
