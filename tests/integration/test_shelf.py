"""What clients read and hear beside calling tools: resources, prompts, changes, long calls, forms."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.context import ClientRequestContext
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult

from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.server.library import KINDS
from aiagent_coordinator.store import questions
from aiagent_coordinator.store.tasks import lock_task
from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.tasks import AskPolicy
from support.board import PATIENCE_SECONDS, Board, Claimed, connected, eventually, serving
from support.web import BOTH_KINDS, LOCAL, Web, body_of, browsing

LONG: dict[str, Any] = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
ENVELOPE: dict[str, Any] = {"io.modelcontextprotocol/clientCapabilities": LONG}


async def _read(web: Web, uri: str, era: str) -> dict[str, Any]:
    ask = web.modern if era == "modern" else web.post
    return body_of(await ask("resources/read", {"uri": uri}))


async def _answer(board: Board, task_id: str, text: str) -> None:
    def work(unit: Unit) -> None:
        task = lock_task(unit, task_id)
        questions.answer(unit, questions.wanted_of(unit, task).id, task, text, actor="person")

    await board.store.write(work)


@pytest.mark.parametrize("era", ["session", "modern"])
async def test_a_person_reads_everything_that_is_listed(short_dir: Path, era: str) -> None:
    state = StateDir(short_dir / "state")
    async with serving(short_dir, http=LOCAL, state=state) as board:
        claimed = await board.claim()
        folder = state.run(claimed.run.id)
        folder.mkdir(parents=True)
        (folder / "out").write_text("one\n\x1b[2Jtwo\n")
        async with browsing(board, board.operator_key) as web:
            if era == "session":
                await web.shake_hands()
            ask = web.modern if era == "modern" else web.post
            listed = body_of(await ask("resources/list"))["result"]["resources"]
            assert len(listed) == len(KINDS), "one of each: one project, agent, run and task"
            assert all(one["title"] and one["description"] for one in listed)
            for one in listed:
                answer = await _read(web, one["uri"], era)
                content = answer["result"]["contents"][0]
                assert content["mimeType"] == one["mimeType"]
                if one["uri"].endswith("/log"):
                    assert content["text"] == "one\ntwo\n"
                else:
                    assert json.loads(content["text"])
            again = body_of(await ask("resources/list"))["result"]["resources"]
            assert again == listed, "the order is the same each time"
            templates = body_of(await ask("resources/templates/list"))["result"]
            uris = {one["uriTemplate"] for one in templates["resourceTemplates"]}
            assert uris == {kind.template for kind in KINDS} - {"coord://queue"}
            for nothing in ("coord://nothing", "coord://task/tsk_none", "project://../overview"):
                error = (await _read(web, nothing, era))["error"]
                assert error["code"] == -32602
                assert error["data"]["uri"] == nothing


async def test_an_agent_reads_its_own_and_nothing_else(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board:
        claimed, other = await board.claim(), await board.claim("Other")
        async with browsing(board, claimed.token) as web:
            await web.shake_hands()
            listed = body_of(await web.post("resources/list"))["result"]["resources"]
            uris = [one["uri"] for one in listed]
            assert f"coord://task/{claimed.run.task_id}" in uris
            assert not [uri for uri in uris if str(other.run.task_id) in uri]
            for uri in (
                "coord://queue",
                f"coord://task/{other.run.task_id}",
                f"task://{other.run.task_id}/context",
                f"coord://run/{other.run.id}/log",
                "project://other/overview",
                "agent://ann/tasks",
            ):
                assert (await _read(web, uri, "session"))["error"]["data"]["code"] == "FORBIDDEN"
                refused = body_of(await web.post("resources/subscribe", {"uri": uri}))
                assert refused["error"]["data"]["code"] == "FORBIDDEN", uri
            own = await _read(web, f"task://{claimed.run.task_id}/context", "session")
            assert "description" in own["result"]["contents"][0]["text"]


async def test_a_stranger_is_offered_nothing_and_reads_nothing(short_dir: Path) -> None:
    """Some CLIs ask for prompts and resources that nobody offered them."""
    async with serving(short_dir, http=LOCAL) as board, browsing(board) as web:
        assert body_of(await web.post("resources/list"))["result"]["resources"] == []
        assert body_of(await web.post("prompts/list"))["result"]["prompts"] == []
        refused = await _read(web, "coord://queue", "session")
        assert refused["error"]["data"]["code"] == "UNAUTHORIZED"


async def test_the_four_prompts_show_what_they_name(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board:
        claimed = await board.claim()
        async with browsing(board, claimed.token) as web:
            await web.shake_hands()
            listed = body_of(await web.post("prompts/list"))["result"]["prompts"]
            names = [one["name"] for one in listed]
            assert names == ["handoff", "context-summary", "task-breakdown", "status-report"]
            for one in listed:
                key = one["arguments"][0]["name"]
                own = {"task_id": claimed.run.task_id, "project_id": "garden"}[key]
                params = {"name": one["name"], "arguments": {key: own}}
                filled = body_of(await web.post("prompts/get", params))["result"]
                assert str(own) in filled["messages"][0]["content"]["text"]
            for bad, code in (
                ({"name": "nothing"}, -32602),
                ({"name": "handoff"}, -32602),
                ({"name": "handoff", "arguments": {"task_id": "x", "more": "y"}}, -32602),
                ({"name": "handoff", "arguments": {"task_id": "tsk_other"}}, -32001),
            ):
                assert body_of(await web.post("prompts/get", bad))["error"]["code"] == code


async def test_everything_has_a_title_and_the_server_an_icon(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board, browsing(board) as web:
        about = await web.shake_hands()
        assert about["serverInfo"]["title"] == "AI agent coordinator"
        assert about["serverInfo"]["icons"][0]["src"].startswith("data:image/svg+xml")
        tools = body_of(await web.post("tools/list"))["result"]["tools"]
        assert {tool["title"] for tool in tools} >= {"Ask human", "Get my task"}
        assert tools == body_of(await web.post("tools/list"))["result"]["tools"]


async def _next(lines: AsyncIterator[str]) -> dict[str, Any]:
    """The next message of a stream."""
    while True:
        line = await anext(lines)
        if line.startswith("data:") and line[5:].strip():
            return json.loads(line[5:])


async def test_changes_are_heard_on_a_stream_of_ones_own(short_dir: Path) -> None:
    async with (
        serving(short_dir, http=LOCAL) as board,
        browsing(board, board.operator_key) as web,
    ):
        asked = {"notifications": {"resourceSubscriptions": ["coord://queue"]}}
        frame = web.modern_frame("subscriptions/listen", asked)
        async with web.http.stream("POST", "/mcp", **frame) as stream:
            lines = stream.aiter_lines()
            first = await _next(lines)
            assert first["method"] == "notifications/subscriptions/acknowledged"
            await board.add_task()
            second = await _next(lines)
            assert second["method"] == "notifications/resources/updated"
            assert second["params"]["uri"] == "coord://queue"


async def test_nobody_listens_to_what_it_may_not_read(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board:
        claimed = await board.claim()
        async with browsing(board, claimed.token) as web:
            asked = {"notifications": {"resourceSubscriptions": ["coord://queue"]}}
            answer = body_of(await web.modern("subscriptions/listen", asked))
            assert answer["error"]["data"]["code"] == "FORBIDDEN"


async def test_a_run_that_prints_is_heard_by_who_reads_along(short_dir: Path) -> None:
    state = StateDir(short_dir / "state")
    async with serving(short_dir, state=state) as board:
        claimed = await board.claim()
        folder = state.run(claimed.run.id)
        folder.mkdir(parents=True)
        async with connected(board, board.person) as client:
            uri = f"coord://run/{claimed.run.id}/log"
            await client.request(
                "initialize",
                {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {},
                    "clientInfo": {"name": "t", "version": "1"},
                },
            )
            await client.request("resources/subscribe", {"uri": uri})
            pushed: dict[str, Any] = {}
            async with anyio.create_task_group() as tasks:

                async def print_on() -> None:
                    with (folder / "out").open("a") as out:
                        while True:
                            out.write("more\n")
                            out.flush()
                            await anyio.sleep(0.2)

                tasks.start_soon(print_on)
                pushed = await client.until(lambda frame: "method" in frame)
                tasks.cancel_scope.cancel()
            assert pushed["params"] == {"uri": uri}


async def test_who_waits_for_a_person_is_told_how_long(short_dir: Path) -> None:
    """As a stream with its head at once, and progress from the first moment on."""
    async with serving(short_dir, http=LOCAL) as board:
        claimed = await board.claim()
        async with browsing(board, claimed.token) as web:
            await web.shake_hands()
            params: dict[str, Any] = {
                "name": "ask_human",
                "arguments": {"text": "Which colour?"},
            }
            params["_meta"] = {"progressToken": "p"}
            frame = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
            headers = {"accept": BOTH_KINDS, "mcp-session-id": web.session or ""}
            async with web.http.stream("POST", "/mcp", json=frame, headers=headers) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                lines = stream.aiter_lines()
                first = await _next(lines)
                assert first["method"] == "notifications/progress"
                assert first["params"]["progressToken"] == "p"
                assert first["params"]["total"] > 0
                await _answer(board, str(claimed.run.task_id), "Blue.")
                last = await _next(lines)
                assert last["result"]["structuredContent"]["answer"] == "Blue."


async def _begin(web: Web, **meta: Any) -> dict[str, Any]:
    params = {
        "name": "ask_human",
        "arguments": {"text": "Which colour?"},
        "_meta": {**ENVELOPE, **meta},
    }
    return body_of(await web.modern("tools/call", params))["result"]


async def _look(web: Web, call_id: str, method: str = "tasks/get") -> dict[str, Any]:
    params: dict[str, Any] = {"taskId": call_id, "_meta": ENVELOPE}
    if method == "tasks/update":
        params["inputResponses"] = {}
    return body_of(await web.modern(method, params))


async def test_a_question_is_followed_by_its_id(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board:
        claimed, other = await board.claim(), await board.claim("Other")
        async with browsing(board, claimed.token) as web, browsing(board, other.token) as stranger:
            made = await _begin(web)
            assert (made["resultType"], made["status"]) == ("task", "working")
            assert isinstance(made["pollIntervalMs"], int)
            call_id = made["taskId"]
            assert (await _look(web, call_id))["result"]["status"] == "working"
            for method in ("tasks/update", "tasks/cancel"):
                acknowledged = (await _look(web, call_id, method))["result"]
                assert acknowledged["resultType"] == "complete"
            assert (await _look(stranger, call_id))["error"]["code"] == -32602
            assert (await _look(web, "qst_none"))["error"]["code"] == -32602
            await _answer(board, str(claimed.run.task_id), "Blue.")
            done = (await _look(web, call_id))["result"]
            assert done["status"] == "completed"
            assert done["result"]["structuredContent"]["answer"] == "Blue."


async def test_a_question_that_is_held_no_longer_ends_its_call(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL, ask=AskPolicy(hold_seconds=0.05)) as board:
        claimed = await board.claim()
        async with browsing(board, claimed.token) as web:
            made = await _begin(web)

            async def is_over() -> Any:
                shown = (await _look(web, made["taskId"]))["result"]
                return shown if shown["status"] == "completed" else None

            shown = await eventually(is_over)
            assert shown["result"]["structuredContent"]["action"] == "exit"


async def test_who_does_not_know_long_calls_is_answered_when_it_is_done(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL, ask=AskPolicy(hold_seconds=0.05)) as board:
        claimed = await board.claim()
        async with browsing(board, claimed.token) as web:
            params = {"name": "ask_human", "arguments": {"text": "Which colour?"}}
            answer = body_of(await web.modern("tools/call", params))["result"]
            assert answer["resultType"] == "complete"
            assert answer["structuredContent"]["status"] == "pending"
            refused = body_of(await web.modern("tasks/get", {"taskId": "x"}))
            assert refused["error"]["code"] == -32021


async def _ask(board: Board, claimed: Claimed) -> None:
    async with connected(board, claimed.hello()) as agent:
        await agent.tool("ask_human", text="Which colour?", options=["red", "blue"])


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("place", ["socket", "http"])
async def test_a_person_is_asked_for_the_answer_where_it_sits(
    short_dir: Path, mode: Any, place: str
) -> None:
    asked: list[str] = []

    async def form(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        del context
        asked.append(params.message)
        return ElicitResult(action="accept", content={"answer": "Blue."})

    async with serving(short_dir, http=LOCAL, ask=AskPolicy(hold_seconds=0.05)) as board:
        claimed = await board.claim()
        await _ask(board, claimed)
        where = _over_http(board) if place == "http" else _over_socket(board)
        with anyio.fail_after(PATIENCE_SECONDS):
            async with Client(where, mode=mode, elicitation_callback=form) as client:
                arguments = {"task_id": claimed.run.task_id}
                result = await client.call_tool("answer_question", arguments)
        assert isinstance(result, CallToolResult)
        found = cast("dict[str, Any]", result.structured_content)
        assert found["question"]["answer"] == "Blue."
        assert re.search(r"Which colour\?\n- red\n- blue", asked[0])


@asynccontextmanager
async def _over_http(board: Board) -> AsyncGenerator[Any]:
    headers = {"authorization": f"Bearer {board.operator_key}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False) as http,
        streamable_http_client(f"http://127.0.0.1:{board.port}/mcp", http_client=http) as streams,
    ):
        yield streams


@asynccontextmanager
async def _over_socket(board: Board) -> AsyncGenerator[Any]:
    program = (
        "import socket,sys,threading,json\n"
        "s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1])\n"
        "s.sendall(sys.argv[2].encode()+b'\\n')\n"
        "def out():\n"
        "  for line in s.makefile('rb'): sys.stdout.buffer.write(line);sys.stdout.flush()\n"
        "threading.Thread(target=out,daemon=True).start()\n"
        "for line in sys.stdin.buffer: s.sendall(line)\n"
    )
    arguments = ["-c", program, str(board.path), json.dumps(board.person)]
    parameters = StdioServerParameters(command=sys.executable, args=arguments)
    async with stdio_client(parameters) as streams:
        yield streams


async def test_without_a_form_an_answer_that_is_missing_is_missing(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL, ask=AskPolicy(hold_seconds=0.05)) as board:
        claimed = await board.claim()
        await _ask(board, claimed)
        async with browsing(board, board.operator_key) as web:
            await web.shake_hands()
            answer = await web.tool("answer_question", task_id=claimed.run.task_id)
            assert answer["error"]["code"] == "VALIDATION"
