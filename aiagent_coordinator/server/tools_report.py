"""What an agent calls when it is done: its word, and what it must say with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from aiagent_coordinator.runs import Run
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import (
    MAX_MESSAGE_CHARS,
    AgentArguments,
    Arguments,
    Context,
    table,
    tool,
)
from aiagent_coordinator.store import questions, reviews, steps, waking
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import TERMINAL, Duty, Task
from aiagent_coordinator.workflows.words import missing_evidence

#: A summary is read by people and by the next attempt; what is longer belongs into a file.
MAX_SUMMARY_CHARS = 16_000
#: How often a report without evidence is given back.
MAX_REFUSALS = 2


class Evidence(Arguments):
    """How one acceptance criterion is known to be met."""

    criterion: int = Field(ge=1, le=1000)
    """Its number, from 1."""
    text: str = Field(min_length=1, max_length=MAX_MESSAGE_CHARS)
    """What shows that it is met."""


class ReportCompleted(AgentArguments):
    """Arguments of `report_completed`."""

    result: Literal["success", "failed", "blocked"]
    """How the task went; `blocked` when only a person can clear what is in the way."""
    summary: str | None = Field(None, max_length=MAX_SUMMARY_CHARS)
    """What was changed, or why it could not be done."""
    next_steps: str | None = Field(None, max_length=MAX_SUMMARY_CHARS)
    """What remains to be done by others."""
    evidence: list[Evidence] = Field(max_length=1000, default_factory=list[Evidence])
    """For each acceptance criterion, how you know that it is met."""


async def report_completed(context: Context, arguments: ReportCompleted) -> Json:
    """Take the agent's word for how its task went; the first one counts."""

    def work(unit: Unit, run: Run) -> Json:
        is_first = run.reported_at is None
        if is_first:
            lacking = (
                _unjudged(unit, run, arguments)
                or _unfinished(unit, run, arguments)
                or _lacking(unit, run, arguments)
            )
            if lacking is not None:
                return lacking
            if run.task_id is not None:
                task = task_store.lock_task(unit, run.task_id)
                questions.withdraw(unit, task, run, actor=context.identity.actor)
            parts = (arguments.summary, _titled("Next steps", arguments.next_steps))
            summary = "\n\n".join(part for part in parts if part) or None
            run_store.record_agent_report(unit, run, arguments.result, summary)
        return {
            "success": True,
            "accepted": True,
            "result": arguments.result if is_first else run.reported_result,
            "already_reported": not is_first,
            "action": "exit",
            "instruction": "Your report is in. Call no more tools and exit.",
        }

    return await context.board.as_agent(context, work)


def _unfinished(unit: Unit, run: Run, arguments: ReportCompleted) -> Json | None:
    """Which sub-tasks a report of success leaves open; None when it is taken as it is."""
    if run.task_id is None or arguments.result != "success":
        return None
    left = _left(unit, run, run.task_id)
    if not left:
        return None
    run_store.refuse_report(unit, run, (), list(run.evidence))
    listed = "\n".join(f"- {one.title} ({one.id})" for one in left)
    return {
        "success": True,
        "accepted": False,
        "already_reported": False,
        "open_subtasks": [one.id for one in left],
        "action": "report_completion",
        "instruction": (
            f"These sub-tasks are still open:\n{listed}\nFinish or cancel them with "
            "update_task_status, then call report_completed again."
        ),
    }


def _unjudged(unit: Unit, run: Run, arguments: ReportCompleted) -> Json | None:
    """What a reviewer hears that reports without a verdict; None when it has given one."""
    if run.task_id is None or run.duty is not Duty.REVIEWER or arguments.result != "success":
        return None
    if reviews.is_decided(unit, task_store.get_task(unit, run.task_id)):
        return None
    return {
        "success": True,
        "accepted": False,
        "already_reported": False,
        "action": "review",
        "instruction": "Your verdict is missing: call review_task, then call report_completed again.",
    }


def _left(unit: Unit, run: Run, task_id: str) -> list[Task]:
    """Sub-tasks that are not over. Others' work is never left behind; steps end with their task."""
    if run.duty is Duty.MANAGER:
        parts = waking.delegated(unit, task_id)
        words = waking.standing(unit, task_store.get_task(unit, task_id), parts)
        return [one for one in parts if words[one.id] != "over"]
    if run.report_refusals >= MAX_REFUSALS:
        return []
    return [one for one in steps.of_task(unit, task_id) if one.status not in TERMINAL]


def _lacking(unit: Unit, run: Run, arguments: ReportCompleted) -> Json | None:
    """What a report of success leaves out; None when it is taken as it is.

    Asked for at most `MAX_REFUSALS` times: an agent that cannot say more must still come to an end.
    """
    if run.task_id is None or arguments.result != "success":
        return None
    acceptance = task_store.get_task(unit, run.task_id).acceptance
    named = {one["criterion"]: str(one["text"]) for one in run.evidence}
    named |= {one.criterion: one.text for one in arguments.evidence}
    evidence = [
        {"criterion": number, "text": text}
        for number, text in sorted(named.items())
        if number <= len(acceptance)
    ]
    missing = tuple(number for number in range(1, len(acceptance) + 1) if number not in named)
    if not missing or run.report_refusals >= MAX_REFUSALS:
        if acceptance:
            run_store.keep_evidence(unit, run, evidence)
        return None
    run_store.refuse_report(unit, run, missing, evidence)
    criteria = criteria_of(unit, run, missing)
    return {
        "success": True,
        "accepted": False,
        "already_reported": False,
        "missing": list(missing),
        "action": "report_completion",
        "instruction": missing_evidence(criteria),
    }


def criteria_of(unit: Unit, run: Run, numbers: Sequence[int]) -> tuple[str, ...]:
    """Acceptance criteria by their numbers, as they are shown."""
    if not numbers or run.task_id is None:
        return ()
    acceptance = task_store.get_task(unit, run.task_id).acceptance
    return tuple(f"{number}. {acceptance[number - 1]}" for number in numbers)


def _titled(title: str, text: str | None) -> str | None:
    return f"{title}: {text}" if text else None


TOOLS = table(
    (
        tool(
            ReportCompleted,
            report_completed,
            "Tell how the task went, once, when you are done with it.",
            Role.AGENT,
        ),
    )
)
