"""Why a task does not run: every reason, in the order in which a person would remove them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from aiagent_coordinator.clock import iso
from aiagent_coordinator.runs import Run, RunOutcome, RunPhase
from aiagent_coordinator.server import holding, parking, rooted, waiting
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.store import (
    actions,
    checkouts,
    dependencies,
    projects,
    questions,
    tells,
    waking,
)
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.requests import ListActions
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import (
    TERMINAL,
    Agent,
    Project,
    Task,
    TaskKind,
    TaskStatus,
    WaitReason,
    WorkspaceKind,
)

#: A coordinator renews every 30 s; one that was not heard for three times that is not there.
SEEN_SECONDS = 90.0
#: Reasons of a coordinator that the board finds by itself.
_TOLD_BY_US = ("max_concurrent", "the run before", "unschedulable")


@dataclass(frozen=True)
class Around:
    """What is known beside the store."""

    #: When each coordinator called last.
    coordinators: Mapping[str, datetime]
    now: datetime
    max_concurrent: int | None
    #: What each coordinator said when it looked last.
    told: Mapping[str, ListActions] = field(default_factory=dict[str, ListActions])

    def why_unfit(self, agent_id: str) -> str | None:
        """Why no coordinator that is there can start an agent; None when one can, or none is there."""
        reasons = [(told.unfit or {}).get(agent_id) for told in self._those_there()]
        return reasons[0] if reasons and all(reasons) else None

    def why_waiting(self, agent_id: str, project_id: str) -> str | None:
        """Why no coordinator starts a line of work now; None when one would, or none is there."""
        reasons: list[str | None] = []
        for told in self._those_there():
            mine = [
                wait.reason
                for wait in told.waits
                if (wait.agent_id, wait.project_id) == (agent_id, project_id)
            ]
            reasons.append(mine[0] if mine else None)
        return reasons[0] if reasons and all(reasons) else None

    @property
    def roots(self) -> list[str | None]:
        """For whom each coordinator works that is there; None: for everybody."""
        return [told.root_agent_id for told in self._those_there()]

    def _those_there(self) -> list[ListActions]:
        return [
            self.told.get(one, ListActions(one))
            for one, at in self.coordinators.items()
            if self._is_there(at)
        ]

    @property
    def is_coordinated(self) -> bool:
        """Whether any coordinator is there."""
        return any(self._is_there(at) for at in self.coordinators.values())

    def _is_there(self, heard_at: datetime) -> bool:
        return (self.now - heard_at).total_seconds() <= SEEN_SECONDS


def explain(unit: Unit, task: Task, around: Around) -> list[Json]:
    """The reasons why a task does not run now; empty when it could start at once.

    Each has `code`, `text`, and `do` with what helps, where a person can do something.
    """
    held = list(holding.of_task(unit, task))
    if task.status in TERMINAL:
        return [*held, _over(unit, task)]
    if task.kind is TaskKind.STEP:
        return [_reason("step", f"it is a step of {task.parent_id}, whose agent works it off")]
    if task.status is TaskStatus.RUNNING:
        return [_running(unit, task)]
    if task.status is TaskStatus.WAITING:
        return [*held, _waiting(unit, task)]
    return [
        *held,
        *_own(unit, task),
        *why_held(unit, task.project_id, task.agent_id, around),
        *_nobody(around),
        *_limits(unit, task, around),
        *_at_coordinators(unit, task, around),
    ]


def _reason(code: str, text: str, do: str = "") -> Json:
    return {"code": code, "text": text, **({"do": do} if do else {})}


def _over(unit: Unit, task: Task) -> Json:
    why = f" ({task.status_reason}{_told(unit, task)})" if task.status_reason else ""
    do = "" if task.status is TaskStatus.SUCCEEDED else f"task retry {task.id}"
    return _reason("over", f"it is {task.status.value}{why}", do)


def _told(unit: Unit, task: Task) -> str:
    """What the last run said of itself if it was never started: the machine lacks something."""
    latest = run_store.latest_run_of(unit, task.id)
    if latest is not None and task.status_reason == "workflow_not_found":
        return f": {(latest.warnings or {}).get('workflow', '')}"
    if latest is None or latest.outcome is not RunOutcome.NOT_STARTED or not latest.error:
        return ""
    return f": {latest.error}"


def _running(unit: Unit, task: Task) -> Json:
    run = run_store.live_run_of(unit, task.id)
    if run is None:
        return _reason("running", "it is running")
    waiting = tells.count_waiting(unit, task.id)
    said = f"; {waiting} messages to it have not been heard yet" if waiting else ""
    doing = f": {run.activity}" if run.activity else ""
    text = f"it is running: run {run.id}, {run.phase.value}{doing}{said}"
    return _reason("running", text, f"logs {run.id}")


def _waiting(unit: Unit, task: Task) -> Json:
    if task.wait_reason is WaitReason.INPUT:
        question = questions.wanted_of(unit, task)
        if not question.is_open:
            return _reason("run_ending", "the question is answered; its run is still ending")
        text = f"it asked at {iso(question.asked_at)} and waits for an answer: {question.text}"
        return _reason("question", text, f"task answer {task.id} TEXT")
    words = {
        WaitReason.BLOCKED: "its agent reported that it is blocked",
        WaitReason.AUTH: "a credential is missing or expired",
    }
    if task.wait_reason is WaitReason.SUBTASKS:
        return waiting.for_subtasks(unit, task)
    if task.wait_reason is WaitReason.REVIEW:
        return waiting.for_review(unit, task)
    waits = task.wait_reason or WaitReason.BLOCKED
    summary = task.result.get("summary")
    return _reason(waits.value, words[waits] + (f": {summary}" if summary else ""))


def _own(unit: Unit, task: Task) -> Iterator[Json]:
    """What the task itself says."""
    if task.status is TaskStatus.BACKLOG and task.approval == "pending":
        yield _reason("approval", "somebody must let it begin", f"task approve {task.id}")
    elif task.status is TaskStatus.BACKLOG and task.parent_id is not None:
        text = f"its manager has given it to nobody; it is a part of {task.parent_id}"
        yield _reason("unassigned", text, f"explain {task.parent_id}")
    elif task.status is TaskStatus.BACKLOG:
        yield _reason("backlog", "it is in the backlog; nobody has submitted it")
    above = waking.ancestors(unit, task)
    for one in dependencies.needed_by(unit, task.id):
        if one.id in above:
            text = f"deadlock: it is a part of {one.id} and waits for it: {one.title}"
            yield _reason("deadlock", text, f"task depend {task.id} --not-on {one.id}")
        elif one.status in {TaskStatus.FAILED, TaskStatus.CANCELLED}:
            text = f"it waits for {one.id}, which is {one.status.value}: {one.title}"
            yield _reason("dependency_failed", text, f"task retry {one.id}")
        elif one.status is not TaskStatus.SUCCEEDED:
            text = f"it waits for {one.id}, which is {one.status.value}: {one.title}"
            yield _reason("dependency", text, f"explain {one.id}")
    if task.not_before is not None and task.not_before > unit.now:
        seconds = (task.not_before - unit.now).total_seconds()
        text = (
            f"attempt {task.attempt} of {task.max_attempts} begins at {iso(task.not_before)},"
            f" in {seconds:.0f} s, because of {task.status_reason or 'the attempt before'}"
            f"{_told(unit, task)}"
        )
        yield _reason("not_before", text)


def why_held(unit: Unit, project_id: str, agent_id: str | None, around: Around) -> list[Json]:
    """Why nobody can take the queued tasks of a project that name this agent, or none."""
    return list(_place(unit, project_id, agent_id, around))


def _place(unit: Unit, project_id: str, agent_id: str | None, around: Around) -> Iterator[Json]:
    """What their project and their agent say."""
    project = projects.get_project(unit, project_id)
    declared = {one.id for one in projects.list_projects(unit)}
    if project.id not in declared:
        text = f"project {project.id} is not in the configuration any more"
        yield _reason("project_undeclared", text, "declare it again")
    elif project.status != "active":
        do = f"project resume {project.id}"
        yield _reason("project_paused", f"project {project.id} is {project.status}", do)
    agents = _agents(unit, project_id, agent_id)
    if not agents:
        who = f"agent {agent_id} does not work" if agent_id else "no agent works"
        yield _reason("no_agent", f"{who} in project {project.id}", "assign one to the project")
        return
    enabled = [agent for agent in agents if agent.enabled]
    if not enabled:
        names = ", ".join(agent.id for agent in agents)
        yield _reason("agent_disabled", f"disabled: {names}")
        return
    yield from holding.of_agents(unit, enabled)
    yield from rooted.why_nobody(unit, around.roots, enabled, project)
    yield from parking.of_agents(unit, enabled, project_id)
    unfit = {agent.id: around.why_unfit(agent.id) for agent in enabled}
    if all(unfit.values()):
        told = "; ".join(f"{agent_id}: {reason}" for agent_id, reason in unfit.items())
        yield _reason("unschedulable", f"no coordinator can start {told}", "change the agent")


def _agents(unit: Unit, project_id: str, agent_id: str | None) -> list[Agent]:
    return [
        agent
        for agent, project in projects.assignments(unit)
        if project.id == project_id and agent_id in (None, agent.id)
    ]


def _nobody(around: Around) -> Iterator[Json]:
    ages = [(around.now - at).total_seconds() for at in around.coordinators.values()]
    if not around.is_coordinated:
        known = f"; the last was heard {min(ages):.0f} s ago" if ages else ""
        yield _reason("no_coordinator", f"no coordinator is connected{known}", "start one")


def _at_coordinators(unit: Unit, task: Task, around: Around) -> Iterator[Json]:
    """What only the coordinators know: what is resting, and what the machine has left."""
    reasons = {
        agent.id: around.why_waiting(agent.id, task.project_id)
        for agent in _agents(unit, task.project_id, task.agent_id)
        if agent.enabled
    }
    if reasons and all(reasons.values()):
        for agent_id, reason in reasons.items():
            if reason and not reason.startswith(_TOLD_BY_US):
                yield _reason("coordinator", f"{agent_id} is not started: {reason}")


def _limits(unit: Unit, task: Task, around: Around) -> Iterator[Json]:
    """What is full, and who is before it."""
    live = run_store.live_runs(unit)
    counted = [run for run in live if run.phase in run_store.COUNTED]
    most = around.max_concurrent
    if most is not None and len(counted) >= most:
        yield _reason("max_concurrent", f"max_concurrent is reached ({len(counted)}/{most})")
    project = projects.get_project(unit, task.project_id)
    yield from _project_limit(project, counted)
    if project.workspace is WorkspaceKind.DIRECTORY:
        holder = checkouts.busy(unit).get(project.path)
        if holder is not None:
            text = f"run {holder} works in {project.path}, one at a time"
            yield _reason("directory_in_use", text, f"logs {holder}")
    agents = _agents(unit, task.project_id, task.agent_id)
    full = [_agent_limit(agent, counted) for agent in agents]
    if full and all(full):
        yield from (reason for reason in full if reason)
    ending = [
        run
        for run in live
        if run.phase is RunPhase.FINISHING and run.agent_id in {agent.id for agent in agents}
    ]
    if ending and task.status is TaskStatus.QUEUED:
        names = ", ".join(run.id for run in ending)
        yield _reason("finishing", f"a run before is still finishing: {names}")
    if task.status is TaskStatus.QUEUED:
        before = actions.count_before(unit, task)
        if before:
            yield _reason("order", f"{before} due tasks of its queue come before it")


def _project_limit(project: Project, counted: list[Run]) -> Iterator[Json]:
    running = sum(run.project_id == project.id for run in counted)
    if project.max_concurrent is not None and running >= project.max_concurrent:
        text = f"max_concurrent of project {project.id} is reached ({running}/{project.max_concurrent})"
        yield _reason("project_limit", text)


def _agent_limit(agent: Agent, counted: list[Run]) -> Json | None:
    running = sum(run.agent_id == agent.id for run in counted)
    if running < agent.max_concurrent:
        return None
    text = f"max_concurrent of agent {agent.id} is reached ({running}/{agent.max_concurrent})"
    return _reason("agent_limit", text)
