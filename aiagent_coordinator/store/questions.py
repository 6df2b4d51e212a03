"""Questions of agents: asked, waited for, answered, and closed. One open question a task."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import bindparam, func, insert, select, update

from aiagent_coordinator import ids
from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import (
    ConflictError,
    LimitError,
    NotFoundError,
    TransitionError,
    ValidationError,
)
from aiagent_coordinator.runs import Run
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.find import find_id
from aiagent_coordinator.store.rows import question_of
from aiagent_coordinator.store.transitions import set_status
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import AskPolicy, Question, Task, TaskStatus, WaitReason

_question = tables.question
_LOCK = select(_question).where(_question.c.id == bindparam("which")).with_for_update()
_OF_TASK = (
    select(_question)
    .where(_question.c.task_id == bindparam("which"))
    .order_by(_question.c.asked_at, _question.c.id)
)
_LAST_OF_RUN = (
    select(_question)
    .where(_question.c.run_id == bindparam("which"))
    .order_by(_question.c.asked_at.desc(), _question.c.id.desc())
    .limit(1)
)
_CHANGE = update(_question).where(_question.c.id == bindparam("which"))
_OPEN = _question.c.answered_at.is_(None) & _question.c.closed_at.is_(None)

ANSWER_BYTES: Final = 64 * 1024
#: How questions that the board asks by itself begin to name who asks.
OURS: Final = "server:"
#: Requests of a task's programs that people are asked about, in all.
MAX_PERMISSIONS: Final = 200
#: A call that waits answers so long before its CLI would give it up.
TIMEOUT_MARGIN_SECONDS: Final = 15.0


@dataclass(frozen=True)
class NewQuestion:
    """What an agent asks."""

    text: str
    options: tuple[str, ...] = ()
    #: `question`, or `permission`: whether its program may do something.
    kind: str = "question"


def ask(unit: Unit, run: Run, task: Task, new: NewQuestion, policy: AskPolicy) -> Question:
    """Keep a question; its task waits for the answer from now on (T5).

    The same question again, while it is open, is the one that stands.

    Args:
        unit: The unit of work.
        run: The run that asks.
        task: Its task, locked.
        new: The question.
        policy: How long it is held, and how many there may be.

    Raises:
        ConflictError: another question of the task is open.
        LimitError: the task has asked as often as it may.
        TransitionError: the task does not run.
    """
    known = of_task(unit, task.id)
    for open_one in (one for one in known if one.is_open):
        if open_one.run_id == run.id and open_one.text == new.text:
            return open_one
        raise ConflictError(
            f"question {open_one.id} of this task is still open",
            hint="commit what you have and exit; the task goes on when it is answered",
            question_id=open_one.id,
        )
    asked = sum(one.kind == new.kind and not is_ours(one) for one in known)
    if asked >= (policy.max_per_task if new.kind == "question" else MAX_PERMISSIONS):
        raise LimitError(
            f"ASK_LIMIT: this task has asked {asked} questions, and may not ask more",
            hint="decide yourself, or report blocked and say what is missing",
            limit="ASK_LIMIT",
        )
    question = Question(
        id=ids.new_id("qst"),
        task_id=task.id,
        run_id=run.id,
        text=new.text,
        options=new.options,
        asked_by=f"agent:{run.agent_id}",
        asked_at=unit.now,
        hold_until=unit.now + timedelta(seconds=hold_seconds(run, policy)),
        expires_at=unit.now + timedelta(seconds=policy.timeout_seconds),
        kind=new.kind,
    )
    # The task first: a task that does not run asks nothing.
    set_status(
        unit,
        task,
        "T5",
        TaskStatus.WAITING,
        actor=question.asked_by,
        wait_reason=WaitReason.INPUT,
        status_reason="asked",
        run_id=run.id,
    )
    row: dict[str, Any] = {**vars(question), "options": list(question.options)}
    unit.conn.execute(insert(_question).values(row))
    _emit(unit, question, task, "question.asked", actor=question.asked_by)
    return question


def is_ours(question: Question) -> bool:
    """Whether the board asks by itself, and not an agent."""
    return question.asked_by.startswith(OURS)


def ask_ourselves(
    unit: Unit, task: Task, run_id: str, about: str, new: NewQuestion, expires_at: datetime
) -> Task:
    """Ask a person what is to become of a task (T5); it waits for the answer.

    Args:
        unit: The unit of work.
        task: The task, locked; queued, or running and without a live run.
        run_id: The run that it is about.
        about: What it is about, in one word or two; see `is_ours`.
        new: The question.
        expires_at: When the task fails for want of an answer.
    """
    question = Question(
        id=ids.new_id("qst"),
        task_id=task.id,
        run_id=run_id,
        text=new.text,
        options=new.options,
        asked_by=f"{OURS}{about}",
        asked_at=unit.now,
        hold_until=unit.now,
        expires_at=expires_at,
        pending_at=unit.now,
    )
    now = set_status(
        unit,
        task,
        "T5",
        TaskStatus.WAITING,
        actor="server",
        wait_reason=WaitReason.INPUT,
        status_reason=about.partition(":")[0],
        run_id=run_id,
    )
    row: dict[str, Any] = {**vars(question), "options": list(question.options)}
    unit.conn.execute(insert(_question).values(row))
    _emit(unit, question, task, "question.asked", actor="server")
    return now


def ask_at_the_end(unit: Unit, run: Run, task: Task, text: str, policy: AskPolicy) -> bool:
    """Keep what a program ended with as its question; nobody waits for the answer in a call.

    Returns:
        False where the task may ask nothing more, or does not run.
    """
    if any(one.run_id == run.id and one.text == text for one in of_task(unit, task.id)):
        return True
    try:
        question = ask(unit, run, task, NewQuestion(text), policy)
    except (ConflictError, LimitError, TransitionError):
        return False
    conclude_wait(unit, question, task, actor=question.asked_by)
    return True


def hold_seconds(run: Run, policy: AskPolicy) -> float:
    """How long a call of this run waits for its answer: never longer than its CLI lets it."""
    if run.tool_timeout_seconds is None:
        return policy.hold_seconds
    return max(0.0, min(policy.hold_seconds, run.tool_timeout_seconds - TIMEOUT_MARGIN_SECONDS))


def conclude_wait(unit: Unit, question: Question, task: Task, *, actor: str) -> Question:
    """The asking call stops waiting: without an answer, the agent is told to commit and exit."""
    if not question.is_open or question.pending_at is not None:
        return question
    changed = _change(unit, question, pending_at=unit.now)
    _emit(unit, changed, task, "question.pending", actor=actor)
    return changed


def answer(unit: Unit, question_id: str, task: Task, text: str, *, actor: str) -> Question:
    """Answer a question (T9): the run goes on, or the task is queued once the run is over.

    Args:
        unit: The unit of work.
        question_id: The question.
        task: Its task, locked.
        text: The answer.
        actor: Who answers.

    Raises:
        ConflictError: it was answered before, or no answer is wanted any more.
        ValidationError: the answer is empty or too long.
    """
    said = clean_text(text, "answer", ANSWER_BYTES)
    question = lock(unit, question_id)
    _refuse_late(question, task)
    changed = _change(unit, question, answer=said, answered_by=actor, answered_at=unit.now)
    _emit(unit, changed, task, "question.answered", actor=actor)
    run = run_store.live_run_of(unit, task.id)
    if task.status is not TaskStatus.WAITING or task.wait_reason is not WaitReason.INPUT:
        return changed
    if run is None:
        _queue(unit, task, actor)
    elif run.phase in run_store.COUNTED and question.pending_at is None:
        set_status(unit, task, "T9", TaskStatus.RUNNING, actor=actor, run_id=run.id)
    # Else its run is on its way out: the run's end queues the task.
    return changed


def _refuse_late(question: Question, task: Task) -> None:
    if question.answered_at is not None:
        raise ConflictError(
            f"question {question.id} was answered by {question.answered_by} at"
            f" {iso(question.answered_at)}; the first answer stands",
            question_id=question.id,
        )
    if question.closed_at is not None:
        raise ConflictError(
            f"question {question.id} needs no answer any more ({question.closed_reason});"
            f" task {task.id} is {task.status.value}",
            question_id=question.id,
        )


def after_run(unit: Unit, task: Task, *, actor: str) -> Task:
    """The run of a task that waits for an answer is over: with the answer there, it is queued."""
    if any(one.is_open for one in of_task(unit, task.id)):
        return task
    return _queue(unit, task, actor)


def _queue(unit: Unit, task: Task, actor: str) -> Task:
    return set_status(unit, task, "T9", TaskStatus.QUEUED, actor=actor, status_reason="answered")


def withdraw(unit: Unit, task: Task, run: Run, *, actor: str) -> Task:
    """The agent reports although it asked: its question falls, and its task runs on (T9)."""
    if task.status is not TaskStatus.WAITING or task.wait_reason is not WaitReason.INPUT:
        return task
    close_open(unit, task, "reported", actor=actor)
    return set_status(unit, task, "T9", TaskStatus.RUNNING, actor=actor, run_id=run.id)


def close_open(unit: Unit, task: Task, reason: str, *, actor: str) -> None:
    """Want no answer any more to whatever the task has asked."""
    for question in of_task(unit, task.id):
        if question.is_open:
            changed = _change(unit, question, closed_at=unit.now, closed_reason=reason)
            _emit(unit, changed, task, "question.closed", actor=actor, reason=reason)


def expired(unit: Unit) -> list[Question]:
    """Open questions whose time is over."""
    query = select(_question).where(_OPEN, _question.c.expires_at <= unit.now)
    return [question_of(row) for row in unit.conn.execute(query).mappings()]


def expire(unit: Unit, question: Question, task: Task) -> None:
    """Give up waiting for an answer (T19).

    Args:
        unit: The unit of work.
        question: One of `expired`.
        task: Its task, locked.
    """
    # the time of one that an audit holds is over as soon as that lets go
    is_waiting = task.status is TaskStatus.WAITING and not task.is_locked
    if not is_waiting or not lock(unit, question.id).is_open:
        return
    close_open(unit, task, "timeout", actor="server")
    set_status(
        unit, task, "T19", TaskStatus.FAILED, actor="server", status_reason="question_timeout"
    )
    live = run_store.live_run_of(unit, task.id)
    if live is not None:
        run_store.request_stop(unit, live.id, "asked", actor="server")


def of_task(unit: Unit, task_id: str) -> list[Question]:
    """All questions of a task, oldest first."""
    rows = unit.conn.execute(_OF_TASK, {"which": task_id}).mappings()
    return [question_of(row) for row in rows]


def answered_late(unit: Unit, task_id: str, text: str) -> Question | None:
    """A request for permission in these words that was answered when nobody waited any more."""
    found = [
        one
        for one in of_task(unit, task_id)
        if one.kind == "permission" and one.text == text and one.pending_at and one.answered_at
    ]
    return found[-1] if found else None


def last_of_run(unit: Unit, run_id: str) -> Question | None:
    """The question a run asked last."""
    row = unit.conn.execute(_LAST_OF_RUN, {"which": run_id}).mappings().first()
    return None if row is None else question_of(row)


def list_open(unit: Unit) -> list[Question]:
    """Every question that waits for an answer, oldest first."""
    query = select(_question).where(_OPEN).order_by(_question.c.asked_at, _question.c.id)
    return [question_of(row) for row in unit.conn.execute(query).mappings()]


def count_open(unit: Unit) -> int:
    """How many questions wait for an answer."""
    return unit.conn.scalar(select(func.count()).select_from(_question).where(_OPEN)) or 0


def find(unit: Unit, text: str) -> Question:
    """The question a person means: its id, or the beginning of it, with or without `qst_`.

    Raises:
        NotFoundError: none begins so.
        ConflictError: several do; they are listed.
    """
    return lock(unit, find_id(unit, _question, "qst", text))


def wanted_of(unit: Unit, task: Task) -> Question:
    """The question of a task that a person answers: the open one, else the last.

    Raises:
        NotFoundError: the task has asked nothing.
    """
    known = of_task(unit, task.id)
    if not known:
        raise NotFoundError(f"task {task.id} has asked nothing", task_id=task.id)
    return next((one for one in known if one.is_open), known[-1])


def lock(unit: Unit, question_id: str) -> Question:
    """The question as it is until this unit ends; its task is locked before it, by writers.

    Raises:
        NotFoundError: there is none.
    """
    row = unit.conn.execute(_LOCK, {"which": question_id}).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no question {question_id}", question_id=question_id)
    return question_of(row)


def clean_text(text: str, key: str, most_bytes: int) -> str:
    """Text of a person or an agent, normalized.

    Raises:
        ValidationError: it is empty, too long, or no UTF-8.
    """
    clean = unicodedata.normalize("NFC", text).strip()
    try:
        size = len(clean.encode())
    except UnicodeEncodeError:
        raise ValidationError(f"{key} is UTF-8 text", key=key) from None
    if not 1 <= size <= most_bytes or "\0" in clean:
        raise ValidationError(f"{key} has 1 to {most_bytes} bytes and no NUL", key=key)
    return clean


def _change(unit: Unit, question: Question, **columns: object) -> Question:
    unit.conn.execute(_CHANGE, {"which": question.id, **columns})
    return lock(unit, question.id)


def _emit(
    unit: Unit, question: Question, task: Task, action: str, *, actor: str, **data: str
) -> None:
    unit.emit(
        action,
        actor=actor,
        project_id=task.project_id,
        task_id=task.id,
        run_id=question.run_id,
        agent_id=None if is_ours(question) else question.asked_by.removeprefix("agent:"),
        refusal=False,
        question_id=question.id,
        **data,
    )
