"""The one place that translates statuses into the words of AI Agent PM's clients, and back. Pure."""

from __future__ import annotations

from typing import Final

from aiagent_coordinator.tasks import Task, TaskStatus, WaitReason

#: What an agent may make of a sub-task, in their words.
SETTABLE: Final = ("in_progress", "blocked", "done", "cancelled")
#: What a manager may make of one that others work on.
MANAGERS_SETTABLE: Final = ("todo", "in_progress", "backlog", "cancelled")
#: Every status there is for them.
OUTWARD: Final = ("backlog", "todo", "in_progress", "blocked", "done", "cancelled")
_WORDS: Final = {
    TaskStatus.BACKLOG: "backlog",
    TaskStatus.QUEUED: "todo",
    TaskStatus.BLOCKED: "todo",
    TaskStatus.RUNNING: "in_progress",
    TaskStatus.SUCCEEDED: "done",
    TaskStatus.FAILED: "blocked",
    TaskStatus.CANCELLED: "cancelled",
}


def outward(task: Task) -> str:
    """A task's status in their words."""
    if task.status is TaskStatus.WAITING:
        return "in_progress" if task.wait_reason is WaitReason.SUBTASKS else "blocked"
    return _WORDS[task.status]


def reason(task: Task) -> str | None:
    """Why a task is blocked there, where that is more than one of their words tells."""
    if task.status is TaskStatus.FAILED:
        return f"failed: {task.status_reason or 'no reason is known'}"
    return task.status_reason if outward(task) == "blocked" else None
