"""What a person's commands call: put tasks on the board, look at it, cancel and stop."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import Annotated

from anyio import to_thread
from pydantic import Field

from aiagent_coordinator import ids
from aiagent_coordinator.clock import iso
from aiagent_coordinator.errors import ConflictError, NotFoundError
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.server import budgeting, equipping, following, parking, rows
from aiagent_coordinator.server.auth import Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.tools import Arguments, Context, Tool, table, tool
from aiagent_coordinator.store import dependencies, handoffs, projects, questions, reviews, tells
from aiagent_coordinator.store import events as event_store
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.task_options import MAX_NAMES
from aiagent_coordinator.tasks import Check, TaskStatus

#: Enough for every real task, and small enough that a list of tasks fits into one answer.
MAX_PARTS = 100
MAX_WORD_CHARS = 8192

Word = Annotated[str, Field(max_length=MAX_WORD_CHARS)]
Names = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=MAX_NAMES)
]
Argv = Annotated[list[Word], Field(min_length=1, max_length=MAX_PARTS)]


class CheckCommand(Arguments):
    """One command that proves the result."""

    argv: Argv
    """The program and its arguments; no shell reads them."""


class CreateTask(Arguments):
    """Arguments of `create_task`."""

    project_id: str
    title: Annotated[str, Field(min_length=1, max_length=500)]
    """One line."""
    description: str = ""
    agent_id: str | None = None
    """Who does it; anybody of the project when absent."""
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    """Higher goes first."""
    max_attempts: Annotated[int | None, Field(ge=1, le=1000)] = None
    budget: Annotated[list[Word], Field(max_length=2, default_factory=list)]
    """What all its runs may use: tokens like `50k`, money like `$2`."""
    acceptance: Annotated[list[Word], Field(max_length=MAX_PARTS, default_factory=list)]
    checks: Annotated[list[CheckCommand], Field(max_length=MAX_PARTS, default_factory=list)]
    branch: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    depends_on: Annotated[list[str], Field(max_length=MAX_PARTS, default_factory=list)]
    """Tasks that must succeed first: ids, or beginnings of them."""
    needs_approval: bool = False
    """It begins only once a person, or a manager above its agent, lets it."""
    review_by: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    """Whose word its result needs before it counts: `person`, or an agent of the project."""
    workflow: Annotated[str | None, Field(min_length=1, max_length=100)] = None
    """What its agent is told step by step; its agent's own when absent."""
    mcp_servers: Names | None = None
    """Only these of the servers that its agent has beside ours; empty: none; all when absent."""
    skills: Names | None = None
    """Only these of its agent's skills; empty: none; all when absent."""


class Page(Arguments):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: str | None = None
    """The `next` of the page before."""
    newest: bool = False
    """Begin at the newest and go back."""


class ListTasks(Page):
    """Arguments of `list_tasks`."""

    project_id: str | None = None
    agent_id: str | None = None
    status: str | None = Field(None, pattern="^(" + "|".join(TaskStatus) + ")$")


class ListRuns(Page):
    """Arguments of `list_runs`."""

    task_id: str | None = None
    project_id: str | None = None
    agent_id: str | None = None
    live: bool | None = None
    """True: only those that are not over; false: only those that are."""


class ListEvents(Arguments):
    """Arguments of `list_events`."""

    after: Annotated[int, Field(ge=0)] = 0
    """The number of the last event seen."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    project_id: str | None = None
    task_id: str | None = None
    run_id: str | None = None
    agent_id: str | None = None


class OneTask(Arguments):
    """A task by its id, the beginning of it, or its title."""

    task_id: str


class GetTask(OneTask):
    """Arguments of `get_task`."""

    details: bool = False
    """With its runs, questions, and last events."""


class OneRun(Arguments):
    """A run by its id, or the beginning of it."""

    run_id: str


class StopRun(OneRun):
    """Arguments of `request_stop_run`."""

    reason: Annotated[str, Field(min_length=1, max_length=200)] = "stopped"


class Nothing(Arguments):
    """No arguments."""


async def create_task(context: Context, arguments: CreateTask) -> Json:
    """Put a task on the board."""
    attempts = arguments.max_attempts or context.board.terms.retry.max_attempts

    def work(unit: Unit) -> Json:
        named = arguments.agent_id
        project_id = meant_project(unit, arguments.project_id)
        agent_id = None if named is None else meant_agent(unit, named)
        new = task_store.NewTask(
            project_id=project_id,
            title=arguments.title,
            agent_id=agent_id,
            budget=budgeting.of_task(unit, arguments.budget, project_id, agent_id),
            description=arguments.description,
            priority=arguments.priority,
            acceptance=tuple(arguments.acceptance),
            checks=tuple(Check(tuple(check.argv)) for check in arguments.checks),
            branch=arguments.branch,
            max_attempts=attempts,
            depends_on=tuple(arguments.depends_on),
            workflow=arguments.workflow,
            approval="pending" if arguments.needs_approval else None,
            review_by=_reviewer(unit, arguments.review_by),
            options=equipping.of_task(unit, arguments.mcp_servers, arguments.skills),
        )
        if new.workflow is not None:
            following.check(unit, context.board.workflows, new)
        made = task_store.create_task(unit, new, context.identity.actor)
        return {"task": rows.task_with(unit, made)}

    return await context.board.store.write(work)


def _reviewer(unit: Unit, named: str | None) -> str | None:
    return named if named in (None, reviews.PERSON) else meant_agent(unit, named)


async def list_tasks(context: Context, arguments: ListTasks) -> Json:
    """List tasks, without their longer texts."""
    statuses = () if arguments.status is None else (TaskStatus(arguments.status),)
    which = task_store.TaskFilter(
        project_id=arguments.project_id, agent_id=arguments.agent_id, statuses=statuses
    )
    found = await context.board.store.read(
        lambda unit: task_store.list_tasks(
            unit,
            which,
            limit=arguments.limit + 1,
            after=arguments.after,
            newest=arguments.newest,
        )
    )
    return rows.page("tasks", [rows.task_line(task) for task in found], arguments.limit)


async def get_task(context: Context, arguments: GetTask) -> Json:
    """Show one task."""

    def work(unit: Unit) -> Json:
        task = task_store.find_task(unit, arguments.task_id)
        found = {"task": rows.task_with(unit, task)}
        if not arguments.details:
            return found
        runs = run_store.list_runs(unit, run_store.RunFilter(task_id=task.id))
        return {
            **found,
            "parked": parking.of_task(unit, task),
            "runs": [rows.run_line(run) for run in runs],
            "questions": [rows.plain(one) for one in questions.of_task(unit, task.id)],
            "depends_on": [rows.plain(one) for one in dependencies.needed_by(unit, task.id)],
            "needed_by": dependencies.waiting_for(unit, task.id),
            "events": [rows.plain(one) for one in event_store.last_of_task(unit, task.id)],
            "handoffs": [rows.plain(one) for one in handoffs.of_task(unit, task.id)],
            "tells": [rows.plain(one) for one in tells.of_task(unit, task.id)],
        }

    return await context.board.store.read(work)


async def cancel_task(context: Context, arguments: OneTask) -> Json:
    """Cancel a task and what hangs on it; its run is stopped."""

    def work(unit: Unit) -> Json:
        task = task_store.find_task(unit, arguments.task_id)
        cancelled = task_store.cancel_task(unit, task.id, actor=context.identity.actor)
        return {"task": rows.task(cancelled)}

    return await context.board.store.write(work)


async def list_runs(context: Context, arguments: ListRuns) -> Json:
    """List runs."""

    def work(unit: Unit) -> Json:
        task_id = arguments.task_id
        which = run_store.RunFilter(
            task_id=None if task_id is None else task_store.find_task(unit, task_id).id,
            project_id=arguments.project_id,
            agent_id=arguments.agent_id,
            live=arguments.live,
        )
        limit, after = arguments.limit, arguments.after
        found = run_store.list_runs(
            unit, which, limit=limit + 1, after=after, newest=arguments.newest
        )
        return rows.page("runs", [rows.run_line(run) for run in found], limit)

    return await context.board.store.read(work)


async def get_run(context: Context, arguments: OneRun) -> Json:
    """Show one run."""
    run = await context.board.store.read(lambda unit: run_store.find_run(unit, arguments.run_id))
    return {"run": rows.run(run)}


async def request_stop_run(context: Context, arguments: StopRun) -> Json:
    """Ask for a run to be stopped; its coordinator does it."""

    def work(unit: Unit) -> Json:
        run = run_store.find_run(unit, arguments.run_id)
        stopped = run_store.request_stop(
            unit, run.id, arguments.reason, actor=context.identity.actor
        )
        return {"run": rows.run(stopped)}

    return await context.board.store.write(work)


async def list_projects(context: Context, arguments: Nothing) -> Json:
    """List the declared projects."""
    del arguments
    found = await context.board.store.read(projects.list_projects)
    return {"projects": [rows.plain(project) for project in found]}


async def list_agents(context: Context, arguments: Nothing) -> Json:
    """List the declared agents."""
    del arguments
    found = await context.board.store.read(projects.list_agents)
    return {"agents": [rows.plain(agent) for agent in found]}


async def list_events(context: Context, arguments: ListEvents) -> Json:
    """List what happened, oldest first."""
    which = event_store.EventFilter(
        project_id=arguments.project_id,
        task_id=arguments.task_id,
        run_id=arguments.run_id,
        agent_id=arguments.agent_id,
    )
    found = await context.board.store.read(
        lambda unit: event_store.list_events(
            unit, which, after=arguments.after, limit=arguments.limit
        )
    )
    return {"events": [rows.plain(event) for event in found]}


async def get_status(context: Context, arguments: Nothing) -> Json:
    """Say how the server and its board stand."""
    del arguments
    board = context.board

    def work(unit: Unit) -> Json:
        live = run_store.live_runs(unit)
        return {
            "tasks": task_store.count_by_status(unit),
            "questions": questions.count_open(unit),
            "approvals": reviews.pending(unit),
            "runs": dict(Counter(run.phase.value for run in live)),
            "live": [rows.run_line(run) for run in live],
            **parking.summary(unit),
        }

    return {
        "version": board.terms.version,
        "uptime_seconds": round(board.clock.monotonic() - board.started, 3),
        "at": iso(board.clock.now()),
        "degraded": await to_thread.run_sync(_degraded, board.terms.state),
        "coordinators": [
            {"id": known, "last_seen": iso(at)} for known, at in board.coordinators.items()
        ],
        "circuits": [
            {"coordinator": known, **rows.plain(circuit)}
            for known, told in board.told.items()
            for circuit in told.circuits
        ],
        "unfit": [
            {"coordinator": known, "agent_id": agent_id, "reason": reason}
            for known, told in board.told.items()
            for agent_id, reason in (told.unfit or {}).items()
        ],
        "waits": [
            {"coordinator": known, **rows.plain(wait)}
            for known, told in board.told.items()
            for wait in told.waits
        ],
        **await board.store.read(work),
    }


def _degraded(state: StateDir | None) -> list[str]:
    """What does not work as it should, in one word each."""
    return ["disk"] if state is not None and state.is_full() else []


def meant_project(unit: Unit, text: str) -> str:
    """The declared project that a person means.

    Raises:
        NotFoundError: none is meant; the nearest is named.
        ConflictError: several are.
    """
    return _meant("project", text, [project.id for project in projects.list_projects(unit)])


def meant_agent(unit: Unit, text: str) -> str:
    """The declared agent that a person means.

    Raises:
        NotFoundError: none is meant; the nearest is named.
        ConflictError: several are.
    """
    return _meant("agent", text, [agent.id for agent in projects.list_agents(unit)])


def _meant(kind: str, text: str, known: list[str]) -> str:
    """The declared id that a person means: the id itself, words that make it, or its only beginning.

    Raises:
        NotFoundError: none is meant; the nearest is named.
        ConflictError: several are.
    """
    for whole in (text, ids.slug(text)):
        if whole in known:
            return whole
    begun = [one for one in known if text and one.startswith(text)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise ConflictError(f"several {kind}s begin with {text!r}: {', '.join(begun[:10])}")
    near = get_close_matches(text[:100], known, 1)
    listed = ", ".join(known[:10]) or "none"
    hint = f"did you mean {near[0]}?" if near else f"there are: {listed}"
    raise NotFoundError(f"there is no {kind} {text[:100]!r}", hint=hint)


TOOLS: dict[str, Tool] = table(
    (
        tool(CreateTask, create_task, "Put a task on the board.", Role.PERSON),
        tool(ListTasks, list_tasks, "List tasks.", Role.PERSON),
        tool(GetTask, get_task, "Show a task.", Role.PERSON),
        tool(OneTask, cancel_task, "Cancel a task.", Role.PERSON),
        tool(ListRuns, list_runs, "List runs.", Role.PERSON),
        tool(OneRun, get_run, "Show a run.", Role.PERSON),
        tool(StopRun, request_stop_run, "Ask for a run to be stopped.", Role.PERSON),
        tool(Nothing, list_projects, "List projects.", Role.PERSON),
        tool(Nothing, list_agents, "List agents.", Role.PERSON),
        tool(ListEvents, list_events, "List what happened.", Role.PERSON),
        tool(Nothing, get_status, "Say how everything stands.", Role.PERSON),
    )
)
