"""Audits: rules that watch the tasks of a project, and what they do when one fires. Values, pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiagent_coordinator.tasks import Task, TaskKind, TaskStatus
from aiagent_coordinator.templates import TaskDraft


class AuditStatus(StrEnum):
    """Whether the rules of an audit fire."""

    ACTIVE = "active"
    #: Put away: nothing fires, and nothing stays locked.
    INACTIVE = "inactive"
    #: Nothing fires for now; what is locked stays so.
    SUSPENDED = "suspended"


class Trigger(StrEnum):
    """What a rule waits for."""

    TASK_COMPLETED = "task_completed"
    STATUS_CHANGED = "status_changed"
    HANDOFF_COMPLETED = "handoff_completed"
    DEADLINE_EXCEEDED = "deadline_exceeded"


class LockSubject(StrEnum):
    """What a rule can hold."""

    TASK = "task"
    AGENT = "agent"


@dataclass(frozen=True)
class Rule:
    """What is made and held when something happens to a task."""

    trigger: Trigger
    #: For `status_changed`: into one of these.
    to: tuple[TaskStatus, ...] = ()
    #: Only tasks of these agents; none: everybody's.
    agents: tuple[str, ...] = ()
    lock: tuple[LockSubject, ...] = ()
    tasks: tuple[TaskDraft, ...] = ()


@dataclass(frozen=True)
class Audit:
    """The rules of one file."""

    name: str
    title: str
    rules: tuple[Rule, ...]
    file: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Change:
    """How a task changed: the row of the transition table, and why."""

    transition: str
    target: TaskStatus
    reason: str | None


#: What the texts of an audit's tasks may name.
FACTS: Final = (
    *("task_id", "task_title", "task_description", "task_status", "agent_id", "summary"),
    *("branch", "commit", "reason", "audit"),
)
#: A run that went over its time, and an answer that did not come in time: tasks have no due date.
_OVERDUE: Final = frozenset({"timed_out", "question_timeout"})
#: Rows that say nothing new: a task was put on the board.
_MADE: Final = "T1"
#: In place of a row of the table: an agent took what another left for the task.
TAKEN: Final = "handoff"


def concerns(task: Task) -> bool:
    """Whether audits look at such a task: not at a part of a run, a review, or what an audit made."""
    return (
        task.kind is not TaskKind.STEP and task.reviews_id is None and task.audit_firing_id is None
    )


def fires(rule: Rule, task: Task, change: Change) -> bool:
    """Whether a change of a task meets a rule."""
    if rule.agents and task.agent_id not in rule.agents:
        return False
    if (change.transition == TAKEN) != (rule.trigger is Trigger.HANDOFF_COMPLETED):
        return False
    match rule.trigger:
        case Trigger.TASK_COMPLETED:
            return change.target is TaskStatus.SUCCEEDED
        case Trigger.STATUS_CHANGED:
            return change.transition != _MADE and change.target in rule.to
        case Trigger.HANDOFF_COMPLETED:
            return True
        case Trigger.DEADLINE_EXCEEDED:
            return change.reason in _OVERDUE


def can_lock_task(rule: Rule) -> bool:
    """Whether the task is at rest when the rule fires: what a run brings is never refused."""
    return rule.trigger is Trigger.TASK_COMPLETED or (
        rule.trigger is Trigger.STATUS_CHANGED and TaskStatus.RUNNING not in rule.to
    )


def facts_of(audit: str, task: Task, change: Change) -> Mapping[str, str]:
    """What the texts of an audit's tasks may name, of the task that it is about."""

    def said(key: str) -> str:
        return str(task.result.get(key) or "")

    return {
        "task_id": task.id,
        "task_title": task.title,
        "task_description": task.description,
        "task_status": change.target.value,
        "agent_id": task.agent_id or "",
        "summary": said("summary"),
        "branch": said("branch") or task.branch or "",
        "commit": said("commit"),
        "reason": change.reason or "",
        "audit": audit,
    }
