"""What is parked because of a limit or a login, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiagent_coordinator.server.calls import Json
from aiagent_coordinator.store import projects
from aiagent_coordinator.store.budgets import Left
from aiagent_coordinator.store.lanes import Gate
from aiagent_coordinator.store.ledger import Window
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, Task, TaskStatus


def of_agents(unit: Unit, agents: Sequence[Agent], project_id: str) -> Iterator[Json]:
    """Why none of these agents can start now: what they may work on is closed, or used up."""
    gate = Gate.of(unit)
    left = Left(unit, gate.terms)
    full = [left.refusal(agent.id, project_id) for agent in agents]
    if full and all(full):
        for why in dict.fromkeys(filter(None, full)):
            yield {"code": "budget", "text": why, "do": "raise `budgets` in the settings"}
    found = [gate.closed_to(agent) for agent in agents]
    if not found or not all(found):
        return
    for why, window in {one.why: one for one in found if one is not None}.items():
        yield {"code": "parked", "text": why, "do": _do(window)}


def passes(reason: Json) -> bool:
    """Whether one of these reasons goes away with time, and needs nobody."""
    return reason["code"] in {"parked", "budget"} and reason["text"].startswith("parked until ")


def of_task(unit: Unit, task: Task) -> str | None:
    """Why a queued task waits for a limit, a login or a budget; None: it does not."""
    if task.status is not TaskStatus.QUEUED:
        return None
    agents = [
        agent
        for agent, project in projects.assignments(unit)
        if project.id == task.project_id and task.agent_id in (None, agent.id) and agent.enabled
    ]
    return next((one["text"] for one in of_agents(unit, agents, task.project_id)), None)


def summary(unit: Unit) -> dict[str, list[Json]]:
    """What is parked, each once: what waits for its time, and what for a login."""
    shut = Gate.of(unit).shut
    return {
        "parked": [_line(one) for one in shut if one.reason != "auth"],
        "logins": [_line(one) for one in shut if one.reason == "auth"],
    }


def _do(one: Window) -> str:
    clear = f"quota clear {_named(one)}"
    return (
        f"log in with its program; where it does not go on soon: {clear}"
        if one.reason == "auth"
        else clear
    )


def _line(one: Window) -> Json:
    until = None if one.until is None else one.until.isoformat().replace("+00:00", "Z")
    return {
        "lane": _named(one),
        "why": one.why,
        "until": until,
        "confidence": one.confidence.value,
        "text": one.text,
    }


def _named(one: Window) -> str:
    return one.lane.name
