"""What HTTP lets in: hosts, origins, sizes, rates, connections, tokens, and who is inside a run."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio
import httpx2
import pytest
from anyio import to_thread

from aiagent_coordinator.runs import Purpose, ShimIdentity
from aiagent_coordinator.server import removed
from aiagent_coordinator.server.auth import Identity, Role
from aiagent_coordinator.server.boards import AGENT_TOOLS, TOOLS, tools_of
from aiagent_coordinator.server.http.guard import Rates
from aiagent_coordinator.tasks import AskPolicy, Duty
from aiagent_coordinator.wire import process
from aiagent_coordinator.workflows.roles import MANAGERS_ONLY
from support.board import PATIENCE_SECONDS, eventually, serving
from support.web import BOTH_KINDS, LOCAL, Web, body_of, browsing, local

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:{port}", None, 200),
        ("localhost:{port}", "http://localhost:{port}", 200),
        ("LOCALHOST:{port}", None, 200),
        ("board.example", "https://board.example", 200),
        ("127.0.0.1", None, 421),
        ("127.0.0.1:1", None, 421),
        ("evil.example", None, 421),
        ("localhost.evil.example:{port}", None, 421),
        ("127.0.0.1:{port}, evil.example", None, 421),
        ("", None, 421),
        ("127.0.0.1:{port}", "http://evil.example", 403),
        ("127.0.0.1:{port}", "null", 403),
        ("127.0.0.1:{port}", "https://127.0.0.1:{port}", 403),
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}.evil.example", 403),
        ("127.0.0.1:{port}", "http://127.0.0.1", 403),
    ],
)
@pytest.mark.parametrize("path", ["/mcp", "/healthz"])
async def test_only_listed_hosts_and_origins_are_served(
    short_dir: Path, host: str, origin: str | None, status: int, path: str
) -> None:
    settings = replace(LOCAL, hosts=("board.example",), origins=("https://board.example",))
    async with serving(short_dir, http=settings) as board, browsing(board) as web:
        headers = {"host": host.format(port=board.port), "accept": BOTH_KINDS}
        if origin is not None:
            headers["origin"] = origin.format(port=board.port)
        if path == "/mcp":
            answer = await web.http.post(path, json=PING, headers=headers)
        else:
            answer = await web.http.get(path, headers=headers)
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * 100_000, -32600),
        (b'{"a":' * 65 + b"1" + b"}" * 65, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1e999}}', -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b"", -32700),
        (b"\xff\xfe", -32700),
        (b"9" * 5000, -32700),
        (b'"text"', -32600),
    ],
)
async def test_what_is_no_message_is_refused_with_its_reason(
    short_dir: Path, body: bytes, code: int
) -> None:
    headers = {"content-type": "application/json", "accept": BOTH_KINDS}
    async with serving(short_dir, http=LOCAL) as board, browsing(board) as web:
        answer = await web.http.post("/mcp", content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


async def test_a_body_that_is_too_large_is_refused_declared_or_not(short_dir: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 1024

    headers = {"content-type": "application/json", "accept": BOTH_KINDS}
    async with (
        serving(short_dir, http=local(body_bytes=10_000)) as board,
        browsing(board) as web,
    ):
        declared = await web.http.post("/mcp", content=b" " * 20_000, headers=headers)
        assert declared.status_code == 413
        streamed = await web.http.post("/mcp", content=pieces(), headers=headers)
        assert streamed.status_code == 413
        assert (await web.post("ping")).status_code == 200


async def test_who_comes_too_often_waits_and_the_others_do_not(short_dir: Path) -> None:
    settings = local(requests_per_second=0.01, burst=3)
    async with (
        serving(short_dir, http=settings) as board,
        browsing(board) as stranger,
        browsing(board, board.operator_key) as person,
    ):
        statuses = [(await stranger.post("ping")).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        refused = await stranger.http.get("/healthz")
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= 100
        assert (await person.post("ping")).status_code == 200


def test_a_bucket_fills_evenly_and_strangers_beyond_count_are_forgotten() -> None:
    now = 0.0
    rates = Rates(2.0, 2, lambda: now)
    assert [rates.take("a"), rates.take("a")] == [0, 0]
    assert rates.take("a") == 0.5
    assert rates.take("b") == 0
    now = 0.5
    assert rates.take("a") == 0
    for number in range(5000):
        rates.take(str(number))
    assert rates.take("a") == 0, "forgotten, so it begins anew"


async def test_more_connections_than_allowed_are_closed(short_dir: Path) -> None:
    async with serving(short_dir, http=local(connections=3)) as board:
        streams = [await anyio.connect_tcp("127.0.0.1", board.port) for _ in range(3)]
        try:
            async with browsing(board) as web:
                await eventually(lambda: _is_refused(web))
            await streams.pop().aclose()
            async with browsing(board) as web:
                assert await eventually(lambda: _is_served(web))
        finally:
            for stream in streams:
                await stream.aclose()


async def _is_served(web: Web) -> bool:
    try:
        return (await web.http.get("/healthz")).status_code == 200
    except httpx2.TransportError:
        return False


async def _is_refused(web: Web) -> bool:
    return not await _is_served(web)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"POST /mcp HTTP/1.1\r\nHo", b""),
        (b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 9\r\n\r\n{", b"408"),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\nGET /he", b"200"),
    ],
)
async def test_half_a_request_is_ended(short_dir: Path, sent: bytes, answer: bytes) -> None:
    settings = local(head_seconds=0.3, body_seconds=0.3)
    async with (
        serving(short_dir, http=settings) as board,
        await anyio.connect_tcp("127.0.0.1", board.port) as stream,
    ):
        if sent:
            await stream.send(sent.replace(b"{port}", str(board.port).encode()))
        got = b""
        with anyio.fail_after(PATIENCE_SECONDS):
            try:
                while True:
                    got += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
        assert answer in got.partition(b"\r\n")[0]
        assert answer or not got


async def test_more_sessions_than_allowed_are_refused(short_dir: Path) -> None:
    async with (
        serving(short_dir, http=local(sessions=2)) as board,
        browsing(board) as one,
        browsing(board) as two,
        browsing(board) as three,
    ):
        await one.shake_hands()
        await two.shake_hands()
        refused = await three.post("initialize", {"protocolVersion": "2025-11-25"})
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        await one.http.delete("/mcp", headers={"mcp-session-id": one.session or ""})
        await three.shake_hands()


async def test_a_handshake_that_fails_leaves_no_session(short_dir: Path) -> None:
    async with serving(short_dir, http=local(sessions=1)) as board, browsing(board) as web:
        for _ in range(3):
            refused = await web.post("initialize", {}, accept="application/json")
            assert refused.status_code == 406
        await web.shake_hands()


async def test_a_wrong_token_is_refused_and_guessing_is_slowed(short_dir: Path) -> None:
    settings = replace(
        LOCAL,
        resource="https://board.example/mcp",
        authorization_servers=("https://login.example",),
    )
    async with serving(short_dir, http=settings) as board, browsing(board, "wrong") as web:
        refused = await web.post("tools/list")
        assert refused.status_code == 401
        where = "https://board.example/.well-known/oauth-protected-resource/mcp"
        assert f'resource_metadata="{where}"' in refused.headers["www-authenticate"]
        statuses = [(await web.post("tools/list")).status_code for _ in range(40)]
        assert 429 in statuses
        page = await web.http.get("/.well-known/oauth-protected-resource/mcp")
        assert page.json()["authorization_servers"] == ["https://login.example"]
        assert page.json()["resource"] == "https://board.example/mcp"


@pytest.mark.parametrize("era", ["plain", "session", "modern"])
async def test_each_token_has_its_role_and_no_other(short_dir: Path, era: str) -> None:
    """Every tool by every token: what is listed is what may be called."""
    tokens = {"person": "p" * 20, "coordinator": "c" * 20}
    settings = replace(
        LOCAL, person_token=tokens["person"], coordinator_token=tokens["coordinator"]
    )
    async with serving(short_dir, http=settings) as board:
        worker = await board.claim()
        chatting = await board.claim_chat()
        await board.promote()
        manager = await board.claim()
        task, chat = Purpose.TASK, Purpose.CHAT
        rows = [(Identity(Role(role)), token) for role, token in tokens.items()]
        rows += [
            (Identity(Role.AGENT, purpose=task, duty=Duty.WORKER), worker.token),
            (Identity(Role.AGENT, purpose=task, duty=Duty.MANAGER), manager.token),
            (Identity(Role.AGENT, purpose=chat, duty=chatting.run.duty), chatting.token),
        ]
        for who, token in rows:
            role, duty = who.role, who.duty
            async with browsing(board, token) as web:
                if era == "session":
                    await web.shake_hands()
                ask = web.modern if era == "modern" else web.post
                listed = body_of(await ask("tools/list"))["result"]["tools"]
                may = tools_of(who)
                is_manager = who.purpose is task and duty is Duty.MANAGER
                assert role is not Role.AGENT or MANAGERS_ONLY.isdisjoint(may) is not is_manager
                # an agent of another make shows its coordinator's token until it authenticates
                stranger = Identity(Role.AGENT, purpose=Purpose.TASK)
                also = tools_of(stranger) if role is Role.COORDINATOR else {}
                assert {tool["name"] for tool in listed} == {*may, *also}
                for name in sorted({*TOOLS, *AGENT_TOOLS} - set(may)):
                    answer = body_of(await ask("tools/call", {"name": name, "arguments": {}}))
                    assert answer["result"]["isError"], (role, duty, name)
                    text = answer["result"]["content"][0]["text"]
                    is_refused = text.startswith("FORBIDDEN") or text == removed.words(name)
                    assert is_refused, (role, name, text)


async def test_a_process_inside_a_run_is_that_run_or_nobody(short_dir: Path) -> None:
    """It may read the key files; over HTTP too they open nothing."""
    async with serving(short_dir, http=LOCAL) as board:
        claimed, other = await board.claim(), await board.claim("Other")
        ticks = process.start_ticks(os.getpid())
        assert ticks is not None
        await board.started(claimed.run, ShimIdentity(os.getpid(), ticks, process.boot_id()))
        for key in (board.operator_key, board.coordinator_key, other.token):
            async with browsing(board, key) as web:
                assert (await web.post("tools/list")).status_code == 403
        async with browsing(board) as web:
            await web.shake_hands()
            assert (await web.tool("health_check"))["error"]["code"] == "UNAUTHORIZED"
            answer = await web.tool("health_check", coordinator_token=board.coordinator_key)
            assert answer["error"]["code"] == "FORBIDDEN"
        async with browsing(board, claimed.token) as web:
            await web.shake_hands()
            assert (await web.tool("get_my_task"))["has_task"]


async def test_what_a_proxy_forwards_is_remote(short_dir: Path) -> None:
    """The keys of this machine count for nothing, and nobody comes without a token."""
    settings = replace(LOCAL, trusted_proxies=("127.0.0.1",), person_token="p" * 20)
    async with serving(short_dir, http=settings) as board:
        for key, status in ((None, 401), (board.operator_key, 401), ("p" * 20, 200)):
            async with browsing(board, key) as web:
                assert (await web.post("tools/list")).status_code == status


async def test_not_ready_while_the_store_is_locked(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL) as board, browsing(board) as web:

        def lock() -> sqlite3.Connection:
            held = sqlite3.connect(short_dir / "store.db", check_same_thread=False)
            held.execute("BEGIN EXCLUSIVE")
            return held

        held = await to_thread.run_sync(lock)
        unready = await web.http.get("/readyz")
        assert (unready.status_code, unready.json()["status"]) == (503, "unready")
        assert (await web.http.get("/healthz")).status_code == 200
        await to_thread.run_sync(held.close)

        async def is_ready() -> bool:
            return (await web.http.get("/readyz")).status_code == 200

        assert await eventually(is_ready)


FRAGMENTS = (
    "' OR '1'='1",
    "'; DROP TABLE tasks; --",
    '"; DELETE FROM runs; --',
    "1; ATTACH DATABASE '/tmp/x' AS x",
    "') UNION SELECT sql FROM sqlite_master --",
    "%' ESCAPE '%",
    "_%[a-z]*?",
    "ORDER BY (CASE WHEN 1=1 THEN id END)",
    "\\'; PRAGMA writable_schema=1; --",
    "task_0\u0000'; --",
    "${jndi:x}{{7*7}}$(touch x)`touch x`",
)


def _dump(file: Path) -> dict[str, Any]:
    """Schema, and every row of what tells who and where."""
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
        schema = db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()
        names = ("project", "agent", "task")
        rows = {name: db.execute(f"SELECT * FROM {name} ORDER BY id").fetchall() for name in names}
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return {"schema": schema, **rows}


def _filled(shape: dict[str, Any], fragment: str) -> Any:
    match shape.get("type"):
        case "integer" | "number":
            return 1
        case "boolean":
            return False
        case "array":
            return [_filled(shape.get("items", {}), fragment)]
        case "object":
            return {fragment: fragment}
        case _:
            return fragment


async def test_sql_in_every_argument_changes_nothing(short_dir: Path) -> None:
    async with serving(short_dir, http=LOCAL, ask=AskPolicy(hold_seconds=0.01)) as board:
        claimed = await board.claim()
        await board.add_task("Bystander")
        before = await to_thread.run_sync(_dump, short_dir / "store.db")
        keys = {"person": board.operator_key, "coordinator": board.coordinator_key}
        for role, key in {**keys, "agent": claimed.token}.items():
            async with browsing(board, key) as web:
                await web.shake_hands()
                for name, tool in tools_of(Identity(Role(role), purpose=Purpose.TASK)).items():
                    if name not in {"report_completed", "logout"}:
                        await _attack(web, name, tool.info.input_schema)
        after = await to_thread.run_sync(_dump, short_dir / "store.db")
        assert after["schema"] == before["schema"]
        for table, rows in before.items():
            # what the agent says of its own task is its right
            gone = [row for row in rows if row not in after[table]]
            assert [row for row in gone if row[0] != claimed.run.task_id] == [], table


async def _attack(web: Web, name: str, schema: dict[str, Any]) -> None:
    properties = cast("dict[str, dict[str, Any]]", schema.get("properties", {}))
    for fragment in FRAGMENTS:
        arguments = {key: _filled(shape, fragment) for key, shape in properties.items()}
        await web.tool(name, **arguments)
        for key in schema.get("required", ()):
            await web.tool(name, **{key: arguments[key]})
