"""What agents are told beside their answers: nothing is lost by it, and every client sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio

from aiagent_coordinator.server import notices
from support.board import Board, Raw, connected, content_of, hosting, serving
from support.pm import PAIR, authenticate, start, value


async def plain(client: Raw, name: str, **arguments: Any) -> dict[str, Any]:
    """The whole result of a call."""
    answer = await client.request("tools/call", {"name": name, "arguments": arguments})
    return answer["result"]


async def paused(board: Board, tool: str = "pause_project") -> None:
    async with connected(board, board.person) as person:
        assert await person.code(tool, project_id="garden") is None


async def test_a_client_of_old_reads_its_result_and_the_word_beside_it(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await start(board)
        async with connected(board) as agent:
            token = await authenticate(agent)
        async with await anyio.connect_unix(board.path) as stream:
            bare = Raw(stream)
            quiet = await plain(bare, "get_my_task", session_token=token)
            assert quiet["notification"] == "通知はありません" == notices.NONE
            assert len(quiet["content"]) == 1
            await paused(board)
            told = await plain(bare, "report_progress", progress=40, session_token=token)
            assert told["notification"] == (
                "【重要】通知があります。get_notifications を呼び出して確認してください。"
            )
            assert json.loads(told["content"][0]["text"])["progress"] == 40, "nothing is lost"
            assert "paused" in told["content"][1]["text"]
            assert "get_notifications" in told["content"][1]["text"]
            assert "structuredContent" not in told
            found = await plain(bare, "get_notifications", session_token=token)
            (only,) = json.loads(found["content"][0]["text"])["notifications"]
            assert (only["type"], only["action"]) == ("interrupt", "project_paused")
            after = await plain(bare, "get_my_task", session_token=token)
            assert after["notification"] == notices.NONE
            assert len(after["content"]) == 1


async def test_a_coordinator_never_hears_of_notices(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        await start(board)
        await paused(board)
        async with await anyio.connect_unix(board.path) as stream:
            token = {"coordinator_token": board.coordinator_key}
            told = await plain(Raw(stream), "get_agent_action", **PAIR, **token)
            assert "notification" not in told
            assert len(told["content"]) == 1


async def test_a_newer_client_gets_an_interrupt_behind_its_whole_result(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as agent:
            await agent.tool("get_my_task")
            quiet = await plain(agent, "get_my_task")
            assert "_meta" not in quiet
            await paused(board)
            told = await plain(agent, "report_progress", progress=40)
            assert content_of(told)["progress"] == 40
            assert json.loads(told["content"][0]["text"]) == told["structuredContent"]
            assert told["content"][1]["text"].startswith("[interrupt] A person paused")
            assert told["_meta"][notices.META_KEY] is True
            assert "notification" not in told
            left = await agent.tool("get_notifications", mark_as_read=False)
            assert left["count"] == 1
            assert (await agent.tool("get_notifications"))["count"] == 1
            assert (await agent.tool("get_notifications"))["count"] == 0
            assert "_meta" not in await plain(agent, "get_my_task")


async def test_what_was_not_read_is_still_told_by_the_next_server(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        await paused(board)
        board.path = short_dir / "t"
        async with hosting(board), connected(board, claimed.hello()) as agent:
            await agent.tool("get_my_task")
            assert len((await plain(agent, "get_my_task"))["content"]) == 2


async def test_a_pause_stops_what_runs_only_where_the_settings_say_so(short_dir: Path) -> None:
    async with serving(short_dir, pause_stops_runs=True) as board:
        claimed = await board.claim()
        await start(board)
        await paused(board)
        assert (await board.run(claimed.run.id)).stop_reason == "stopped"
        assert (await value(board, "get_agent_action", **PAIR))["action"] == "stop"
        async with connected(board, claimed.hello()) as agent:
            step = await agent.tool("get_next_action")
            assert step["action"] == "exit"
    (short_dir / "b").mkdir()
    async with serving(short_dir / "b") as board:
        claimed = await board.claim()
        await paused(board)
        assert (await board.run(claimed.run.id)).stop_reason is None
        async with connected(board, claimed.hello()) as agent:
            assert (await agent.tool("get_next_action"))["action"] == "get_task"


async def test_a_cancelled_task_interrupts_its_agent(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with (
            connected(board, board.person) as person,
            connected(board, claimed.hello()) as agent,
        ):
            await agent.tool("get_my_task")
            await person.tool("cancel_task", task_id=claimed.run.task_id)
            told = await plain(agent, "get_my_profile")
            assert "(cancelled)" in told["content"][1]["text"]
            assert content_of(told)["id"] == "ann"
