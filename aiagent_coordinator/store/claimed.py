"""What a claim's answer says of the agent and of its task."""

from __future__ import annotations

from aiagent_coordinator.clock import parse_iso
from aiagent_coordinator.handoffs import LeftHandoff
from aiagent_coordinator.quota import Lane
from aiagent_coordinator.skills import GivenSkill
from aiagent_coordinator.store import handoffs, questions, skills, tells
from aiagent_coordinator.store.requests import (
    ClaimedAgent,
    ClaimedAnswer,
    ClaimedTask,
    ClaimedTell,
    Resume,
)
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.task_options import SKILLS, allowed
from aiagent_coordinator.tasks import Agent, Project, Task


def chat_of(agent: Agent) -> ClaimedTask:
    """What stands in a claim in place of a task: a name for folders and people, and nothing to check."""
    return ClaimedTask(
        id=f"chat-{agent.id}",
        title=f"Chat with {agent.name}",
        description="",
        acceptance=(),
        checks=(),
        base_ref=None,
        attempt=1,
        max_attempts=1,
    )


def claimed_agent(unit: Unit, agent: Agent, lane: Lane, task: Task | None = None) -> ClaimedAgent:
    """The agent of a run, with what it works on and the skills that it has now and its task is given."""
    given = None if task is None else allowed(task.options, SKILLS)
    return ClaimedAgent(
        agent.id,
        lane.provider,
        agent.approval,
        lane.model,
        agent.role or None,
        tuple(
            GivenSkill(one.directory_name, one.name, one.description, one.sha256)
            for one in skills.of_agent(unit, agent.id)
            if given is None or one.directory_name in given
        ),
        agent.mode,
        agent.permissions,
        lane.account,
    )


def claimed_task(
    unit: Unit,
    task: Task,
    project: Project,
    agent: Agent,
    *,
    resume: Resume | None,
    run_id: str,
) -> ClaimedTask:
    """The task of a run: the project's checks, what people said, and what others left for it."""
    return ClaimedTask(
        id=task.id,
        title=task.title,
        description=task.description,
        acceptance=task.acceptance,
        checks=project.checks + task.checks,
        base_ref=project.base_ref,
        attempt=task.attempt,
        max_attempts=task.max_attempts,
        branch=task.branch,
        handoff=task.handoff,
        resume=resume,
        answers=(*_answers(unit, task), *_sent_back(task)),
        handoffs=tuple(
            LeftHandoff(one.id, one.from_agent_id, one.summary, one.context, one.recommendations)
            for one in handoffs.for_run(unit, task.id, agent.id)
        ),
        tells=tuple(
            ClaimedTell(one.body, one.author, one.created_at)
            for one in tells.for_start(unit, task, run_id, is_resumed=resume is not None)
        ),
        options=task.options,
    )


def _answers(unit: Unit, task: Task) -> list[ClaimedAnswer]:
    return [
        ClaimedAnswer(one.text, one.answer, one.answered_by or "", one.answered_at)
        for one in questions.of_task(unit, task.id)
        if one.answer is not None and one.answered_at is not None and not questions.is_ours(one)
    ]


def _sent_back(task: Task) -> list[ClaimedAnswer]:
    """What reviewers wanted of earlier results, as answers to the question whether they are right."""
    return [
        ClaimedAnswer(
            "Is the result of this task accepted as it is?",
            f"No: {one['reason']}",
            one["by"],
            at,
        )
        for one in task.feedback
        if one["verdict"] == "changes" and (at := parse_iso(one["at"])) is not None
    ]
