"""Real clients, as programs: the SDK's in each mode, over our bridge and over `nc`, and our own two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

import anyio
import pytest
from anyio import to_thread
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult

from aiagent_coordinator.coordinator.client import connect
from aiagent_coordinator.errors import ForbiddenError, NotFoundError, UnauthorizedError
from aiagent_coordinator.runs import ShimIdentity
from aiagent_coordinator.wire import bridge, process
from aiagent_coordinator.wire.client import BlockingClient
from support.board import (
    PATIENCE_SECONDS,
    Board,
    Claimed,
    connected,
    content_of,
    eventually,
    hosting,
    serving,
    tool_call,
)

Mode = Literal["auto", "legacy", "2026-07-28"]
MODES: list[Mode] = ["auto", "legacy", "2026-07-28"]


def _run_folder(folder: Path, board: Board, claimed: Claimed) -> Path:
    """The part of a run's directory that the bridge reads."""
    run = folder / claimed.run.id
    run.mkdir(mode=0o700)
    server = {"socket": str(board.path), "ours": True, "hold_seconds": 45}
    (run / "spec.json").write_text(json.dumps({"run_id": claimed.run.id, "server": server}))
    (run / "token").write_text(claimed.token)
    (run / "bridge.py").write_bytes(Path(bridge.__file__).read_bytes())
    return run


@asynccontextmanager
async def _client(command: str, *args: str, mode: Mode) -> AsyncGenerator[Client]:
    parameters = StdioServerParameters(command=command, args=list(args))
    with anyio.fail_after(PATIENCE_SECONDS * 2):
        async with Client(parameters, mode=mode) as client:
            yield client


async def _call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert not result.is_error, result
    return cast("dict[str, Any]", result.structured_content)


async def _do_the_task(client: Client) -> None:
    names = [tool.name for tool in (await client.list_tools()).tools]
    assert names[0] == "authenticate"
    assert "claim_run" not in names
    await _call(client, "authenticate")
    actions: list[str] = []
    while not actions or actions[-1] != "exit":
        actions.append((await _call(client, "get_next_action"))["action"])
        match actions[-1]:
            case "get_task":
                assert (await _call(client, "get_my_task"))["has_task"]
            case "report_completion":
                await _call(client, "report_completed", result="success", summary="Mended.")
            case _:
                pass
    assert actions == ["get_task", "work", "report_completion", "exit"]


@pytest.mark.parametrize("mode", MODES)
async def test_the_sdks_client_does_a_task_over_the_bridge(short_dir: Path, mode: Mode) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        run = await to_thread.run_sync(_run_folder, short_dir, board, claimed)
        argv = ("-I", "-S", str(run / "bridge.py"))
        async with _client(sys.executable, *argv, mode=mode) as client:
            newest = "2025-11-25" if mode == "legacy" else "2026-07-28"
            assert client.protocol_version == newest
            await _do_the_task(client)
        assert (await board.run(claimed.run.id)).reported_result == "success"


@pytest.mark.needs("nc")
@pytest.mark.parametrize("mode", MODES)
async def test_the_sdks_client_does_a_task_over_nc_from_inside_the_run(
    short_dir: Path, mode: Mode
) -> None:
    """Without any secret: the process tree says whose connection it is."""
    async with serving(short_dir) as board:
        claimed = await board.claim()
        ticks = process.start_ticks(os.getpid())
        assert ticks is not None
        await board.started(claimed.run, ShimIdentity(os.getpid(), ticks, process.boot_id()))
        async with _client("nc", "-U", str(board.path), mode=mode) as client:
            await _do_the_task(client)
        assert (await board.run(claimed.run.id)).reported_result == "success"


@pytest.mark.needs("nc")
async def test_one_line_through_nc_without_any_handshake_is_answered(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        call = tool_call(1, "health_check", coordinator_token=board.coordinator_key)

        def ask() -> str:
            with subprocess.Popen(
                ["nc", "-U", str(board.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as nc:
                assert nc.stdin is not None
                assert nc.stdout is not None
                nc.stdin.write(json.dumps(call) + "\n")
                nc.stdin.flush()
                line = nc.stdout.readline()
                nc.kill()
            return line

        answer = json.loads(await to_thread.run_sync(ask))
        assert content_of(answer["result"])["status"] == "ok"


async def test_a_client_that_never_shakes_hands_is_served_call_by_call(short_dir: Path) -> None:
    """As old coordinators do: one connection for each call, the id always 1."""
    async with serving(short_dir) as board:
        for _ in range(20):
            async with connected(board) as client:
                token = board.coordinator_key
                assert await client.code("health_check", coordinator_token=token) is None


async def test_several_calls_at_once_without_a_handshake_are_all_answered(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        for _ in range(50):
            async with connected(board) as client:
                token = board.coordinator_key
                await client.send(
                    *(tool_call(one, "health_check", coordinator_token=token) for one in range(3))
                )
                answers = [await client.line() for _ in range(3)]
                assert sorted(answer["id"] for answer in answers if answer) == [0, 1, 2]
                assert all(answer and "result" in answer for answer in answers)


async def test_a_ping_before_anything_else_shuts_no_door(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        assert (await client.request("ping"))["result"] == {}
        assert await client.code("list_projects") is None
        info = {"name": "x", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        assert "result" in await client.request("initialize", params)
        assert await client.code("list_projects") is None


async def test_asking_for_the_newest_revision_first_shuts_no_door(short_dir: Path) -> None:
    """Clients discover with the envelope of the newest revision, then fall back to a handshake."""
    envelope: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    async with serving(short_dir) as board, connected(board, board.person) as client:
        for _ in range(2):
            answer = await client.request("server/discover", {"_meta": envelope})
            assert answer["result"]["supportedVersions"] == ["2026-07-28"]
        other = {**envelope, "io.modelcontextprotocol/protocolVersion": "2031-01-01"}
        answer = await client.request("server/discover", {"_meta": other})
        assert answer["error"]["data"] == {"supported": ["2026-07-28"], "requested": "2031-01-01"}
        answer = await client.request(
            "server/discover", {"_meta": {**envelope, **dict.fromkeys(envelope, 7)}}
        )
        assert answer["error"]["code"] == -32602
        info = {"name": "x", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        assert "result" in await client.request("initialize", params)
        assert await client.code("list_projects") is None


async def test_our_blocking_client_knows_our_server_and_raises_its_errors(short_dir: Path) -> None:
    async with serving(short_dir) as board:

        def visit() -> None:
            with BlockingClient(str(board.path), board.person) as client:
                assert client.server.ours
                made = client.call("create_task", {"project_id": "garden", "title": "x"})
                assert client.call("get_task", {"task_id": made["task"]["id"]}) == made
                with pytest.raises(NotFoundError, match="there is no project"):
                    client.call("create_task", {"project_id": "kitchen", "title": "x"})
                with pytest.raises(ForbiddenError):
                    client.call("claim_run", {})
            wrong = {**board.person, "params": {"operator_key": "wrong"}}
            with (
                BlockingClient(str(board.path), wrong) as client,
                pytest.raises(UnauthorizedError, match="operator key"),
            ):
                client.call("list_tasks", {})

        await to_thread.run_sync(visit)


async def test_our_pipelined_client_gets_many_answers_on_one_connection(short_dir: Path) -> None:
    async with (
        serving(short_dir) as board,
        connect(board.path, hello=board.coordinator) as client,
        anyio.create_task_group() as tasks,
    ):
        assert client.ours
        answers: list[dict[str, Any]] = []

        async def ask() -> None:
            answers.append(
                await client.call("list_agent_actions", {"coordinator_id": board.coordinator_id})
            )

        for _ in range(100):
            tasks.start_soon(ask)

        async def are_there() -> bool:
            return len(answers) == 100

        await eventually(are_there)
        assert all(answer["actions"][0]["agent_id"] == "ann" for answer in answers)


async def test_a_run_is_followed_over_the_bridge_while_servers_come_and_go(
    short_dir: Path,
) -> None:
    """No call fails at the agent, and each has its effect once."""
    with anyio.fail_after(240):
        await _follow_over_the_bridge(short_dir)


async def _follow_over_the_bridge(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        board.path = short_dir / "t"
        run = await to_thread.run_sync(_run_folder, short_dir, board, claimed)
        called = 0
        argv = ("-I", "-S", str(run / "bridge.py"))
        async with anyio.create_task_group() as tasks:

            async def work() -> None:
                nonlocal called
                async with _client(sys.executable, *argv, mode="legacy") as client:
                    await _call(client, "authenticate")
                    for number in range(60):
                        answer = await _call(client, "report_progress", progress=number)
                        assert answer["progress"] == number
                        called += 1
                tasks.cancel_scope.cancel()

            tasks.start_soon(work)
            while True:
                async with hosting(board):
                    before = called

                    async def goes_on(before: int = before) -> bool:
                        return called > before

                    await eventually(goes_on)
        events = [event for event in await board.events() if event.action == "task.progress"]
        assert [event.data["progress"] for event in events] == list(range(60))
