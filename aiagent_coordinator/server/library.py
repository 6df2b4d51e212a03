"""What can be read by its address: the queue, tasks, runs and their output, projects and agents.

Every address is one of `KINDS`, with an id in it. Persons and coordinators read all of them; an
agent reads what its own run is about, and nothing of another project.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio import to_thread

from aiagent_coordinator.errors import ForbiddenError, NotFoundError, UnauthorizedError
from aiagent_coordinator.server import rows
from aiagent_coordinator.server.auth import Identity, Role
from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.server.frames import Frames
from aiagent_coordinator.server.log_tail import tail_of
from aiagent_coordinator.store import dependencies, events, projects, questions
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store import tasks as task_store
from aiagent_coordinator.store.runs import RunFilter
from aiagent_coordinator.store.tasks import TaskFilter
from aiagent_coordinator.tasks import TERMINAL, TaskStatus

if TYPE_CHECKING:
    from aiagent_coordinator.events import Event
    from aiagent_coordinator.paths import StateDir
    from aiagent_coordinator.store.engine import Store
    from aiagent_coordinator.store.unit import Unit

#: Lines of a list; more is asked for with the tools, page by page.
MAX_LINES = 200
QUEUE = "coord://queue"
JSON_TYPE, TEXT_TYPE = "application/json", "text/plain"
_ID = r"([A-Za-z0-9._-]{1,128})"


@dataclass(frozen=True)
class Kind:
    """A kind of address."""

    #: With `{id}` where an id stands.
    template: str
    title: str
    description: str
    #: What the id names: the key of an identity that must be the same for an agent.
    owner: str
    read: Callable[[Unit, str], Json]

    @property
    def name(self) -> str:
        """A name of letters and dashes."""
        return re.sub(r"[^a-z]+", "-", self.template.replace("{id}", "")).strip("-")

    def id_in(self, uri: str) -> str | None:
        """The id in an address of this kind; None for another address."""
        found = re.fullmatch(re.escape(self.template).replace(r"\{id\}", _ID), uri)
        return found[1] if found else None


@dataclass(frozen=True)
class Readable:
    """A resource as clients see it in a list."""

    uri: str
    name: str
    title: str
    description: str
    mime_type: str = JSON_TYPE


@dataclass(frozen=True)
class Text:
    """What a resource says."""

    uri: str
    mime_type: str
    text: str


def _queue(unit: Unit, ident: str) -> Json:
    del ident
    open_ones = frozenset(TaskStatus) - TERMINAL
    found = task_store.list_tasks(unit, TaskFilter(statuses=tuple(open_ones)), limit=MAX_LINES)
    lines = [rows.task_line(one) for one in found]
    return {"tasks": lines, "counts": task_store.count_by_status(unit)}


def _task(unit: Unit, ident: str) -> Json:
    return {"task": rows.task_with(unit, task_store.get_task(unit, ident))}


def _task_history(unit: Unit, ident: str) -> Json:
    task_store.get_task(unit, ident)
    runs = run_store.list_runs(unit, RunFilter(task_id=ident), limit=MAX_LINES)
    return {
        "events": [rows.plain(event) for event in events.last_of_task(unit, ident, MAX_LINES)],
        "runs": [rows.run_line(one) for one in runs],
    }


def _task_context(unit: Unit, ident: str) -> Json:
    task = task_store.get_task(unit, ident)
    return {
        "description": task.description,
        "acceptance": list(task.acceptance),
        "handoff": task.handoff,
        "questions": [rows.plain(one) for one in questions.of_task(unit, ident)],
        "depends_on": [rows.plain(one) for one in dependencies.needed_by(unit, ident)],
    }


def _run(unit: Unit, ident: str) -> Json:
    return {"run": rows.run(run_store.get_run(unit, ident))}


def _project(unit: Unit, ident: str) -> Json:
    project = projects.get_project(unit, ident)
    return {"project": rows.plain(project), "tasks": task_store.count_by_status(unit, ident)}


def _project_tasks(unit: Unit, ident: str) -> Json:
    projects.get_project(unit, ident)
    found = task_store.list_tasks(unit, TaskFilter(project_id=ident), limit=MAX_LINES)
    return {"tasks": [rows.task_line(one) for one in found]}


def _project_agents(unit: Unit, ident: str) -> Json:
    projects.get_project(unit, ident)
    pairs = projects.assignments(unit)
    return {"agents": [rows.plain(agent) for agent, project in pairs if project.id == ident]}


def _agent(unit: Unit, ident: str) -> Json:
    agent = projects.get_agent(unit, ident)
    places = [project.id for one, project in projects.assignments(unit) if one.id == ident]
    return {"agent": rows.plain(agent), "projects": places}


def _agent_tasks(unit: Unit, ident: str) -> Json:
    projects.get_agent(unit, ident)
    found = task_store.list_tasks(unit, TaskFilter(agent_id=ident), limit=MAX_LINES)
    return {"tasks": [rows.task_line(one) for one in found]}


def _agent_sessions(unit: Unit, ident: str) -> Json:
    projects.get_agent(unit, ident)
    found = run_store.list_runs(unit, RunFilter(agent_id=ident, live=True), limit=MAX_LINES)
    return {"sessions": [rows.run_line(one) for one in found]}


#: Every kind there is, in the order of lists.
KINDS = (
    Kind(QUEUE, "Queue", "Tasks that are not over.", "", _queue),
    Kind("coord://task/{id}", "Task", "A task, all of it.", "task_id", _task),
    Kind("coord://run/{id}", "Run", "A run, all of it.", "run_id", _run),
    Kind("coord://run/{id}/log", "Output", "The end of a run's output.", "run_id", _run),
    Kind("coord://run/{id}/live", "Doings", "What a run does, as it happens.", "run_id", _run),
    Kind("project://{id}/overview", "Project", "A project in short.", "project_id", _project),
    Kind("project://{id}/tasks", "Its tasks", "A project's tasks.", "project_id", _project_tasks),
    Kind("project://{id}/agents", "Its agents", "Who works there.", "project_id", _project_agents),
    Kind("agent://{id}/profile", "Agent", "An agent.", "agent_id", _agent),
    Kind("agent://{id}/tasks", "Its tasks", "An agent's tasks.", "agent_id", _agent_tasks),
    Kind("agent://{id}/sessions", "Its sessions", "Its live runs.", "agent_id", _agent_sessions),
    Kind("task://{id}/detail", "Task", "A task, all of it.", "task_id", _task),
    Kind("task://{id}/history", "History", "What happened to it.", "task_id", _task_history),
    Kind("task://{id}/context", "Context", "What who does it knows.", "task_id", _task_context),
)
_LOG = "coord://run/{id}/log"
_LIVE = "coord://run/{id}/live"
#: Lists over all projects: what an agent would see there is not all its own.
_NOT_FOR_AGENTS = frozenset({QUEUE, "agent://{id}/tasks", "agent://{id}/sessions"})


class Library:
    """Lists and reads addresses for one caller at a time."""

    def __init__(self, store: Store, state: StateDir | None, mask: Callable[[str], str]) -> None:
        """Read a store.

        Args:
            store: Everything but output.
            state: Where the output of runs lies; None: it is not shown.
            mask: Takes secrets out of output.
        """
        self._store = store
        self._state = state
        self._mask = mask
        #: What runs do, for who follows them.
        self.frames = Frames(state, mask)

    def templates(self, identity: Identity | None) -> Sequence[Kind]:
        """The kinds that this caller may fill with an id."""
        return [kind for kind in KINDS if "{id}" in kind.template and _may(identity, kind)]

    async def listed(self, identity: Identity | None) -> Sequence[Readable]:
        """What this caller may read now, without having to know an id."""
        if identity is None:
            return []
        if identity.role is Role.AGENT:
            own = [
                (kind, str(getattr(identity, kind.owner)))
                for kind in KINDS
                if _may(identity, kind) and getattr(identity, kind.owner) is not None
            ]
            return [_readable(kind, ident) for kind, ident in own]
        names = await self._store.read(_names)
        return [
            _readable(kind, ident)
            for kind in KINDS
            for ident in names.get(kind.owner, () if kind.owner else ("",))
        ]

    def check(self, identity: Identity | None, uri: str) -> tuple[Kind, str]:
        """See whether this caller may read an address.

        Returns:
            Its kind, and the id in it.

        Raises:
            UnauthorizedError: nobody calls.
            NotFoundError: there is no such kind of address.
            ForbiddenError: it is another's.
        """
        if identity is None:
            raise UnauthorizedError("authenticate first")
        for kind in KINDS:
            ident = "" if kind.template == uri else kind.id_in(uri)
            if ident is None:
                continue
            if not _may(identity, kind):
                raise ForbiddenError("agents read what their own run is about")
            if identity.role is Role.AGENT and ident != getattr(identity, kind.owner):
                raise ForbiddenError("that is not yours")
            return kind, ident
        raise NotFoundError(f"there is no resource {uri[:200]}")

    async def read(self, identity: Identity | None, uri: str) -> Text:
        """Read an address.

        Raises:
            CoordinatorError: this caller may not, or nothing is there.
        """
        kind, ident = self.check(identity, uri)
        found = await self._store.read(lambda unit: kind.read(unit, ident))
        if kind.template == _LOG:
            return Text(uri, TEXT_TYPE, await self._log(ident, found["run"].get("log_path")))
        if kind.template == _LIVE:
            frames = await to_thread.run_sync(self.frames.read, ident)
            found = {"run_id": ident, "frames": frames}
        return Text(uri, JSON_TYPE, json.dumps(found, ensure_ascii=False))

    async def _log(self, run_id: str, log_path: str | None) -> str:
        folder = None if self._state is None else self._state.run(run_id)
        return await to_thread.run_sync(tail_of, folder, log_path, self._mask)


def changed_by(happened: Iterable[Event]) -> set[str]:
    """Addresses whose content events changed."""
    found: set[str] = set()
    for event in happened:
        ids = {
            "task_id": event.task_id,
            "run_id": event.run_id,
            "project_id": event.project_id,
            "agent_id": event.agent_id,
        }
        for kind in KINDS:
            ident = ids.get(kind.owner)
            if ident is not None and kind.template not in {_LOG, _LIVE}:
                found.add(kind.template.replace("{id}", ident))
        if event.task_id is not None:
            found.add(QUEUE)
    return found


def log_run(uri: str) -> str | None:
    """The run whose output an address shows; None for other addresses."""
    return next(kind.id_in(uri) for kind in KINDS if kind.template == _LOG)


def live_run(uri: str) -> str | None:
    """The run whose doings an address shows; None for other addresses."""
    return next(kind.id_in(uri) for kind in KINDS if kind.template == _LIVE)


def live_uri(run_id: str) -> str:
    """The address that shows the doings of a run."""
    return _LIVE.replace("{id}", run_id)


def _may(identity: Identity | None, kind: Kind) -> bool:
    if identity is None:
        return False
    return identity.role is not Role.AGENT or kind.template not in _NOT_FOR_AGENTS


def _readable(kind: Kind, ident: str) -> Readable:
    uri = kind.template.replace("{id}", ident)
    name = f"{kind.name}-{ident}" if ident else kind.name
    title = f"{kind.title} {ident}".strip()
    mime = TEXT_TYPE if kind.template == _LOG else JSON_TYPE
    return Readable(uri, name, title, kind.description, mime)


def _names(unit: Unit) -> Mapping[str, Sequence[str]]:
    """Ids by what they name: all projects and agents, the live runs and their tasks."""
    live = run_store.live_runs(unit)
    return {
        "project_id": [one.id for one in projects.list_projects(unit)],
        "agent_id": [one.id for one in projects.list_agents(unit)],
        "run_id": [one.id for one in live],
        "task_id": [one.task_id for one in live if one.task_id is not None],
    }
