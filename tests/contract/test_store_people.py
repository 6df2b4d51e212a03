"""People in the store: which agents belong to whom, and where each has a project, over both databases."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.errors import NotFoundError
from aiagent_coordinator.store import events, people, projects
from aiagent_coordinator.store.engine import Store, open_store
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, AgentKind, Duty, Project, WorkspaceKind

PLACES = {("maria", "app"): "/home/maria/app", ("jo", "app"): "/jo", ("jo", "web"): "/jo/web"}
PEOPLE = [
    Agent("maria", "Maria", "", kind=AgentKind.PERSON),
    Agent("jo", "Jo", "", kind=AgentKind.PERSON, parent_id="maria"),
]


def declare(unit: Unit) -> None:
    for name in ("app", "web"):
        projects.declare_project(unit, Project(name, name, f"/srv/{name}"))
    scratch = Project("sand", "Sand", "", workspace=WorkspaceKind.SCRATCH)
    projects.declare_project(unit, scratch)
    for agent in (
        Agent("boss", "Boss", "rehearsal", hierarchy=Duty.MANAGER, parent_id="maria"),
        Agent("ann", "Ann", "rehearsal", parent_id="boss"),
        Agent("bob", "Bob", "rehearsal", parent_id="jo"),
        Agent("cid", "Cid", "rehearsal"),
    ):
        projects.declare_agent(unit, agent)
    people.declare(unit, PEOPLE, PLACES)


@pytest.fixture
async def store(store_url: str, clock: ManualClock) -> AsyncGenerator[Store]:
    async with open_store(store_url, clock=clock) as store:
        await store.write(declare)
        yield store


async def test_who_belongs_to_a_person_is_decided_by_the_nearest_one_above(store: Store) -> None:
    async def scope(root: str) -> people.Scope:
        return await store.read(lambda unit: people.scope_of(unit, root))

    found = {root: await scope(root) for root in ("maria", "jo", "boss", "ann", "cid")}
    assert {root: (sorted(one.agents), one.person_id) for root, one in found.items()} == {
        "maria": (["ann", "boss"], "maria"),
        "jo": (["bob"], "jo"),
        "boss": (["ann", "boss"], "maria"),
        "ann": (["ann"], "maria"),
        "cid": (["cid"], None),
    }
    with pytest.raises(NotFoundError, match="Agent not found: eve"):
        await scope("eve")
    projects_ = {one.id: one for one in await store.read(projects.list_projects)}
    places = {
        (root, name): found[root].place_of(projects_[name])
        for root in ("maria", "cid")
        for name in ("app", "web", "sand")
    }
    assert places == {
        ("maria", "app"): "/home/maria/app",
        ("maria", "web"): None,
        ("maria", "sand"): "",
        ("cid", "app"): "/srv/app",
        ("cid", "web"): "/srv/web",
        ("cid", "sand"): "",
    }


async def test_an_agent_is_told_the_place_of_its_person_else_that_of_the_project(
    store: Store,
) -> None:
    def work(unit: Unit) -> dict[tuple[str, str], str]:
        return {
            (agent, name): people.place_for(unit, agent, projects.get_project(unit, name))
            for agent in ("ann", "bob", "cid")
            for name in ("app", "web")
        }

    assert await store.read(work) == {
        ("ann", "app"): "/home/maria/app",
        ("ann", "web"): "/srv/web",
        ("bob", "app"): "/jo",
        ("bob", "web"): "/jo/web",
        ("cid", "app"): "/srv/app",
        ("cid", "web"): "/srv/web",
    }


async def test_declaring_people_again_says_nothing_and_a_change_says_so_once(store: Store) -> None:
    async def said() -> list[str | None]:
        happened = await store.read(lambda unit: events.list_events(unit, limit=1000))
        return [one.agent_id for one in happened if one.action == "agent.changed"]

    before = await said()
    await store.write(lambda unit: people.declare(unit, PEOPLE, PLACES))
    assert await said() == before
    fewer = {("maria", "app"): "/home/maria/app", ("jo", "web"): "/elsewhere"}
    await store.write(lambda unit: people.declare(unit, PEOPLE, fewer))
    assert await said() == [*before, "jo"]
    assert await store.read(lambda unit: people.directories_of(unit, "jo")) == {"web": "/elsewhere"}
