"""What the board asks a person by itself: about a long wait for a limit, and about a budget that is used up."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import ValidationError
from aiagent_coordinator.runs import Run
from aiagent_coordinator.store import budgets, ledger, projects, questions
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.lanes import Gate
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Question, Task, TaskStatus

LIMIT: Final = "limit"
WAIT: Final = "wait"
TRY: Final = "try now"
CANCEL: Final = budgets.CANCEL
#: What may be said to a question about a limit.
CHOICES: Final = (WAIT, TRY, CANCEL)


def about_wait(unit: Unit, run: Run, task: Task) -> Task:
    """Ask a person, once for each limit, where a queued task would have to wait too long."""
    if task.status is not TaskStatus.QUEUED:
        return task
    gate = Gate.of(unit)
    window = gate.closed_to(projects.get_agent(unit, run.agent_id))
    if window is None or window.until is None or window.accepted_at is not None:
        return task
    longest = gate.terms.waits.max_wait
    if (window.until - unit.now).total_seconds() <= longest:
        return task
    about = f"{LIMIT}:{window.lane.name}"
    if any(one.asked_by == questions.OURS + about for one in questions.list_open(unit)):
        return task
    text = (
        f"{window.lane.name} is at its limit ({window.name}) until {iso(window.until)}, which is longer"
        f" than quota.max_wait. Wait for it, try now, or cancel this task?"
    )
    expires_at = window.until + timedelta(days=budgets.ASK_DAYS)
    new = questions.NewQuestion(text, CHOICES)
    return questions.ask_ourselves(unit, task, run.id, about, new, expires_at)


def check(question: Question, answer: str) -> str:
    """The answer to a question, one of its options where we ask.

    Raises:
        ValidationError: it is none of them.
    """
    if not questions.is_ours(question):
        return answer
    word = answer.strip().lower()
    if word not in question.options:
        listed = ", ".join(question.options)
        raise ValidationError(f"the answer is one of: {listed}", key="answer")
    return word


def answered(unit: Unit, question: Question, task: Task, *, actor: str) -> bool:
    """Do what a person said to a question of ours.

    Returns:
        Whether the task is to be cancelled.
    """
    if not questions.is_ours(question):
        return False
    if question.answer == CANCEL:
        return True
    if question.answer == budgets.GO_ON:
        budgets.grant(unit, task, question.run_id)
        return False
    lane = run_store.get_run(unit, question.run_id).lane
    for window in [one for one in ledger.closed(unit) if _is_of(one, question)]:
        lane = window.lane
        if question.answer == TRY:
            ledger.clear(
                unit,
                provider=lane.provider,
                account=lane.account,
                model=lane.model or "",
                actor=actor,
            )
        else:
            ledger.accept(unit, lane)
    return False


def moot(unit: Unit) -> list[Question]:
    """Questions about limits that are over by now."""
    asked = [
        one
        for one in questions.list_open(unit)
        if one.asked_by.startswith(f"{questions.OURS}{LIMIT}:")
    ]
    if not asked:
        return []
    shut = ledger.closed(unit)
    return [one for one in asked if not any(_is_of(window, one) for window in shut)]


def _is_of(window: ledger.Window, question: Question) -> bool:
    return question.asked_by == f"{questions.OURS}{LIMIT}:{window.lane.name}"
