"""How HTTP ends with the server: calls are finished, streams are closed, and nothing hangs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import httpx2

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.store.engine import open_store
from aiagent_coordinator.store.sqlite_file import sqlite_url
from aiagent_coordinator.store.unit import Unit
from support.board import PATIENCE_SECONDS, Board, declare, eventually, hosting
from support.web import LOCAL, body_of, browsing


async def test_open_streams_do_not_hold_the_server_and_sessions_go_on_in_its_next_life(
    short_dir: Path,
) -> None:
    async with open_store(sqlite_url(short_dir / "store.db"), clock=SystemClock()) as store:
        board = Board(store, short_dir / "s")
        await store.write(lambda unit: declare(unit, short_dir))
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(PATIENCE_SECONDS * 2):
                async with hosting(board, http=LOCAL):
                    session = await _leave_streams_open(board, tasks)
                async with hosting(board, http=LOCAL), browsing(board, board.operator_key) as web:
                    web.session = session
                    assert "projects" in await web.tool("list_projects")
            tasks.cancel_scope.cancel()


async def _leave_streams_open(board: Board, tasks: anyio.abc.TaskGroup) -> str:
    """A session's stream, and one of the era without sessions, both with a reader."""
    opened: list[int] = []
    async with browsing(board, board.operator_key) as web:
        await web.shake_hands()
        session = str(web.session)

    async def read(method: str, **asked: Any) -> None:
        async with browsing(board, board.operator_key) as web:
            try:
                async with web.http.stream(method, "/mcp", **asked) as stream:
                    opened.append(stream.status_code)
                    async for _ in stream.aiter_raw():
                        pass
            except httpx2.TransportError:
                pass  # cut off, which is one way to end

    headers = {"accept": "text/event-stream", "mcp-session-id": session}
    tasks.start_soon(lambda: read("GET", headers=headers))
    async with browsing(board) as web:
        asked = {"notifications": {"resourceSubscriptions": ["coord://queue"]}}
        frame = web.modern_frame("subscriptions/listen", asked)
        frame["headers"]["authorization"] = f"Bearer {board.operator_key}"
        tasks.start_soon(lambda: read("POST", **frame))

    async def both() -> bool:
        return opened == [200, 200]

    await eventually(both)
    return session


async def test_a_call_that_was_taken_is_answered_before_the_end(short_dir: Path) -> None:
    async with open_store(sqlite_url(short_dir / "store.db"), clock=SystemClock()) as store:
        board = Board(store, short_dir / "s")
        await store.write(lambda unit: declare(unit, short_dir))
        go = threading.Event()

        def hold(unit: Unit) -> None:
            del unit
            assert go.wait(60)

        answers: list[dict[str, Any]] = []

        async def create() -> None:
            async with browsing(board, board.operator_key) as web:
                arguments = {"project_id": "garden", "title": "Late"}
                params = {"name": "create_task", "arguments": arguments}
                answers.append(body_of(await web.modern("tools/call", params)))

        async with anyio.create_task_group() as tasks, hosting(board, http=LOCAL) as server:
            tasks.start_soon(store.write, hold)
            tasks.start_soon(create)

            async def is_taken() -> bool:
                return server.is_answering_http

            await eventually(is_taken)
            tasks.start_soon(_set_soon, go)
        assert answers[0]["result"]["structuredContent"]["task"]["title"] == "Late"


async def _set_soon(go: threading.Event) -> None:
    # the server is told to stop at this moment
    await anyio.sleep(0.2)
    go.set()
