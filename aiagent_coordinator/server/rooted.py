"""What a coordinator is told that works for one person alone: that person's agents, in that person's folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.store import people, projects
from aiagent_coordinator.store.people import Scope
from aiagent_coordinator.store.requests import ClaimAnswer, ClaimRequest
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Project

#: Why nothing is started in a project that the person has nowhere.
NO_DIRECTORY = "no_working_directory"
#: Why somebody else's agent is not started.
NOT_BELOW = "not_below_root"


def lines_for(unit: Unit, root_agent_id: str, answer: Json) -> Json:
    """Of what should run, what belongs to a person, under a name of its own.

    Raises:
        NotFoundError: there is nobody of that id.
    """
    scope = people.scope_of(unit, root_agent_id)
    places = {one.id: scope.place_of(one) for one in projects.list_projects(unit)}
    mine = [
        line
        if line["action"] != "start" or places.get(line["project_id"]) is not None
        else _held(line)
        for line in answer["actions"]
        if line["agent_id"] in scope.agents
    ]
    name = hashlib.sha256(json.dumps(mine, sort_keys=True).encode()).hexdigest()[:16]
    return {**answer, "actions": mine, "etag": f"{answer['etag']}.{name}"}


def _held(line: Json) -> Json:
    kept = {key: value for key, value in line.items() if key != "task_id"}
    return {**kept, "action": "hold", "reason": NO_DIRECTORY, "slots_free": 0}


def claim(unit: Unit, request: ClaimRequest, make: Callable[[Unit], ClaimAnswer]) -> ClaimAnswer:
    """Claim a run that is to work where the person has the project.

    Args:
        unit: The unit of work.
        request: Who asks; names the person.
        make: The claim as anybody makes it.
    """
    scope = people.scope_of(unit, request.root_agent_id or "")
    if request.agent_id not in scope.agents:
        return ClaimAnswer(claimed=False, reason=NOT_BELOW)
    place = scope.place_of(projects.get_project(unit, request.project_id))
    if place is None:
        return ClaimAnswer(claimed=False, reason=NO_DIRECTORY)
    answer = make(unit)
    # a chat works in no folder of the project
    if answer.project is None or not answer.project.path:
        return answer
    return replace(answer, project=replace(answer.project, path=place))


def of_projects(scope: Scope, listed: list[Json], unit: Unit) -> Json:
    """The projects of a person as coordinators of another make read them: its agents, its folders.

    Where the person has none, nobody of theirs may work: an empty folder means their own to them.
    """
    known = {one.id: one for one in projects.list_projects(unit)}
    kept: list[Json] = []
    skipped: list[Json] = []
    for one in listed:
        agents = [agent for agent in one["agents"] if agent in scope.agents]
        place = scope.place_of(known[one["project_id"]])
        if not agents:
            continue
        if place is None:
            skipped.append({"project_id": one["project_id"], "reason": NO_DIRECTORY})
        else:
            kept.append({**one, "agents": agents, "working_directory": place})
    return {"projects": kept, **({"skipped": skipped} if skipped else {})}


def why_nobody(
    unit: Unit, roots: Sequence[str | None], agents: Sequence[Agent], project: Project
) -> Iterator[Json]:
    """Why no coordinator that is there starts these agents in a project: each works for somebody.

    Args:
        unit: The unit of work.
        roots: For whom each coordinator works that is there; None: for everybody.
        agents: Who could do the work.
        project: Where.
    """
    named = [one for one in roots if one is not None]
    if not named or len(named) < len(roots):
        return
    known = {one.id for one in projects.list_agents(unit)}
    scopes = [people.scope_of(unit, one) for one in sorted(set(named)) if one in known]
    mine = [scope for scope in scopes if scope.agents & {agent.id for agent in agents}]
    if any(scope.place_of(project) is not None for scope in mine):
        return
    for scope in mine:
        text = f"{scope.person_id} has project {project.id} in no directory"
        do = f"add it to people.{scope.person_id}.directories in the server's configuration"
        yield {"code": NO_DIRECTORY, "text": text, "do": do}
    if not mine:
        who = ", ".join(agent.id for agent in agents)
        text = (
            f"{who}: every coordinator that is there works for somebody else ({', '.join(named)})"
        )
        yield {"code": NOT_BELOW, "text": text, "do": "start one without root_agent_id, or another"}
