"""Tasks that need somebody's word: before they begin, or before their result counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from sqlalchemy import bindparam, func, select, update

from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import ConflictError, ForbiddenError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.store import dependencies, projects, tables
from aiagent_coordinator.store.find import TITLE_CHARS
from aiagent_coordinator.store.history import emit_task
from aiagent_coordinator.store.rows import task_of
from aiagent_coordinator.store.tasks import NewTask, cancel_task, create_task, get_task, lock_task
from aiagent_coordinator.store.transitions import set_status, settle
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, Task, TaskStatus, WaitReason

_task = tables.task
_CHANGE = update(_task).where(_task.c.id == bindparam("which"))
_OF = select(_task).where(_task.c.reviews_id == bindparam("which")).order_by(_task.c.id)
#: Who reviews a result when no agent does.
PERSON: Final = "person"
#: How often an agent may send a result back before a person decides.
MAX_ROUNDS: Final = 3
#: Of a summary, in the text of a review.
_SUMMARY_CHARS: Final = 8_000


def is_reviewed(task: Task) -> bool:
    """Whether its result waits for somebody's word."""
    return task.status is TaskStatus.WAITING and task.wait_reason is WaitReason.REVIEW


def begin(unit: Unit, task: Task, run: Run, *, actor: str, **facts: Any) -> Task:  # noqa: ANN401 - columns
    """Let a result that is right by all checks wait for its reviewer (T8).

    Args:
        unit: The unit of work.
        task: The task, locked; its `review_by` says who.
        run: The run that made the result.
        actor: Who tells of it.
        **facts: What else becomes known of the task.
    """
    waiting = set_status(
        unit,
        task,
        "T8",
        TaskStatus.WAITING,
        actor=actor,
        wait_reason=WaitReason.REVIEW,
        status_reason="review",
        run_id=run.id,
        **facts,
    )
    if task.review_by not in (None, PERSON):
        _ask_agent(unit, waiting, run)
    return waiting


def _ask_agent(unit: Unit, task: Task, run: Run) -> None:
    reviewer = task.review_by or ""
    if not projects.is_assigned(unit, reviewer, task.project_id):
        # it works there no more: a person is asked instead
        _set(unit, task, review_by=PERSON)
        return
    commit = task.result.get("commit")
    seen = f"git diff {run.base_commit} {commit}" if run.base_commit and commit else "git log -p"
    summary = str(task.result.get("summary") or "none")[:_SUMMARY_CHARS]
    wanted = "\n".join(f"{number}. {one}" for number, one in enumerate(task.acceptance, 1))
    made = create_task(
        unit,
        NewTask(
            project_id=task.project_id,
            title=f"Review: {task.title}"[:TITLE_CHARS],
            agent_id=reviewer,
            description=(
                f"Another agent did task {task.id}. Judge its result; change nothing.\n\n"
                f"See what was changed: {seen}\n\nIts report:\n\n{summary}\n\n"
                f"It is done when:\n\n{wanted or 'the task says so'}\n\n"
                f"The task:\n\n{task.title}\n\n{task.description}"
            ),
            priority=task.priority,
            reviews_id=task.id,
        ),
        f"agent:{run.agent_id}",
    )
    emit_task(
        unit, task, "task.review", actor="server", data={"review_id": made.id, "by": reviewer}
    )


def pending(unit: Unit) -> dict[str, int]:
    """How many tasks wait for a person's word: before they begin, and before their result counts."""
    before = (_task.c.approval == "pending") & (_task.c.status == TaskStatus.BACKLOG)
    after = (_task.c.wait_reason == WaitReason.REVIEW) & (_task.c.review_by == PERSON)
    count = select(func.count()).select_from(_task)
    return {
        "start": unit.conn.scalar(count.where(before)) or 0,
        "finish": unit.conn.scalar(count.where(after)) or 0,
    }


def reviews_of(unit: Unit, task_id: str) -> list[Task]:
    """The tasks of agents that judge, or judged, a task's result, oldest first."""
    return [task_of(row) for row in unit.conn.execute(_OF, {"which": task_id}).mappings()]


def approve(unit: Unit, task: Task, *, actor: str, reason: str | None = None) -> Task:
    """Let a task begin (T2), or its result count (T12).

    Args:
        unit: The unit of work.
        task: The task, locked.
        actor: Who says so.
        reason: Why.

    Raises:
        ConflictError: it waits for nobody's word.
    """
    if is_reviewed(task):
        _note(unit, task, "approved", actor, reason)
        done = set_status(
            unit,
            task,
            "T12",
            TaskStatus.SUCCEEDED,
            actor=actor,
            status_reason="approved",
            progress=100,
        )
        _drop_reviews(unit, task, actor)
        return done
    _check_pending(task)
    _note(unit, task, "approved", actor, reason, approval="approved")
    task = set_status(unit, task, "T2", TaskStatus.QUEUED, actor=actor)
    why = dependencies.reason_of(dependencies.needed_by(unit, task.id))
    return settle(unit, replace(task, approval="approved"), why, actor=actor)


def reject(unit: Unit, task: Task, *, actor: str, reason: str) -> Task:
    """Refuse that a task begins (T17), or send its result back (T12): its agent is told why.

    Raises:
        ConflictError: it waits for nobody's word.
    """
    if is_reviewed(task):
        _note(unit, task, "changes", actor, reason, review_rounds=task.review_rounds + 1)
        again = set_status(
            unit, task, "T12", TaskStatus.QUEUED, actor=actor, status_reason="changes"
        )
        _drop_reviews(unit, task, actor)
        return again
    _check_pending(task)
    _note(unit, task, "rejected", actor, reason, approval="rejected")
    return set_status(
        unit, task, "T17", TaskStatus.CANCELLED, actor=actor, status_reason="rejected"
    )


def judge(unit: Unit, review: Task, *, is_accepted: bool, comment: str, actor: str) -> Task:
    """Take a reviewer's verdict on the task that it reviews; the first one counts.

    A result that was sent back as often as it may be waits for a person instead.

    Returns:
        The reviewed task as it is now.

    Raises:
        ForbiddenError: this is no review.
        ConflictError: the result waits for nobody's word any more.
    """
    if review.reviews_id is None:
        raise ForbiddenError("your task is no review")
    task = lock_task(unit, review.reviews_id)
    if verdict_of(review) is not None:
        return task
    if not is_reviewed(task):
        raise ConflictError(
            f"task {task.id} is {task.status.value}; nobody waits for your verdict any more",
            hint="call report_completed",
        )
    _set(unit, review, workflow_state={**(review.workflow_state or {}), "verdict": is_accepted})
    if is_accepted:
        return approve(unit, task, actor=actor, reason=comment)
    if task.review_rounds >= MAX_ROUNDS:
        _note(unit, task, "changes", actor, comment, review_by=PERSON)
        return get_task(unit, task.id)
    return reject(unit, task, actor=actor, reason=comment)


def verdict_of(review: Task) -> bool | None:
    """What a review came to; None while it has not."""
    return (review.workflow_state or {}).get("verdict")


def is_decided(unit: Unit, review: Task) -> bool:
    """Whether nobody waits for the verdict of a review any more."""
    if verdict_of(review) is not None or review.reviews_id is None:
        return True
    return not is_reviewed(get_task(unit, review.reviews_id))


def _check_pending(task: Task) -> None:
    if task.approval != "pending" or task.status is not TaskStatus.BACKLOG:
        raise ConflictError(
            f"task {task.id} is {task.status.value} and waits for nobody's word",
            hint=f"explain {task.id}",
            task_id=task.id,
        )


def _drop_reviews(unit: Unit, task: Task, actor: str) -> None:
    """Reviews that nobody waits for any more."""
    for one in reviews_of(unit, task.id):
        if one.status not in TERMINAL and verdict_of(one) is None:
            cancel_task(unit, one.id, actor=actor)


def _note(
    unit: Unit, task: Task, verdict: str, actor: str, reason: str | None, **columns: object
) -> None:
    said = {"verdict": verdict, "by": actor, "at": iso(unit.now), "reason": reason}
    _set(unit, task, feedback=[*task.feedback, said], **columns)
    emit_task(unit, task, f"task.{verdict}", actor=actor, data={"reason": reason})


def _set(unit: Unit, task: Task, **columns: object) -> None:
    unit.conn.execute(_CHANGE, {"which": task.id, **columns})
