"""The same board over HTTP: three ways of asking, sessions that outlive the server, health."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult

from support.board import PATIENCE_SECONDS, hosting, serving
from support.web import LOCAL, body_of, browsing

Mode = Literal["auto", "legacy", "2026-07-28"]
MODES: list[Mode] = ["auto", "legacy", "2026-07-28"]


async def test_who_skips_the_handshake_is_answered_in_plain_json(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board, browsing(board) as web:
        answer = await web.post(
            "tools/call",
            {"name": "health_check", "arguments": {"coordinator_token": board.coordinator_key}},
            accept="*/*",
        )
        assert answer.headers["content-type"] == "application/json"
        assert "mcp-session-id" not in answer.headers
        result = answer.json()["result"]
        assert json.loads(result["content"][0]["text"])["status"] == "ok"
        assert "structuredContent" not in result, "who never heard of it may stumble over it"


async def test_a_handshake_opens_a_session_and_calls_are_answered_as_streams(
    short_dir: Path,
) -> None:
    async with (
        serving(short_dir, http=LOCAL) as board,
        browsing(board, board.operator_key) as web,
    ):
        about = await web.shake_hands()
        assert about["protocolVersion"] == "2025-11-25"
        answer = await web.post("tools/call", {"name": "list_projects", "arguments": {}})
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = body_of(answer)["result"]["structuredContent"]
        assert [one["id"] for one in found["projects"]] == ["garden"]


async def test_a_request_that_names_its_revision_needs_no_session(short_dir: Path) -> None:
    async with (
        serving(short_dir, http=LOCAL) as board,
        browsing(board, board.operator_key) as web,
    ):
        answer = await web.modern("server/discover")
        assert "2026-07-28" in body_of(answer)["result"]["supportedVersions"]
        answer = await web.modern("tools/call", {"name": "list_projects", "arguments": {}})
        assert body_of(answer)["result"]["resultType"] == "complete"
        assert "mcp-session-id" not in answer.headers


async def test_discovery_before_the_handshake_spoils_nothing(short_dir: Path) -> None:
    async with (
        serving(short_dir, http=LOCAL) as board,
        browsing(board, board.operator_key) as web,
    ):
        answer = await web.post("server/discover")
        assert body_of(answer)["error"]["code"] == -32601
        await web.shake_hands()
        assert "projects" in await web.tool("list_projects")


@pytest.mark.parametrize("mode", MODES)
async def test_the_sdks_client_works_over_http(short_dir: Path, mode: Mode) -> None:
    async with serving(short_dir, http=LOCAL) as board:
        url = f"http://127.0.0.1:{board.port}/mcp"
        with anyio.fail_after(PATIENCE_SECONDS):
            async with Client(url, mode=mode) as client:
                names = [tool.name for tool in (await client.list_tools()).tools]
                assert names[0] == "authenticate"
                arguments = {"coordinator_token": board.coordinator_key}
                result = await client.call_tool("health_check", arguments)
                assert isinstance(result, CallToolResult)
                assert cast("dict[str, Any]", result.structured_content)["status"] == "ok"


async def test_a_session_goes_on_after_a_restart_of_the_server(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board:
        async with browsing(board, board.operator_key) as web:
            await web.shake_hands()
            session = web.session
        board.path = short_dir / "again"
        async with hosting(board, http=LOCAL), browsing(board, board.operator_key) as web:
            web.session = session
            assert "projects" in await web.tool("list_projects")
            assert (await web.post("ping")).headers["mcp-session-id"] == session


async def test_a_session_belongs_to_the_token_that_opened_it(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board:
        async with browsing(board, board.operator_key) as web:
            await web.shake_hands()
            session = web.session
        async with browsing(board, board.coordinator_key) as other:
            other.session = session
            assert (await other.post("ping")).status_code == 404


async def test_an_ended_session_and_one_that_never_was_are_not_found(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board, browsing(board) as web:
        await web.shake_hands()
        gone = await web.http.delete("/mcp", headers={"mcp-session-id": web.session or ""})
        assert gone.status_code == 200
        assert (await web.post("ping")).status_code == 404
        for made_up in ("0" * 32, (web.session or "")[:-1] + "0", "é", "a." + "b" * 5000):
            answer = await web.http.post(
                "/mcp",
                json={"jsonrpc": "2.0", "id": 1, "method": "ping"},
                headers=[(b"mcp-session-id", made_up.encode())],
            )
            assert answer.status_code == 404


async def test_a_run_is_served_over_http_by_its_token(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board:
        claimed = await board.claim()
        async with browsing(board, claimed.token) as web:
            await web.shake_hands()
            actions: list[str] = []
            while not actions or actions[-1] != "exit":
                actions.append((await web.tool("get_next_action"))["action"])
                if actions[-1] == "get_task":
                    assert (await web.tool("get_my_task"))["has_task"]
                if actions[-1] == "report_completion":
                    await web.tool("report_completed", result="success", summary="Mended.")
            assert actions == ["get_task", "work", "report_completion", "exit"]
        await board.exited(claimed.run)
        async with browsing(board, claimed.token) as web:
            assert (await web.post("tools/list")).status_code == 401


async def test_a_change_is_pushed_over_the_sessions_stream(short_dir: Path) -> None:
    async with (
        serving(short_dir, http=LOCAL) as board,
        browsing(board, board.operator_key) as web,
    ):
        await web.shake_hands()
        headers = {"accept": "text/event-stream", "mcp-session-id": web.session or ""}
        async with web.http.stream("GET", "/mcp", headers=headers) as stream:
            assert stream.status_code == 200
            answer = await web.post("resources/subscribe", {"uri": "coord://actions"})
            assert "error" not in body_of(answer), answer.text
            await board.add_task()
            pushed = ""
            lines = stream.aiter_lines()
            while not pushed.startswith("data:"):
                pushed = await anext(lines)
            assert "notifications/resources/updated" in pushed
            assert "coord://actions" in pushed


async def test_health_pages_say_who_lives_and_who_is_ready(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board, browsing(board) as web:
        assert (await web.http.get("/healthz")).json() == {"status": "ok"}
        assert (await web.http.get("/readyz")).json() == {"status": "ok"}
        assert (await web.http.get("/health")).json()["status"] == "ok"
