"""What coordinators of another make call, byte for byte as they send it, and what their agents show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from aiagent_coordinator.store import legacy, projects
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.tasks import Agent, Project
from support.board import Board, connected, content_of, eventually, serving
from support.pm import PAIR, ask, authenticate, start, value


async def test_start_is_said_once_and_the_pair_holds_until_its_process_is_gone(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        assert await value(board, "get_agent_action", **PAIR) == {
            "action": "hold",
            "reason": "no_work",
        }
        begun = await start(board)
        assert (begun["action"], begun["reason"]) == ("start", "has_task_work")
        assert begun["task_id"].startswith("tsk_")
        assert (await value(board, "get_agent_action", **PAIR))["reason"] == "spawn_in_progress"
        async with connected(board) as agent:
            await authenticate(agent)
            held = await value(board, "get_agent_action", **PAIR)
            assert held == {"action": "hold", "reason": "already_running"}
        ended = await value(board, "invalidate_session", **PAIR)
        assert ended == {
            "success": True,
            **PAIR,
            "deleted_agent_sessions": 1,
            "ended_workflow_sessions": 1,
            "ended_conversations": 0,
        }
        again = await value(board, "invalidate_session", **PAIR)
        assert (again["success"], again["deleted_agent_sessions"]) == (True, 0)


async def test_ten_callers_at_once_make_one_run(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await board.add_task()
        heard: list[str] = []

        async def one() -> None:
            heard.append((await value(board, "get_agent_action", **PAIR))["action"])

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(one)
        assert sorted(heard) == ["hold"] * 9 + ["start"]


async def test_an_exit_is_told_in_the_words_of_every_release(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await start(board)
        others = await value(board, "report_process_exit", **PAIR, remaining_processes=1)
        assert (others["action"], others["reason"]) == ("none", "no_orphan_detected")
        assert (await value(board, "get_agent_action", **PAIR))["reason"] == "spawn_in_progress"
        gone = await value(board, "report_process_exit", **PAIR, remaining_processes=0)
        assert (gone["success"], gone["action"]) == (True, "invalidated_all")
        # its program died before it authenticated: tried again, after a while
        assert (await value(board, "get_agent_action", **PAIR))["action"] == "hold"


async def test_what_is_unknown_is_named_in_the_words_of_their_server(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        for tool, arguments, words in (
            ("get_agent_action", {**PAIR, "agent_id": "bob"}, "Agent not found: bob"),
            ("get_agent_action", {**PAIR, "project_id": "moon"}, "Project not found: moon"),
            ("get_subordinate_profile", {"agent_id": "bob"}, "Agent not found: bob"),
        ):
            answer = await ask(board, tool, **arguments)
            assert answer["result"]["isError"]
            assert words in answer["result"]["content"][0]["text"]
        said = await value(
            board,
            "register_execution_log_file",
            agent_id="ann",
            task_id="tsk_x",
            log_file_path="/tmp/x",
        )
        assert said == {"success": False, "error": "execution_log_not_found"}


async def test_a_pair_that_does_not_belong_together_holds(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        bob = Agent(id="bob", name="Bob", provider="rehearsal")
        await board.store.write(lambda unit: projects.declare_agent(unit, bob))
        answer = await value(board, "get_agent_action", agent_id="bob", project_id="garden")
        assert answer == {"action": "hold", "reason": "agent_not_assigned"}


async def test_a_session_is_good_on_every_connection_until_logging_out(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await start(board)
        async with connected(board) as first, connected(board) as second:
            token = await authenticate(first)
            assert await second.code("get_my_task") == "UNAUTHORIZED"
            assert await second.code("get_my_task", session_token="sess_" + "0" * 32) == (
                "UNAUTHORIZED"
            )
            task = await second.tool("get_my_task", session_token=token)
            assert task["task"]["title"] == "Mend the fence"
            assert await second.code("get_my_task") == "UNAUTHORIZED", "each call shows it"
            await second.tool("logout", session_token=token)
            assert await second.code("get_my_task", session_token=token) == "UNAUTHORIZED"


async def test_a_session_opens_no_other_run_and_nothing_but_agents_tools(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await start(board)
        other = await board.claim("Another task")
        async with connected(board) as agent, connected(board, other.hello()) as bridge:
            token = await authenticate(agent)
            assert await bridge.code("get_my_task", session_token=token) == "FORBIDDEN"
            # what is no session changes nothing for who is known already
            assert await bridge.code("get_my_task", session_token="whatever") is None
            async with connected(board) as third:
                assert await third.code("list_runs", session_token=token) == "FORBIDDEN"
                assert await third.code("get_agent_action", session_token=token, **PAIR) == (
                    "FORBIDDEN"
                )
        async with connected(board, board.person) as person:
            assert await person.code("list_runs", session_token=token) == "FORBIDDEN"


async def test_a_token_is_kept_nowhere(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await start(board)
        async with connected(board) as agent:
            token = await authenticate(agent)
    for file in list(short_dir.glob("store.db*")):  # noqa: ASYNC240 - a test
        assert token.encode() not in file.read_bytes()


async def test_an_agent_that_asks_and_leaves_goes_on_when_it_is_answered(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        task_id = (await start(board))["task_id"]
        async with connected(board) as agent, connected(board, board.person) as person:
            token = await authenticate(agent)
            run = await board.store.read(lambda unit: legacy.live_of(unit, "ann", "garden"))
            assert run is not None
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: agent.tool("ask_human", text="Red?", session_token=token))
                await eventually(lambda: person.tool("list_questions"))
                await eventually(
                    lambda: _waits(board, task_id),
                )
                await person.tool("request_stop_run", run_id=run.id)
        await value(board, "invalidate_session", **PAIR)
        assert (await board.run(run.id)).outcome is not None


async def _waits(board: Board, task_id: str) -> bool:
    run = await board.store.read(lambda unit: run_store.live_run_of(unit, task_id))
    return run is not None and await board.count("question.asked") == 1


async def test_what_their_clients_cannot_read_is_cut_with_a_note(short_dir: Path) -> None:
    """Lines of 64 KiB: projects with runs come first, then those with work, and the rest is counted."""
    async with serving(short_dir) as board:

        def fill(unit: Any) -> None:
            for number in range(400):
                name = f"p{number:03}"
                path = f"/srv/{name}/{'ä' * 200}"
                projects.declare_project(unit, Project(id=name, name=f'"{name}"', path=path))
                projects.assign(unit, "ann", name)
            long = Agent(id="bob", name="Bob", provider="rehearsal", role="say ä " * 50_000)
            projects.declare_agent(unit, long)

        await board.store.write(fill)
        await start(board)
        listed = await value(board, "list_active_projects_with_agents")
        assert listed["projects"][0]["project_id"] == "garden"
        assert listed["truncated"]
        assert listed["total_count"] == 401
        assert f"{len(listed['projects'])} of 401" in listed["note"]
        assert len(listed["projects"]) > 20
        profile = await value(board, "get_subordinate_profile", agent_id="bob")
        assert profile["system_prompt"].startswith("say ä")
        assert "64 KiB" in profile["note"]
        # who shook hands reads everything
        async with connected(board, board.coordinator) as client:
            assert len((await client.tool("list_active_projects_with_agents"))["projects"]) == 401


async def test_an_answer_that_is_too_long_for_them_is_an_error_and_no_silence(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:

        def fill(unit: Any) -> None:
            for number in range(1100):
                name = f"a{number:03}-{'x' * 55}"
                projects.declare_agent(unit, Agent(id=name, name=name, provider="rehearsal"))

        await board.store.write(fill)
        answer = await ask(board, "list_managed_agents")
        assert "64 KiB" in answer["error"]["message"]


async def test_a_paused_project_is_listed_while_its_run_must_hear_of_a_stop(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        await start(board)
        async with connected(board, board.person) as person:
            await person.tool("pause_project", project_id="garden")
            listed = await value(board, "list_active_projects_with_agents")
            assert [one["project_id"] for one in listed["projects"]] == ["garden"]
            run = (await person.tool("list_runs"))["runs"][0]["id"]
            await person.tool("request_stop_run", run_id=run)
            assert (await value(board, "get_agent_action", **PAIR))["action"] == "stop"
            await value(board, "invalidate_session", **PAIR)
            assert await value(board, "list_active_projects_with_agents") == {"projects": []}
            held = await value(board, "get_agent_action", **PAIR)
            assert held == {"action": "hold", "reason": "project_paused"}


async def test_the_settings_and_profiles_have_every_field_they_read(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        assert await value(board, "get_app_settings") == {
            "agent_base_prompt": None,
            "allow_remote_access": False,
            "pending_purpose_ttl_seconds": 300,
        }
        profile = await value(board, "get_subordinate_profile", agent_id="ann")
        assert set(profile) == {
            "ai_type", "hierarchy_type", "id", "kick_method", "max_parallel_tasks", "name",
            "parent_agent_id", "role", "skills", "status", "system_prompt", "type",
        }  # fmt: skip
        managed = await value(board, "list_managed_agents")
        assert managed == {"success": True, "agent_ids": ["ann"]}


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_structured_content_goes_to_revisions_that_have_it(
    short_dir: Path, revision: str
) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        about = {"name": "test", "version": "1"}
        params = {"protocolVersion": revision, "capabilities": {}, "clientInfo": about}
        await client.request("initialize", params)
        await client.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        answer = await client.request("tools/call", {"name": "list_projects", "arguments": {}})
        assert ("structuredContent" in answer["result"]) == (revision >= "2025-06-18")
        assert content_of(answer["result"])["projects"][0]["id"] == "garden"
