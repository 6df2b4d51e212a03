"""What a person's commands change about the board: answers, retries, dependencies, projects, agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field

from aiagent_coordinator.errors import ForbiddenError, ValidationError
from aiagent_coordinator.ids import CHOSEN_ID
from aiagent_coordinator.server import explain, remaining, rows
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import Arguments, Context, Tool, table, tool
from aiagent_coordinator.server.tools_person import (
    MAX_PARTS,
    Argv,
    Nothing,
    OneTask,
    meant_agent,
    meant_project,
)
from aiagent_coordinator.store import asks, pauses, projects, questions
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Approval, Check, Duty, Project, WorkspaceKind

Name = Annotated[str, Field(min_length=1, max_length=200)]
Many = Annotated[int, Field(ge=1, le=1000)]


class AnswerQuestion(Arguments):
    """Arguments of `answer_question`; one of the two ids."""

    answer: str
    question_id: str | None = None
    task_id: str | None = None
    """The task that asked: its open question."""


class RetryTask(OneTask):
    """Arguments of `retry_task`."""

    attempts: Many = 1
    """Attempts it gets in addition."""


class Depend(OneTask):
    """Arguments of `add_dependencies`."""

    depends_on: Annotated[list[str], Field(min_length=1, max_length=MAX_PARTS)]
    """Tasks that must succeed first."""


class Release(OneTask):
    """Arguments of `remove_dependency`."""

    depends_on: str


class OneProject(Arguments):
    """A project by its id, or the beginning of it."""

    project_id: str


class OneAgent(Arguments):
    """An agent by its id, or the beginning of it."""

    agent_id: str


class Remaining(Arguments):
    """Arguments of `get_remaining`."""

    project_id: str | None = None


class CreateProject(Arguments):
    """Arguments of `create_project`."""

    project_id: Name
    path: Annotated[str, Field(max_length=4096)] = ""
    """Absolute; empty only with workspace `scratch`."""
    base_ref: Name | None = None
    workspace: Literal["worktree", "directory", "scratch"] = "worktree"
    checks: Annotated[list[Argv], Field(max_length=MAX_PARTS, default_factory=list)]
    max_concurrent: Many | None = None
    agents: Annotated[list[str], Field(max_length=MAX_PARTS, default_factory=list)]
    """Who works there; all agents when empty."""


class CreateAgent(Arguments):
    """Arguments of `create_agent`."""

    agent_id: Name
    provider: Name
    model: Name | None = None
    role: Annotated[str, Field(max_length=65536)] = ""
    approval: Literal["ask", "edits", "bypass"] = "edits"
    max_concurrent: Many = 1
    projects: Annotated[list[str], Field(max_length=MAX_PARTS, default_factory=list)]
    """Where it works; nowhere when empty."""
    hierarchy: Literal["worker", "manager"] = "worker"
    """Whether it does tasks itself or has those that name it as parent do their parts."""
    parent: str | None = None
    """The manager that may give it sub-tasks."""
    workflow: Name | None = None
    """What it is told step by step; that of its hierarchy when absent."""


async def answer_question(context: Context, arguments: AnswerQuestion) -> Json:
    """Answer a question; its task goes on."""
    if (arguments.question_id is None) == (arguments.task_id is None):
        raise ValidationError("name the question or the task, one of them", key="question_id")

    def work(unit: Unit) -> Json:
        if arguments.question_id is not None:
            task_id = questions.find(unit, arguments.question_id).task_id
            task = task_store.lock_task(unit, task_id)
            question = questions.find(unit, arguments.question_id)
        else:
            found = task_store.find_task(unit, arguments.task_id or "")
            task = task_store.lock_task(unit, found.id)
            question = questions.wanted_of(unit, task)
        actor, said = context.identity.actor, asks.check(question, arguments.answer)
        answered = questions.answer(unit, question.id, task, said, actor=actor)
        if asks.answered(unit, answered, task, actor=actor):
            task_store.cancel_task(unit, task.id, actor=actor)
        now = task_store.get_task(unit, task.id)
        return {"question": rows.plain(answered), "task": rows.task(now)}

    return await context.board.store.write(work)


async def list_questions(context: Context, arguments: Nothing) -> Json:
    """List the questions that wait for an answer, oldest first."""
    del arguments
    found = await context.board.store.read(questions.list_open)
    return {"questions": [rows.plain(one) for one in found]}


async def retry_task(context: Context, arguments: RetryTask) -> Json:
    """Put a failed or cancelled task back, with its hand-off."""

    def work(unit: Unit) -> Json:
        task = task_store.find_task(unit, arguments.task_id)
        again = task_store.retry_task(
            unit, task.id, attempts=arguments.attempts, actor=context.identity.actor
        )
        return {"task": rows.task(again)}

    return await context.board.store.write(work)


async def add_dependencies(context: Context, arguments: Depend) -> Json:
    """Let a task wait for others."""

    def work(unit: Unit) -> Json:
        task = task_store.find_task(unit, arguments.task_id)
        changed = task_store.add_dependencies(
            unit, task.id, arguments.depends_on, actor=context.identity.actor
        )
        return {"task": rows.task_with(unit, changed)}

    return await context.board.store.write(work)


async def remove_dependency(context: Context, arguments: Release) -> Json:
    """Let a task wait for another no more."""

    def work(unit: Unit) -> Json:
        task = task_store.find_task(unit, arguments.task_id)
        changed = task_store.remove_dependency(
            unit, task.id, arguments.depends_on, actor=context.identity.actor
        )
        return {"task": rows.task_with(unit, changed)}

    return await context.board.store.write(work)


async def explain_task(context: Context, arguments: OneTask) -> Json:
    """Say why a task does not run."""
    board = context.board
    around = _around(context)

    def work(unit: Unit) -> Json:
        task = task_store.find_task(unit, arguments.task_id)
        return {
            "task": rows.task_line(task),
            "reasons": explain.explain(unit, task, around),
        }

    return await board.store.read(work)


async def get_remaining(context: Context, arguments: Remaining) -> Json:
    """Say whether anything still goes on by itself, and what is queued where nobody can take it."""
    around = _around(context)

    def work(unit: Unit) -> Json:
        named = arguments.project_id
        project_id = None if named is None else meant_project(unit, named)
        return {"project_id": project_id, **remaining.remaining(unit, project_id, around)}

    return await context.board.store.read(work)


def _around(context: Context) -> explain.Around:
    board = context.board
    return explain.Around(
        dict(board.coordinators), board.clock.now(), board.terms.max_concurrent, dict(board.told)
    )


def _setting(status: str) -> Callable[[Context, OneProject], Awaitable[Json]]:
    async def handle(context: Context, arguments: OneProject) -> Json:
        def work(unit: Unit) -> Json:
            project_id = meant_project(unit, arguments.project_id)
            changed = pauses.set_status(
                unit,
                project_id,
                status,
                stops_runs=context.board.terms.pause_stops_runs,
                actor=context.identity.actor,
            )
            return {"project": rows.plain(changed)}

        return await context.board.store.write(work)

    return handle


async def pause_project(context: Context, arguments: OneProject) -> Json:
    """Start nothing new in a project."""
    return await _setting("paused")(context, arguments)


async def resume_project(context: Context, arguments: OneProject) -> Json:
    """Start again in a paused or archived project."""
    return await _setting("active")(context, arguments)


async def archive_project(context: Context, arguments: OneProject) -> Json:
    """Put a project away: nothing new starts."""
    return await _setting("archived")(context, arguments)


def _check_id(key: str, chosen: str) -> None:
    if not CHOSEN_ID.match(chosen):
        raise ValidationError(
            "an id has 1 to 63 lower-case letters, digits, `.`, `_` and `-`", key=key
        )


async def create_project(context: Context, arguments: CreateProject) -> Json:
    """Make a project that no configuration declares."""
    _check_id("project_id", arguments.project_id)
    kind = WorkspaceKind(arguments.workspace)
    if kind is not WorkspaceKind.SCRATCH and not PurePath(arguments.path).is_absolute():
        raise ValidationError("the path of a project is absolute", key="path")
    # One checkout, one run: two would seal each other's work.
    limit = 1 if kind is WorkspaceKind.DIRECTORY else arguments.max_concurrent
    project = Project(
        id=arguments.project_id,
        name=arguments.project_id,
        path=arguments.path,
        base_ref=arguments.base_ref,
        workspace=kind,
        checks=tuple(Check(tuple(argv)) for argv in arguments.checks),
        max_concurrent=limit,
    )

    def work(unit: Unit) -> Json:
        known = [agent.id for agent in projects.list_agents(unit) if not agent.is_person]
        agents = [meant_agent(unit, one) for one in arguments.agents] or known
        made = projects.create_project(unit, project, actor=context.identity.actor)
        for agent_id in agents:
            projects.assign(unit, agent_id, made.id)
        return {"project": {**rows.plain(made), "agents": agents}}

    return await context.board.store.write(work)


async def create_agent(context: Context, arguments: CreateAgent) -> Json:
    """Make an agent that no configuration declares."""
    _check_id("agent_id", arguments.agent_id)
    if arguments.approval == Approval.BYPASS and not context.board.terms.unsandboxed:
        raise ForbiddenError(
            "bypass lets its program run anything as you, outside any sandbox",
            hint="set i_understand_unsandboxed: true in the configuration if you accept that",
            key="approval",
        )
    made_by_hand = Agent(
        id=arguments.agent_id,
        name=arguments.agent_id,
        provider=arguments.provider,
        model=arguments.model,
        role=arguments.role,
        approval=Approval(arguments.approval),
        max_concurrent=arguments.max_concurrent,
        hierarchy=Duty(arguments.hierarchy),
        workflow=arguments.workflow,
    )

    def work(unit: Unit) -> Json:
        agent = replace(made_by_hand, parent_id=_manager(unit, arguments.parent))
        places = [meant_project(unit, one) for one in arguments.projects]
        made = projects.create_agent(unit, agent, actor=context.identity.actor)
        for project_id in places:
            projects.assign(unit, made.id, project_id)
        return {"agent": {**rows.plain(made), "projects": places}}

    return await context.board.store.write(work)


def _manager(unit: Unit, named: str | None) -> str | None:
    """The manager or the person that is meant.

    Raises:
        ValidationError: it manages nobody.
    """
    if named is None:
        return None
    manager = projects.get_agent(unit, meant_agent(unit, named))
    if manager.hierarchy is not Duty.MANAGER and not manager.is_person:
        raise ValidationError(f"agent {manager.id} is no manager", key="parent")
    return manager.id


async def get_project(context: Context, arguments: OneProject) -> Json:
    """Show a project, who works there, and how its tasks stand."""

    def work(unit: Unit) -> Json:
        project = projects.get_project(unit, meant_project(unit, arguments.project_id))
        pairs = projects.assignments(unit)
        return {
            "project": {
                **rows.plain(project),
                "origin": projects.origin_of(unit, "project", project.id),
                "agents": [agent.id for agent, place in pairs if place.id == project.id],
                "tasks": task_store.count_by_status(unit, project.id),
            }
        }

    return await context.board.store.read(work)


async def get_agent(context: Context, arguments: OneAgent) -> Json:
    """Show an agent and where it works."""

    def work(unit: Unit) -> Json:
        agent = projects.get_agent(unit, meant_agent(unit, arguments.agent_id))
        pairs = projects.assignments(unit)
        return {
            "agent": {
                **rows.plain(agent),
                "origin": projects.origin_of(unit, "agent", agent.id),
                "projects": [place.id for one, place in pairs if one.id == agent.id],
            }
        }

    return await context.board.store.read(work)


TOOLS: dict[str, Tool] = table(
    (
        tool(AnswerQuestion, answer_question, "Answer a question.", Role.PERSON),
        tool(Nothing, list_questions, "List open questions.", Role.PERSON),
        tool(RetryTask, retry_task, "Put a task back.", Role.PERSON),
        tool(Depend, add_dependencies, "Let a task wait for others.", Role.PERSON),
        tool(Release, remove_dependency, "Let a task wait no more.", Role.PERSON),
        tool(OneTask, explain_task, "Say why a task does not run.", Role.PERSON),
        tool(Remaining, get_remaining, "Say whether anything still moves.", Role.PERSON),
        tool(OneProject, pause_project, "Pause a project.", Role.PERSON),
        tool(OneProject, resume_project, "Resume a project.", Role.PERSON),
        tool(OneProject, archive_project, "Archive a project.", Role.PERSON),
        tool(CreateProject, create_project, "Make a project.", Role.PERSON),
        tool(CreateAgent, create_agent, "Make an agent.", Role.PERSON),
        tool(OneProject, get_project, "Show a project.", Role.PERSON),
        tool(OneAgent, get_agent, "Show an agent.", Role.PERSON),
    )
)
