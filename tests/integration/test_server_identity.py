"""Who a caller is: by what it shows, and never more than the process tree it comes from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.runs import RetryPolicy, RunOutcome, ShimIdentity, Verification
from aiagent_coordinator.server.app import Server, ServerSettings
from aiagent_coordinator.server.sockets import bind_socket
from aiagent_coordinator.store import reports, requests
from aiagent_coordinator.wire import process
from support.board import Board, Claimed, connected, content_of, serving, tool_call

#: Reads lines `{"send": [frames], "until": id}` and answers with the frame of that id: an agent's CLI,
#: or something that it starts, `depth` processes below whoever starts this.
CHILD = """
import json, os, socket, subprocess, sys
path, depth = sys.argv[1], int(sys.argv[2])
if depth:
    argv = [sys.executable, __file__, path, str(depth - 1)]
    raise SystemExit(subprocess.run(argv, start_new_session=True).returncode)
connection = socket.socket(socket.AF_UNIX)
connection.connect(path)
lines = connection.makefile("rwb")
for order in sys.stdin:
    order = json.loads(order)
    for frame in order["send"]:
        lines.write(json.dumps(frame).encode() + b"\\n")
    lines.flush()
    while True:
        answer = json.loads(lines.readline())
        if answer.get("id") == order["until"]:
            break
    print(json.dumps(answer), flush=True)
"""


class Inside:
    """A connection that comes from below a process."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self._last_id = 0

    async def code(self, tool_name: str, /, *before: object, **arguments: Any) -> str | None:
        """The code of the error of a call, sent after some other frames; None when it worked."""
        answer = await to_thread.run_sync(self._call, tool_name, before, arguments)
        if "error" in answer:
            return "loud " + answer["error"]["data"]["code"]
        return content_of(answer["result"]).get("error", {}).get("code")

    async def tool(self, tool_name: str, /, **arguments: Any) -> dict[str, Any]:
        answer = await to_thread.run_sync(self._call, tool_name, (), arguments)
        return content_of(answer["result"])

    def _call(
        self, tool_name: str, before: tuple[object, ...], arguments: dict[str, Any]
    ) -> dict[str, Any]:
        self._last_id += 1
        call = tool_call(self._last_id, tool_name, **arguments)
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        order = {"send": [*before, call], "until": self._last_id}
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        return json.loads(self._child.stdout.readline())


def _start(argv: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@asynccontextmanager
async def inside(
    board: Board, claimed: Claimed | None, folder: Path, *, depth: int = 2
) -> AsyncGenerator[Inside]:
    """Connect from `depth` processes below one that is the shim of a run, in sessions of their own.

    The shim waits for its gate, so that the run is known before anything below it connects.
    """
    program = folder / "child.py"
    await to_thread.run_sync(program.write_text, CHILD)
    gate = f"import os, sys; os.read(0, 3); os.execv(sys.executable, [sys.executable, *{[str(program)]!r}, *sys.argv[1:]])"
    argv = [sys.executable, "-c", gate, str(board.path), str(depth)]

    child = await to_thread.run_sync(_start, argv)
    assert child.stdin is not None
    try:
        if claimed is not None:
            ticks = process.start_ticks(child.pid)
            assert ticks is not None
            shim = ShimIdentity(child.pid, ticks, process.boot_id())
            await board.started(claimed.run, shim)
        child.stdin.write("go\n")
        child.stdin.flush()
        yield Inside(child)
    finally:
        child.stdin.close()
        await to_thread.run_sync(child.wait, 30)
        if child.stdout is not None:
            child.stdout.close()


async def test_from_inside_a_run_authenticate_alone_gives_that_runs_agent(short_dir: Path) -> None:
    """What `nc -U` as the bridge relies on: no secret at all."""
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with inside(board, claimed, short_dir) as client:
            assert await client.code("get_my_task") == "UNAUTHORIZED"
            assert (await client.tool("authenticate"))["run_id"] == claimed.run.id
            assert (await client.tool("get_my_task"))["task"]["task_id"] == claimed.run.task_id
            assert await client.code("report_completed", result="success") is None
        assert (await board.run(claimed.run.id)).reported_result == "success"


async def test_from_inside_a_run_no_key_gives_more_than_its_agent(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        for depth in (0, 3):
            for hello in (board.person, board.coordinator):
                async with inside(board, claimed, short_dir, depth=depth) as client:
                    assert await client.code("list_runs", hello) == "FORBIDDEN"
                    assert await client.code("health_check") == "FORBIDDEN"
                    code = await client.code(
                        "health_check", coordinator_token=board.coordinator_key
                    )
                    assert code == "FORBIDDEN"
                    assert await client.code("authenticate") is None
                    assert await client.code("get_my_task") is None
                    assert await client.code("create_project") == "FORBIDDEN"
                claimed = await board.claim()


async def test_from_inside_a_run_the_token_of_another_run_is_refused(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        mine, other = await board.claim(), await board.claim()
        async with inside(board, mine, short_dir) as client:
            assert await client.code("report_completed", other.hello(), result="success") == (
                "FORBIDDEN"
            )
        async with inside(board, other, short_dir) as client:
            assert await client.code("get_my_task", other.hello()) is None
        assert (await board.run(other.run.id)).reported_result is None


async def test_a_process_beside_the_tree_of_a_run_is_not_capped(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with (
            inside(board, claimed, short_dir),
            inside(board, None, short_dir) as beside,
            connected(board, board.person) as ours,
        ):
            assert await beside.code("list_runs", board.person) is None
            assert await ours.code("list_runs") is None


@pytest.mark.parametrize("wrong", ["start_ticks", "boot_id", "over"])
async def test_a_process_with_the_number_of_an_old_shim_is_not_capped(
    short_dir: Path, wrong: str
) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        ticks = process.start_ticks(os.getpid())
        assert ticks is not None
        shim = ShimIdentity(
            os.getpid(),
            ticks + (wrong == "start_ticks"),
            process.boot_id() + ("x" if wrong == "boot_id" else ""),
        )
        await board.started(claimed.run, shim)
        if wrong == "over":
            async with connected(board, board.person) as client:
                assert await client.code("list_runs") == "FORBIDDEN", "we are that run now"
            async with connected(board, board.coordinator) as client:
                assert await client.code("list_agent_actions") == "FORBIDDEN"
            await _end(board, claimed)
        async with connected(board, board.person) as client:
            assert await client.code("list_runs") is None


async def _end(board: Board, claimed: Claimed) -> None:
    result = requests.ResultReport(
        run_id=claimed.run.id,
        fence=claimed.run.fence,
        seq=2,
        outcome=RunOutcome.FAILED,
        reason="no_report",
        verification=Verification.NOT_VERIFIED,
    )
    await board.store.write(lambda unit: reports.record_result(unit, result, RetryPolicy()))


async def test_a_process_that_is_gone_is_trusted_with_no_key_while_runs_live(
    short_dir: Path,
) -> None:
    """It may have handed its connection to somebody inside a run."""
    connect_and_leave = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "if os.fork(): os._exit(0)\n"
        "s.sendall(sys.stdin.buffer.read())\n"
        "print(s.makefile().readline(), end='', flush=True)\n"
    )
    async with serving(short_dir) as board:
        board.path = short_dir / "t"
        sent = json.dumps(board.person) + "\n" + json.dumps(tool_call(1, "list_runs")) + "\n"

        async def visit() -> str:
            """Connect before anybody accepts, and be gone by the time somebody does."""
            listener, answer = bind_socket(board.path), ""
            argv = [sys.executable, "-c", connect_and_leave, str(board.path)]
            with await to_thread.run_sync(_start, argv) as child:
                await to_thread.run_sync(child.wait, 30)
                async with anyio.create_task_group() as tasks:
                    settings = ServerSettings(board.operator_key, board.coordinator_key)
                    await tasks.start(Server(board.store, settings, SystemClock()).run, listener)
                    answer, _ = await to_thread.run_sync(child.communicate, sent, 30)
                    tasks.cancel_scope.cancel()
            structured: dict[str, Any] = content_of(json.loads(answer)["result"])
            return structured.get("error", {}).get("code", "fine")

        assert await visit() == "fine", "no run is there to come from"
        claimed = await board.claim()
        await board.started(claimed.run, ShimIdentity(4_000_000, 1, process.boot_id()))
        assert await visit() == "FORBIDDEN"


async def test_a_wrong_key_is_a_loud_protocol_error(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        for hello in (
            {**board.coordinator, "params": {"v": 1, "coordinator_token": "wrong"}},
            {**board.person, "params": {"v": 1, "operator_key": "wrong"}},
        ):
            async with connected(board, hello) as client:
                assert "loud" in await client.tool("health_check")
                assert "loud" in await client.tool("list_runs")
        async with connected(board) as client:
            answer = await client.tool("health_check", coordinator_token="wrong")
            assert answer["loud"]["data"]["code"] == "UNAUTHORIZED"
            assert await client.code("health_check") == "UNAUTHORIZED"
            token = board.coordinator_key
            assert await client.code("health_check", coordinator_token=token) is None
            # the token counts for the call that carries it
            assert await client.code("health_check") == "UNAUTHORIZED"


async def test_a_bridge_that_comes_back_ends_its_older_connection(short_dir: Path) -> None:
    """What is being done for the older one must be over before a repetition is looked up."""
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with (
            connected(board, claimed.hello()) as older,
            connected(board, {**claimed.hello(), "params": _with_nonce(claimed)}) as other,
        ):
            assert await older.code("get_my_task") is None
            assert await other.code("get_my_task") is None
            async with connected(board, claimed.hello()) as newer:
                assert await newer.code("get_my_task") is None
                assert await older.line() is None
                assert await other.code("get_my_task") is None


def _with_nonce(claimed: Claimed) -> dict[str, object]:
    return {"v": 1, "run": claimed.run.id, "token": claimed.token, "nonce": "another bridge"}


async def test_only_the_first_hello_of_a_connection_counts(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            await client.send(board.person)
            assert await client.code("list_runs") == "FORBIDDEN"
            assert await client.code("get_my_task") is None


async def test_a_token_opens_only_its_own_run(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        mine, other = await board.claim(), await board.claim()
        mixed = {**mine.hello()}
        mixed["params"] = {"v": 1, "run": other.run.id, "token": mine.token, "nonce": "n"}
        async with connected(board, mixed) as client:
            assert await client.code("get_my_task") == "UNAUTHORIZED"
