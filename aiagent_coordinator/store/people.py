"""People, the agents that belong to them, and where each has a project on the machine that it works at."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import delete, insert, select

from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.store import audit_tables, projects
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, AgentKind, Project, WorkspaceKind

_directory = audit_tables.working_directory


@dataclass(frozen=True)
class Scope:
    """What belongs to an agent or a person: who, and where."""

    #: Programs: the one that was named, or those below it, up to the next person.
    agents: frozenset[str]
    #: The person whose directories count; None: nobody is above, and projects lie where they lie.
    person_id: str | None
    #: Project → where that person has it.
    directories: Mapping[str, str]

    def place_of(self, project: Project) -> str | None:
        """Where work on a project happens; empty where it needs no folder, None when nobody said."""
        if self.person_id is None or project.workspace is WorkspaceKind.SCRATCH:
            return project.path
        return self.directories.get(project.id)


def scope_of(unit: Unit, root_agent_id: str) -> Scope:
    """What belongs to an agent or a person.

    Raises:
        NotFoundError: there is none of that id, in the words of AI Agent PM.
    """
    known = {agent.id: agent for agent in projects.list_agents(unit)}
    if root_agent_id not in known:
        raise NotFoundError(f"Agent not found: {root_agent_id[:200]}")
    person = nearest_person(known, root_agent_id)
    mine = frozenset(
        agent.id
        for agent in known.values()
        if agent.kind is AgentKind.PROGRAM
        and root_agent_id in _upwards(known, agent.id)
        and nearest_person(known, agent.id) == person
    )
    return Scope(mine, person, {} if person is None else directories_of(unit, person))


def nearest_person(known: Mapping[str, Agent], agent_id: str) -> str | None:
    """The person that an agent works for, over however many managers; a person is its own."""
    return next(
        (one for one in _upwards(known, agent_id) if known[one].kind is AgentKind.PERSON), None
    )


def _upwards(known: Mapping[str, Agent], agent_id: str) -> list[str]:
    """An agent, who it works for, and so on, each once."""
    found: list[str] = []
    above: str | None = agent_id
    while above is not None and above in known and above not in found:
        found.append(above)
        above = known[above].parent_id
    return found


def directories_of(unit: Unit, person_id: str) -> dict[str, str]:
    """Where a person has projects: project → path."""
    query = select(_directory.c.project_id, _directory.c.path).where(
        _directory.c.agent_id == person_id
    )
    return {str(row[0]): str(row[1]) for row in unit.conn.execute(query)}


def place_for(unit: Unit, agent_id: str, project: Project) -> str:
    """Where an agent works on a project: where the person that it works for has it, else where it lies."""
    known = {agent.id: agent for agent in projects.list_agents(unit)}
    person = nearest_person(known, agent_id)
    own = {} if person is None else directories_of(unit, person)
    return own.get(project.id, project.path)


def who_has(unit: Unit) -> dict[str, list[str]]:
    """The people that have each project: project → ids."""
    rows = unit.conn.execute(
        select(_directory.c.project_id, _directory.c.agent_id).order_by(_directory.c.agent_id)
    )
    found: dict[str, list[str]] = {}
    for project_id, person_id in rows:
        found.setdefault(project_id, []).append(person_id)
    return found


def declare(unit: Unit, people: Collection[Agent], places: Mapping[tuple[str, str], str]) -> None:
    """Make people as the configuration says, with all their directories; says so only when something changed.

    Args:
        unit: The unit of work.
        people: Who there is.
        places: (person, project) → path; projects are declared before.
    """
    for person in people:
        projects.declare_agent(unit, person)
    known = {
        (row["agent_id"], row["project_id"]): row["path"]
        for row in unit.conn.execute(select(_directory)).mappings()
    }
    if known == places:
        return
    unit.conn.execute(delete(_directory))
    for (person_id, project_id), path in sorted(places.items()):
        unit.conn.execute(
            insert(_directory).values(agent_id=person_id, project_id=project_id, path=path)
        )
    for person_id in sorted({pair[0] for pair, _ in known.items() ^ places.items()}):
        unit.emit("agent.changed", actor="configuration", agent_id=person_id)
