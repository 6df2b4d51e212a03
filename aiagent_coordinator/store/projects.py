"""Projects, agents, and who works where: what the configuration declares."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Table, delete, insert, select, update

from aiagent_coordinator.errors import ConfigError, ConflictError, NotFoundError
from aiagent_coordinator.store import tables
from aiagent_coordinator.store.rows import agent_of, checks_document, project_of
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project

_project = tables.project
_agent = tables.agent
_assignment = tables.assignment

_ACTOR = "configuration"


def declare_project(unit: Unit, project: Project) -> None:
    """Make a project as the configuration says; says so only when something changed.

    Raises:
        ConfigError: it is known under another path; its branches and runs belong to that one.
    """
    known = (
        unit.conn.execute(select(_project).where(_project.c.id == project.id)).mappings().first()
    )
    if known is not None and known["path"] != project.path:
        raise ConfigError(
            f"project {project.id} is at {known['path']}, the configuration says {project.path}",
            hint="put the old path back, or declare the new place under another id;"
            " the old project then starts nothing new and keeps its runs",
        )
    columns = _project_columns(project, "file")
    if known is not None and project.status == "active":
        # Paused and archived is what a person said; the configuration says nothing about it.
        del columns["status"]
    action = _declare(unit, _project, project.id, columns)
    if action:
        unit.emit(f"project.{action}", actor=_ACTOR, project_id=project.id)


def declare_agent(unit: Unit, agent: Agent) -> None:
    """Make an agent as the configuration says; says so only when something changed."""
    action = _declare(unit, _agent, agent.id, _agent_columns(agent, "file"))
    if action:
        unit.emit(f"agent.{action}", actor=_ACTOR, agent_id=agent.id)


def create_project(unit: Unit, project: Project, *, actor: str) -> Project:
    """Make a project that no configuration declares.

    Raises:
        ConflictError: the id is taken.
    """
    _refuse_taken(unit, _project, "project", project.id)
    columns = _project_columns(project, "board")
    columns |= {"created_at": unit.now, "updated_at": unit.now}
    unit.conn.execute(insert(_project).values(columns))
    unit.emit("project.created", actor=actor, project_id=project.id)
    return project


def create_agent(unit: Unit, agent: Agent, *, actor: str) -> Agent:
    """Make an agent that no configuration declares.

    Raises:
        ConflictError: the id is taken.
    """
    _refuse_taken(unit, _agent, "agent", agent.id)
    columns = _agent_columns(agent, "board")
    columns |= {"created_at": unit.now, "updated_at": unit.now}
    unit.conn.execute(insert(_agent).values(columns))
    unit.emit("agent.created", actor=actor, agent_id=agent.id)
    return agent


def _refuse_taken(unit: Unit, table: Table, noun: str, ident: str) -> None:
    origin = unit.conn.scalar(select(table.c.origin).where(table.c.id == ident))
    if origin == "file":
        raise ConflictError(
            f"{noun} {ident} is declared in the configuration",
            hint=f"change it there, or choose another id; `{noun} show {ident}` shows it",
        )
    if origin is not None:
        raise ConflictError(f"there is a {noun} {ident} already", hint="choose another id")


def set_project_status(unit: Unit, project_id: str, status: str, *, actor: str) -> Project:
    """Pause, resume or archive a project: what runs goes on, nothing new starts while not active.

    Raises:
        NotFoundError: there is no such project.
    """
    project = get_project(unit, project_id)
    if project.status != status:
        unit.conn.execute(
            update(_project)
            .where(_project.c.id == project_id)
            .values(status=status, updated_at=unit.now)
        )
        moved: dict[str, Any] = {"from": project.status, "to": status}
        unit.emit("project.status", actor=actor, project_id=project_id, **moved)
    return replace(project, status=status)


def origin_of(unit: Unit, noun: str, ident: str) -> str:
    """Where a project or agent comes from: `file` or `board`."""
    table = _project if noun == "project" else _agent
    return str(unit.conn.scalar(select(table.c.origin).where(table.c.id == ident)))


def _project_columns(project: Project, origin: str) -> dict[str, Any]:
    checks = checks_document(project.checks)
    return asdict(project) | {"checks": checks, "declared": True, "origin": origin}


def _agent_columns(agent: Agent, origin: str) -> dict[str, Any]:
    return asdict(agent) | {"declared": True, "origin": origin}


def _declare(unit: Unit, table: Table, ident: str, columns: dict[str, Any]) -> str | None:
    """Insert or update a declared row; None when it is already so."""
    known = unit.conn.execute(select(table).where(table.c.id == ident)).mappings().first()
    if known is None:
        columns |= {"created_at": unit.now, "updated_at": unit.now}
        unit.conn.execute(insert(table).values(columns))
        return "declared"
    if all(known[name] == value for name, value in columns.items()):
        return None
    columns |= {"updated_at": unit.now}
    unit.conn.execute(update(table).where(table.c.id == ident).values(columns))
    return "changed"


def assign(unit: Unit, agent_id: str, project_id: str) -> None:
    """Let an agent work in a project; again changes nothing."""
    get_agent(unit, agent_id)
    get_project(unit, project_id)
    pair = (_assignment.c.agent_id == agent_id) & (_assignment.c.project_id == project_id)
    if unit.conn.execute(select(_assignment).where(pair)).first() is None:
        unit.conn.execute(insert(_assignment).values(agent_id=agent_id, project_id=project_id))
        unit.emit("project.changed", actor=_ACTOR, project_id=project_id, agent_id=agent_id)


def unassign(unit: Unit, agent_id: str, project_id: str) -> None:
    """Start nothing new of an agent in a project; what runs goes on."""
    pair = (_assignment.c.agent_id == agent_id) & (_assignment.c.project_id == project_id)
    if unit.conn.execute(delete(_assignment).where(pair)).rowcount:
        unit.emit("project.changed", actor=_ACTOR, project_id=project_id, agent_id=agent_id)


def keep_only(
    unit: Unit,
    *,
    project_ids: Collection[str],
    agent_ids: Collection[str],
    pairs: Collection[tuple[str, str]],
) -> None:
    """Mark what vanished from the configuration: it starts nothing new and is never deleted.

    Args:
        unit: The unit of work.
        project_ids: Every project that is declared.
        agent_ids: Every agent that is declared.
        pairs: Every assignment that is declared, as (agent id, project id).
    """
    for table, idents, noun in ((_project, project_ids, "project"), (_agent, agent_ids, "agent")):
        gone = unit.conn.scalars(
            select(table.c.id).where(
                table.c.declared.is_(True),
                table.c.origin == "file",
                table.c.id.not_in(list(idents)),
            )
        ).all()
        for ident in gone:
            unit.conn.execute(
                update(table).where(table.c.id == ident).values(declared=False, updated_at=unit.now)
            )
            unit.emit(
                f"{noun}.changed",
                actor=_ACTOR,
                project_id=ident if noun == "project" else None,
                agent_id=ident if noun == "agent" else None,
            )
    # Whatever a person put together by command stays: only pairs of the file can vanish from it.
    rows = (
        select(_assignment)
        .join(_agent, _agent.c.id == _assignment.c.agent_id)
        .join(_project, _project.c.id == _assignment.c.project_id)
        .where(_agent.c.origin == "file", _project.c.origin == "file")
    )
    for row in unit.conn.execute(rows).mappings().all():
        if (row["agent_id"], row["project_id"]) not in pairs:
            unassign(unit, row["agent_id"], row["project_id"])


def get_project(unit: Unit, project_id: str) -> Project:
    """One project, whether declared or not.

    Raises:
        NotFoundError: there is none.
    """
    row = unit.conn.execute(select(_project).where(_project.c.id == project_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no project {project_id}", project_id=project_id)
    return project_of(row)


def get_agent(unit: Unit, agent_id: str) -> Agent:
    """One agent, whether declared or not.

    Raises:
        NotFoundError: there is none.
    """
    row = unit.conn.execute(select(_agent).where(_agent.c.id == agent_id)).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no agent {agent_id}", agent_id=agent_id)
    return agent_of(row)


def list_projects(unit: Unit) -> list[Project]:
    """All declared projects, by id."""
    query = select(_project).where(_project.c.declared.is_(True)).order_by(_project.c.id)
    return [project_of(row) for row in unit.conn.execute(query).mappings()]


def list_agents(unit: Unit) -> list[Agent]:
    """All declared agents, by id."""
    query = select(_agent).where(_agent.c.declared.is_(True)).order_by(_agent.c.id)
    return [agent_of(row) for row in unit.conn.execute(query).mappings()]


def assignments(unit: Unit) -> list[tuple[Agent, Project]]:
    """Who works where, of declared agents and projects, by agent and project id."""
    agents = {agent.id: agent for agent in list_agents(unit)}
    projects = {project.id: project for project in list_projects(unit)}
    query = select(_assignment).order_by(_assignment.c.agent_id, _assignment.c.project_id)
    return [
        (agents[row["agent_id"]], projects[row["project_id"]])
        for row in unit.conn.execute(query).mappings()
        if row["agent_id"] in agents and row["project_id"] in projects
    ]


def is_assigned(unit: Unit, agent_id: str, project_id: str) -> bool:
    """Whether an agent works in a project."""
    pair = (_assignment.c.agent_id == agent_id) & (_assignment.c.project_id == project_id)
    return unit.conn.execute(select(_assignment).where(pair)).first() is not None
