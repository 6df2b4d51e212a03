"""Tasks, projects and agents: what they are, and which status may follow which.

Everything here is a value; the store keeps them and the server changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from aiagent_coordinator.errors import TransitionError


class TaskStatus(StrEnum):
    """Where a task stands."""

    BACKLOG = "backlog"
    BLOCKED = "blocked"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED})


class WaitReason(StrEnum):
    """What a waiting task waits for; `blocked` is the agent's own word."""

    INPUT = "input"
    SUBTASKS = "subtasks"
    AUTH = "auth"
    REVIEW = "review"
    BLOCKED = "blocked"


class TaskKind(StrEnum):
    """What sort of work a task is; a `step` is done inside its parent's run and has no run."""

    WORK = "work"
    STEP = "step"
    SCRIPT = "script"
    FIX = "fix"
    REFLECTION = "reflection"
    ANSWER = "answer"


class WorkspaceKind(StrEnum):
    """Where a run works: an own worktree, an own clone, the checkout itself, or a fresh folder."""

    WORKTREE = "worktree"
    CLONE = "clone"
    DIRECTORY = "directory"
    SCRATCH = "scratch"


class Approval(StrEnum):
    """How much an agent may do without asking: our tools only, edits, or everything."""

    ASK = "ask"
    EDITS = "edits"
    BYPASS = "bypass"


class Duty(StrEnum):
    """What a run is for, and so what its agent is told and may call."""

    WORKER = "worker"
    MANAGER = "manager"
    REVIEWER = "reviewer"


class AgentKind(StrEnum):
    """Whether a program does the work of an agent, or it stands for a human being."""

    PROGRAM = "program"
    PERSON = "person"


@dataclass(frozen=True)
class Transition:
    """One allowed change of status: its published name, from where, to where, and why."""

    name: str
    sources: frozenset[TaskStatus | None]
    target: TaskStatus
    cause: str
    wait_reasons: frozenset[WaitReason] = frozenset()
    #: When the source is `waiting`: only for these reasons (all when empty).
    source_wait_reasons: frozenset[WaitReason] = frozenset()
    #: Only for these kinds of task (all when empty).
    kinds: frozenset[TaskKind] = frozenset()


def _t(
    name: str,
    sources: tuple[TaskStatus | None, ...],
    target: TaskStatus,
    cause: str,
    **limits: frozenset[Any],
) -> Transition:
    return Transition(name, frozenset(sources), target, cause, **limits)


_S = TaskStatus
_OPEN = tuple(status for status in TaskStatus if status not in TERMINAL)

#: Every allowed transition. One number may stand for several rows; a change that matches no row is refused.
TRANSITIONS: tuple[Transition, ...] = (
    _t("T1", (None,), _S.BACKLOG, "created"),
    _t("T1", (None,), _S.QUEUED, "created"),
    _t("T1", (None,), _S.BLOCKED, "created with open dependencies"),
    _t("T2", (_S.BACKLOG,), _S.QUEUED, "submitted"),
    _t("T2", (_S.QUEUED,), _S.BACKLOG, "shelved"),
    _t("T3", (_S.QUEUED,), _S.BLOCKED, "dependency added"),
    _t("T3", (_S.BLOCKED,), _S.QUEUED, "dependencies finished"),
    _t("T4", (_S.QUEUED,), _S.RUNNING, "claimed"),
    _t("T5", (_S.RUNNING,), _S.WAITING, "asked", wait_reasons=frozenset({WaitReason.INPUT})),
    _t(
        "T5",
        (_S.QUEUED,),
        _S.WAITING,
        "a person is asked about its budget or its wait",
        wait_reasons=frozenset({WaitReason.INPUT}),
    ),
    _t(
        "T6",
        (_S.RUNNING,),
        _S.WAITING,
        "waits for sub-tasks",
        wait_reasons=frozenset({WaitReason.SUBTASKS}),
    ),
    _t(
        "T7",
        (_S.QUEUED, _S.RUNNING),
        _S.WAITING,
        "credential missing or expired",
        wait_reasons=frozenset({WaitReason.AUTH}),
    ),
    _t(
        "T8",
        (_S.RUNNING,),
        _S.WAITING,
        "review required",
        wait_reasons=frozenset({WaitReason.REVIEW}),
    ),
    _t(
        "T9",
        (_S.WAITING,),
        _S.QUEUED,
        "answered, process gone",
        source_wait_reasons=frozenset({WaitReason.INPUT}),
    ),
    _t(
        "T9",
        (_S.WAITING,),
        _S.RUNNING,
        "answered, process alive",
        source_wait_reasons=frozenset({WaitReason.INPUT}),
    ),
    _t(
        "T10",
        (_S.WAITING,),
        _S.QUEUED,
        "sub-tasks finished",
        source_wait_reasons=frozenset({WaitReason.SUBTASKS}),
    ),
    _t(
        "T11",
        (_S.WAITING,),
        _S.QUEUED,
        "credential available",
        source_wait_reasons=frozenset({WaitReason.AUTH}),
    ),
    _t(
        "T12",
        (_S.WAITING,),
        _S.SUCCEEDED,
        "approved",
        source_wait_reasons=frozenset({WaitReason.REVIEW}),
    ),
    _t(
        "T12",
        (_S.WAITING,),
        _S.QUEUED,
        "changes requested",
        source_wait_reasons=frozenset({WaitReason.REVIEW}),
    ),
    _t("T13", (_S.RUNNING,), _S.SUCCEEDED, "reported, and the checks passed"),
    _t("T14", (_S.RUNNING,), _S.QUEUED, "retry with a new attempt"),
    _t("T15", (_S.RUNNING,), _S.QUEUED, "again, attempt not spent"),
    _t("T16", (_S.RUNNING,), _S.FAILED, "attempts used up, or a permanent error"),
    _t("T17", _OPEN, _S.CANCELLED, "cancelled"),
    _t("T18", (_S.FAILED, _S.CANCELLED), _S.QUEUED, "retried by a person"),
    _t("T19", (_S.WAITING,), _S.FAILED, "waited too long"),
    _t("T20", (_S.RUNNING,), _S.QUEUED, "run lost"),
    _t("T20", (_S.RUNNING,), _S.FAILED, "run lost too often"),
    _t(
        "T21",
        (_S.QUEUED, _S.BLOCKED),
        _S.FAILED,
        "dependency failed, the deadline passed, or its budget is used up",
    ),
    _t(
        "T22",
        (_S.RUNNING,),
        _S.WAITING,
        "the agent says blocked",
        wait_reasons=frozenset({WaitReason.BLOCKED}),
    ),
    _t(
        "T23",
        (_S.WAITING,),
        _S.QUEUED,
        "unblocked",
        source_wait_reasons=frozenset({WaitReason.BLOCKED}),
    ),
    _t(
        "T24",
        (_S.QUEUED,),
        _S.RUNNING,
        "step begun by the agent that holds the parent",
        kinds=frozenset({TaskKind.STEP}),
    ),
    _t(
        "T24",
        (_S.RUNNING,),
        _S.SUCCEEDED,
        "step done",
        kinds=frozenset({TaskKind.STEP}),
    ),
)


def check_transition(
    name: str,
    source: TaskStatus | None,
    target: TaskStatus,
    *,
    source_wait_reason: WaitReason | None = None,
    wait_reason: WaitReason | None = None,
    kind: TaskKind = TaskKind.WORK,
) -> Transition:
    """Find the row of the table that allows this change.

    Raises:
        TransitionError: no row allows it.
    """
    for row in TRANSITIONS:
        if row.name != name or source not in row.sources or row.target is not target:
            continue
        if row.wait_reasons and wait_reason not in row.wait_reasons:
            continue
        if row.source_wait_reasons and source_wait_reason not in row.source_wait_reasons:
            continue
        if row.kinds and kind not in row.kinds:
            continue
        return row
    came = source.value if source else "nothing"
    raise TransitionError(f"a task that is {came} cannot become {target.value}", transition=name)


@dataclass(frozen=True)
class Check:
    """One command that proves a result: run without a shell, passed when it exits with 0."""

    argv: tuple[str, ...]


@dataclass(frozen=True)
class AskPolicy:
    """How questions of agents are treated. Seconds."""

    #: How long a call waits for its answer, from the question's creation.
    hold_seconds: float = 45.0
    #: Questions one task may ask in all.
    max_per_task: int = 5
    #: A question without an answer fails its task after this.
    timeout_seconds: float = 7 * 86_400.0


@dataclass(frozen=True)
class SubtaskPolicy:
    """What managers may cut their tasks into."""

    #: Levels of sub-tasks below a task of a person.
    max_depth: int = 2
    #: Sub-tasks of one task in all, those that are over too.
    max_per_task: int = 10


@dataclass(frozen=True)
class Question:
    """What an agent wants to know from a person. Closed: no answer is wanted any more."""

    id: str
    task_id: str
    run_id: str
    text: str
    asked_by: str
    asked_at: datetime
    hold_until: datetime
    expires_at: datetime
    options: tuple[str, ...] = ()
    #: When the agent was told to commit and exit, because no answer came in time.
    pending_at: datetime | None = None
    answer: str | None = None
    answered_by: str | None = None
    answered_at: datetime | None = None
    closed_at: datetime | None = None
    closed_reason: str | None = None
    #: `question`; `permission`: whether its program may do something.
    kind: str = "question"

    @property
    def is_open(self) -> bool:
        """Whether an answer is still wanted."""
        return self.answered_at is None and self.closed_at is None


@dataclass(frozen=True)
class Project:
    """A body of work on one folder or repository."""

    id: str
    name: str
    path: str
    base_ref: str | None = None
    workspace: WorkspaceKind = WorkspaceKind.WORKTREE
    allow_dirty: bool = False
    checks: tuple[Check, ...] = ()
    max_concurrent: int | None = None
    status: str = "active"


@dataclass(frozen=True)
class Agent:
    """Who does the work: an identity, a provider and its limits."""

    id: str
    name: str
    provider: str
    model: str | None = None
    role: str = ""
    approval: Approval = Approval.EDITS
    max_concurrent: int = 1
    enabled: bool = True
    #: Worker or manager: whether it does tasks itself or has its subordinates do their parts.
    hierarchy: Duty = Duty.WORKER
    #: The manager it works for.
    parent_id: str | None = None
    #: What it is told step by step, where the task names no workflow; None: that of its hierarchy.
    workflow: str | None = None
    #: A person is never started: agents belong to it, on the machine that it works at.
    kind: AgentKind = AgentKind.PROGRAM
    #: `one-shot` or `live`; None: as its provider says.
    mode: str | None = None
    #: What it may do and who is asked; None: its approval alone says. See `permissions`.
    permissions: dict[str, Any] | None = None

    @property
    def is_person(self) -> bool:
        """Whether it stands for a human being."""
        return self.kind is AgentKind.PERSON


@dataclass(frozen=True)
class Task:
    """A unit of work on the board."""

    id: str
    project_id: str
    agent_id: str | None
    title: str
    description: str
    status: TaskStatus
    created_at: datetime
    updated_at: datetime
    kind: TaskKind = TaskKind.WORK
    parent_id: str | None = None
    priority: int = 0
    wait_reason: WaitReason | None = None
    status_reason: str | None = None
    acceptance: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    branch: str | None = None
    attempt: int = 1
    max_attempts: int = 3
    infra_requeues: int = 0
    not_before: datetime | None = None
    handoff: str | None = None
    progress: int = 0
    version: int = 1
    result: dict[str, Any] = field(default_factory=dict[str, Any])
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: What its agent is told step by step; None: what the agent says.
    workflow: str | None = None
    #: What is kept between the runs of a task that follows a workflow; see `store.subtasks`.
    workflow_state: dict[str, Any] | None = None
    #: How its sub-tasks stood when it began to wait for them: id → word.
    awaited: dict[str, str] | None = None
    #: The batch it was made in, and what it was called there.
    batch_key: str | None = None
    local_id: str | None = None
    #: Whether it may begin: pending, approved, rejected; None: nobody was asked.
    approval: str | None = None
    #: Whose word its result needs: `person`, or an agent's id; None: nobody's.
    review_by: str | None = None
    #: What all its runs may use: `tokens`, `usd`; None: what the settings say.
    budget: dict[str, float] | None = None
    #: Names of `mcp_servers` and `skills` that it is given; a kind that is absent: all its agent has.
    options: dict[str, list[str]] | None = None
    #: How often its result was sent back.
    review_rounds: int = 0
    #: What was said of it: `verdict`, `by`, `at`, `reason`, oldest first.
    feedback: tuple[dict[str, Any], ...] = ()
    #: The task whose result this one judges.
    reviews_id: str | None = None
    #: The firing of an audit that made it.
    audit_firing_id: str | None = None
    #: An audit holds it: only a person moves it until it is released.
    is_locked: bool = False
