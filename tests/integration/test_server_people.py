"""What coordinators are told that name a person: that person's agents, in that person's directories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from aiagent_coordinator import ids
from aiagent_coordinator.server.http.settings import OwnFile
from aiagent_coordinator.store import people, projects
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import Agent, AgentKind, Project
from support.board import Board, Raw, connected, serving
from support.pm import PAIR, authenticate, value, with_passkey
from support.web import LOCAL, browsing

CONFIG = "/api/coordinator/config"
ROOT = "/home/maria/garden"


async def hire(board: Board) -> None:
    """Ann works for Maria, who has the garden and not the yard; Bob works for nobody."""

    def work(unit: Unit) -> None:
        projects.declare_project(unit, Project(id="yard", name="Yard", path="/srv/yard"))
        people.declare(
            unit,
            [Agent("maria", "Maria", "", kind=AgentKind.PERSON)],
            {("maria", "garden"): ROOT},
        )
        for name, boss in (("ann", "maria"), ("bob", None)):
            agent = Agent(name, name, "rehearsal", max_concurrent=100, parent_id=boss)
            projects.declare_agent(unit, agent)
            for place in ("garden", "yard"):
                projects.assign(unit, name, place)

    await board.store.write(work)


async def test_the_projects_of_a_person_are_listed_with_its_agents_and_its_directories(
    short_dir: Path,
) -> None:
    """An empty directory means the coordinator's own to released clients: it is never sent."""
    async with serving(short_dir) as board:
        await hire(board)
        for argument in ("root_agent_id", "agent_id"):
            told = await value(board, "list_active_projects_with_agents", **{argument: "maria"})
            assert told == {
                "projects": [
                    {
                        "project_id": "garden",
                        "project_name": "Garden",
                        "working_directory": ROOT,
                        "agents": ["ann"],
                    }
                ],
                "skipped": [{"project_id": "yard", "reason": "no_working_directory"}],
            }
        mine = await value(board, "list_active_projects_with_agents", root_agent_id="bob")
        assert [(one["working_directory"], one["agents"]) for one in mine["projects"]] == [
            (str(short_dir), ["bob"]),
            ("/srv/yard", ["bob"]),
        ]
        every = await value(board, "list_active_projects_with_agents")
        assert [one["agents"] for one in every["projects"]] == [
            ["ann", "bob", "maria"],
            ["ann", "bob"],
        ]
        assert "skipped" not in every
        managed = await value(board, "list_managed_agents")
        assert managed["agent_ids"] == ["ann", "bob"]
        assert (await value(board, "get_subordinate_profile", agent_id="maria"))["type"] == "human"
        async with connected(board, board.coordinator) as client:
            told = await client.tool("list_active_projects_with_agents", root_agent_id="eve")
            assert told["error"]["code"] == "NOT_FOUND"
            assert told["error"]["message"] == "Agent not found: eve"


async def test_an_agent_is_told_where_its_person_has_the_project(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await hire(board)
        await with_passkey(board)
        await board.add_task()
        assert (await value(board, "get_agent_action", **PAIR))["action"] == "start"
        async with connected(board) as client:
            known = await client.tool("authenticate", **PAIR, passkey="sesame")
            assert known["working_directory"] == ROOT
            assert (
                await client.code("get_my_task", session_token=await authenticate(client)) is None
            )


async def test_the_configuration_of_a_person_names_its_agents_and_its_directories(
    short_dir: Path,
) -> None:
    own = OwnFile(passkeys={"ann": "sesame-ann", "bob": "sesame-bob"})
    settings = replace(LOCAL, own=own)
    async with serving(short_dir, http=settings) as board:
        await hire(board)
        async with browsing(board, board.coordinator_key) as web:
            told = (await web.http.get(CONFIG, params={"root_agent_id": "maria"})).json()
            assert told["agents"] == {"ann": {"passkey": "sesame-ann"}}
            assert told["working_directories"] == {"garden": ROOT}
            every = (await web.http.get(CONFIG)).json()
            assert sorted(every["agents"]) == ["ann", "bob"]
            assert "working_directories" not in every


async def look(client: Raw, **more: Any) -> dict[str, Any]:
    return await client.tool("list_agent_actions", coordinator_id="crd_x", **more)


async def test_our_coordinator_of_a_person_is_told_its_lines_alone_and_claims_no_others(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        await hire(board)
        async with (
            connected(board, board.person) as person,
            connected(board, board.coordinator) as client,
        ):
            for agent in ("ann", "bob"):
                for place in ("garden", "yard"):
                    await person.tool("create_task", project_id=place, title="T", agent_id=agent)
            lines = (await look(client, root_agent_id="maria"))["actions"]
            assert [
                (one["agent_id"], one["project_id"], one["action"], one["reason"]) for one in lines
            ] == [
                ("ann", "garden", "start", "task_due"),
                ("ann", "yard", "hold", "no_working_directory"),
            ]
            every = await look(client)
            assert len(every["actions"]) == 4
            told = await look(client, root_agent_id="maria")
            assert "actions" not in await look(client, root_agent_id="maria", known=told["etag"])
            assert "actions" in await look(client, root_agent_id="maria", known=every["etag"])
            assert "actions" in await look(client, known=told["etag"])

            async def claim(agent: str, place: str, root: str | None = "maria") -> dict[str, Any]:
                return await client.tool(
                    "claim_run",
                    run_id=ids.new_run_id(),
                    coordinator_id="crd_x",
                    epoch=1,
                    agent_id=agent,
                    project_id=place,
                    purpose="task",
                    slot=0,
                    token_sha256=f"sha-{agent}-{place}",
                    **({} if root is None else {"root_agent_id": root}),
                )

            assert (await claim("ann", "garden"))["project"]["path"] == ROOT
            assert (await claim("ann", "yard"))["reason"] == "no_working_directory"
            assert (await claim("bob", "garden"))["reason"] == "not_below_root"
            assert (await claim("bob", "garden", None))["project"]["path"] == str(short_dir)


async def test_a_task_that_an_agent_asks_for_needs_no_word_of_the_person_it_belongs_to(
    short_dir: Path,
) -> None:
    """People speak as `person`, whoever they are; those of the hierarchy have no run to speak in."""
    async with serving(short_dir) as board:
        await hire(board)
        async with connected(board, (await board.claim()).hello()) as agent:
            asked = await agent.tool("request_task", title="More")
            assert asked["approvers"] == ["person"]


async def test_nobody_is_started_for_a_person_and_no_task_is_given_to_one(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await hire(board)
        async with connected(board, board.person) as person:
            told = {"project_id": "garden", "title": "T", "agent_id": "maria"}
            assert await person.code("create_task", **told) == "VALIDATION"
            made = await person.tool("create_project", project_id="new", path="/new")
            assert made["project"]["agents"] == ["ann", "bob"]
            kinds = {one["id"]: one["kind"] for one in (await person.tool("list_agents"))["agents"]}
            assert kinds == {"ann": "program", "bob": "program", "maria": "person"}
