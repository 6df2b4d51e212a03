"""What a stranger sends gets an error or a closed connection, never silence; nobody else notices."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any, cast

import anyio
import pytest
from anyio import to_thread

from aiagent_coordinator.clock import ManualClock
from aiagent_coordinator.server.app import Server, ServerSettings
from aiagent_coordinator.server.connection import HALF_LINE_SECONDS, STALLED_WRITE_SECONDS
from aiagent_coordinator.server.sockets import bind_socket
from aiagent_coordinator.wire.protocol import MAX_FRAME_BYTES
from support.board import Board, connected, eventually, serving, tool_call

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
PARSE, INVALID, NOT_FOUND = -32700, -32600, -32601


@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param(b"hello?", PARSE, id="no JSON"),
        pytest.param(b'{"jsonrpc": "2.0", "id": 1, "method": "pi', PARSE, id="cut JSON"),
        pytest.param(b"\x00\xff\xfe\x80binary", PARSE, id="binary"),
        pytest.param(b"[" * 100_000, INVALID, id="a hundred thousand deep"),
        pytest.param(b'{"a":' * 100_000, INVALID, id="a hundred thousand objects"),
        pytest.param(b"[]", INVALID, id="empty batch"),
        pytest.param(b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', INVALID, id="batch"),
        pytest.param(b"7", INVALID, id="number"),
        pytest.param(b"null", INVALID, id="null"),
        pytest.param(b"{}", INVALID, id="empty object"),
        pytest.param(b'{"jsonrpc":"1.0","id":1,"method":"ping"}', INVALID, id="old version"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":7}', INVALID, id="method is a number"),
        pytest.param(b'{"jsonrpc":"2.0","id":1}', INVALID, id="neither method nor result"),
        pytest.param(b'{"jsonrpc":"2.0","id":null,"method":"ping"}', INVALID, id="null id"),
        pytest.param(b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', INVALID, id="broken id"),
        pytest.param(b'{"jsonrpc":"2.0","id":true,"method":"ping"}', INVALID, id="bool id"),
        pytest.param(b'{"jsonrpc":"2.0","id":[],"method":"ping"}', INVALID, id="list id"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', INVALID, id="params"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":7}', INVALID, id="no such result"),
        pytest.param(b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}', PARSE, id="NaN"),
        pytest.param(
            b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"n":' + b"9" * 5000 + b"}}",
            PARSE,
            id="a number of five thousand digits",
        ),
    ],
)
async def test_a_frame_that_is_no_message_is_answered_and_the_connection_goes_on(
    short_dir: Path, line: bytes, code: int
) -> None:
    async with serving(short_dir) as board, connected(board) as client:
        await client.stream.send(line + b"\n")
        answer = await client.line()
        assert answer is not None
        assert answer["error"]["code"] == code
        assert (await client.request("ping"))["result"] == {}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("server/discover", {}, NOT_FOUND),
        ("no/such/method", {}, NOT_FOUND),
        ("tools/call", {}, -32602),
        ("tools/call", {"name": 7}, -32602),
        ("tools/call", {"name": "get_my_task", "arguments": []}, -32602),
        ("resources/subscribe", {"uri": 7}, -32602),
        ("initialize", {"protocolVersion": []}, -32602),
    ],
)
async def test_a_request_that_is_wrong_is_answered_under_its_id(
    short_dir: Path, method: str, params: dict[str, Any], code: int
) -> None:
    async with serving(short_dir) as board, connected(board) as client:
        answer = await client.request(method, params)
        assert answer["error"]["code"] == code
        assert (await client.request("ping"))["result"] == {}


async def test_wrong_types_in_a_tools_arguments_are_answered(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with connected(board, claimed.hello()) as client:
            for wrong in ("50", 50.5, None, [50], {"a": 1}, True, -1, 101, 10**30):
                assert await client.code("report_progress", progress=wrong) == "VALIDATION"
            assert await client.code("report_completed", result="wonderful") == "VALIDATION"
            assert await client.code("report_completed", result="success", x=1) == "VALIDATION"


async def test_an_id_that_is_still_being_answered_is_refused_to_a_second_request(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        call = tool_call(1, "create_task", project_id="garden", title="x")
        await client.send(call, call)
        answers = [await client.line(), await client.line()]
        kinds = sorted("error" if answer and "error" in answer else "result" for answer in answers)
        assert kinds == ["error", "result"]
        assert await board.count("task.created") == 1
        await client.send(call)
        assert "result" in (await client.line() or {}), "once answered, an id is free again"


async def test_a_frame_of_sixteen_mebibytes_is_refused_and_the_connection_closed(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board, connected(board) as client:
        with suppress(anyio.BrokenResourceError):
            await client.stream.send(b"x" * (MAX_FRAME_BYTES + 1))
        answer = await client.line()
        assert answer is not None
        assert answer["error"]["code"] == INVALID
        assert await client.line() is None
        async with connected(board) as other:
            assert (await other.request("ping"))["result"] == {}


async def test_a_large_frame_below_the_limit_is_answered(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        error = await client.tool("create_task", project_id="garden", title="x" * 10_000_000)
        assert error["error"]["code"] == "VALIDATION"
        assert len(json.dumps(error)) < 2000


async def test_silence_costs_nothing_and_holds_up_nobody(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board), connected(board) as half:
        await half.stream.send(b'{"jsonrpc": "2.0", ')
        async with connected(board, board.person) as client:
            assert await client.code("list_projects") is None


async def _serve_by_hand(board: Board, clock: ManualClock, tasks: anyio.abc.TaskGroup) -> None:
    settings = ServerSettings(board.operator_key, board.coordinator_key)
    await tasks.start(Server(board.store, settings, clock).run, bind_socket(board.path))


async def test_half_a_line_ends_the_connection_when_its_time_is_over(short_dir: Path) -> None:
    clock = ManualClock()
    async with serving(short_dir) as board, anyio.create_task_group() as tasks:
        board.path = short_dir / "t"
        await _serve_by_hand(board, clock, tasks)
        async with connected(board) as half, connected(board) as idle:
            await half.stream.send(b'{"jsonrpc": "2.0"')
            assert (await idle.request("ping"))["result"] == {}
            clock.advance(HALF_LINE_SECONDS - 1)
            await half.stream.send(b', "id": 1')
            assert (await idle.request("ping"))["result"] == {}
            clock.advance(2)
            assert await half.line() is None
            assert (await idle.request("ping"))["result"] == {}, "the silent one stays"
        tasks.cancel_scope.cancel()


async def test_a_client_that_never_reads_is_closed_and_holds_up_nobody(short_dir: Path) -> None:
    clock = ManualClock()
    async with serving(short_dir) as board, anyio.create_task_group() as tasks:
        board.path = short_dir / "t"
        for _ in range(20):
            await board.add_task("x" * 500, description="d" * 200_000)
        await _serve_by_hand(board, clock, tasks)
        async with connected(board, board.person) as deaf, connected(board, board.person) as other:
            await deaf.send(*(tool_call(number, "list_tasks", limit=20) for number in range(200)))
            assert await other.code("list_projects") is None

            async def is_closed() -> bool:
                clock.advance(STALLED_WRITE_SECONDS / 2)
                try:
                    await deaf.send(PING)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return True
                return False

            await eventually(is_closed)
            assert await other.code("list_projects") is None
        tasks.cancel_scope.cancel()


async def test_a_client_that_only_closed_its_writing_side_gets_its_answers(
    short_dir: Path,
) -> None:
    """`printf … | nc -N` does that."""
    async with serving(short_dir) as board, connected(board, board.person) as client:
        await client.send(
            *(
                tool_call(number, "create_task", project_id="garden", title=f"Task {number}")
                for number in range(20)
            )
        )
        await client.stream.send_eof()
        answers = [await client.line() for _ in range(20)]
        assert sorted(answer["id"] for answer in answers if answer) == list(range(20))
        assert await client.line() is None


async def test_the_oldest_stranger_makes_way_when_there_are_too_many_connections(
    short_dir: Path,
) -> None:
    async with (
        serving(short_dir, max_connections=2) as board,
        connected(board, board.person) as person,
        connected(board) as stranger,
    ):
        assert await person.code("list_projects") is None
        assert (await stranger.request("ping"))["result"] == {}
        async with connected(board, board.coordinator) as coordinator:
            assert await coordinator.code("health_check") is None
            assert await stranger.line() is None, "it made way"
            async with connected(board) as late:
                assert await late.line() is None, "nobody else does"
            assert await person.code("list_projects") is None
            assert await coordinator.code("health_check") is None


async def test_connections_that_come_and_go_leave_nothing_behind(short_dir: Path) -> None:
    async with serving(short_dir, max_connections=8) as board:
        for _ in range(100):
            async with connected(board, board.person) as client:
                assert await client.code("list_projects") is None


async def test_noise_and_truth_on_one_connection_are_told_apart(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.person) as client:
        for noise in (b"\n\n\n", b"   \n", b"\xff\n", b"{}\n", b'{"jsonrpc":"2.0","method":"x"}\n'):
            await client.stream.send(noise)
            assert await client.code("list_projects") is None


async def test_a_hello_of_any_shape_does_no_harm(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        good = cast("dict[str, Any]", claimed.hello()["params"])
        refused: list[dict[str, Any]] = [
            {},
            {"run": 7, "token": []},
            {"run": claimed.run.id},
            {"run": claimed.run.id, "token": "x" * 10_000},
            {**good, "token": None},
            {"coordinator_token": {}},
            {"operator_key": 7},
            {"operator_key": ""},
        ]
        for params in refused:
            async with connected(board, {**claimed.hello(), "params": params}) as client:
                assert await client.code("get_my_task") == "UNAUTHORIZED"
                assert (await client.request("ping"))["result"] == {}
        odd: list[dict[str, Any]] = [
            {"nonce": 7},
            {"nonce": ""},
            {"resend": 7},
            {"resend": [None, [], True]},
        ]
        for params in odd:
            hello = {**claimed.hello(), "params": {**good, **params}}
            async with connected(board, hello) as client:
                assert await client.code("get_my_task") is None


@pytest.mark.needs("root")
async def test_a_connection_of_another_user_is_closed_whatever_the_files_rights_are(
    short_dir: Path,
) -> None:
    code = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        "s.settimeout(20)\n"
        "try: s.connect(sys.argv[1])\n"
        "except PermissionError: print('refused'); raise SystemExit\n"
        'try: s.sendall(b\'{"jsonrpc":"2.0","id":1,"method":"ping"}\\n\');'
        " print('closed' if not s.recv(100) else 'answered')\n"
        "except (BrokenPipeError, ConnectionResetError): print('closed')\n"
    )

    def visit() -> str:
        argv = [sys.executable, "-c", code, str(board.path)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.strip()

    async with serving(short_dir) as board:
        assert await to_thread.run_sync(visit) == "refused", "the file's rights"
        await to_thread.run_sync(short_dir.chmod, 0o755)
        await to_thread.run_sync(board.path.chmod, 0o666)
        assert await to_thread.run_sync(visit) == "closed", "the kernel's word on who it is"


async def test_a_stopping_server_finishes_what_it_does_and_answers_nothing_else(
    short_dir: Path,
) -> None:
    """A call that was not done gets no error: its bridge sends it again to the next server."""
    async with serving(short_dir) as board:
        path = board.path
        board.path = short_dir / "t"
        async with anyio.create_task_group() as tasks:
            settings = ServerSettings(board.operator_key, board.coordinator_key)
            server = Server(board.store, settings, ManualClock())
            await tasks.start(server.run, bind_socket(board.path))
            async with connected(board, board.person) as client:
                assert await client.code("list_projects") is None
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    while (frame := await client.line()) is not None:
                        assert "error" not in frame
        with pytest.raises(OSError, match=r"refused|No such file"):
            await anyio.connect_unix(board.path)
        board.path = path
        async with connected(board, board.person) as client:
            assert await client.code("list_projects") is None


async def test_a_call_in_the_middle_of_its_work_is_answered_before_the_server_stops(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        board.path = short_dir / "t"
        blocked, go_on = Event(), Event()

        def block(_: object) -> None:
            blocked.set()
            assert go_on.wait(20)

        async with anyio.create_task_group() as tasks:
            settings = ServerSettings(board.operator_key, board.coordinator_key)
            server = Server(board.store, settings, ManualClock())
            await tasks.start(server.run, bind_socket(board.path))
            async with connected(board, board.person) as client, anyio.create_task_group() as wait:
                wait.start_soon(board.store.write, block)
                await to_thread.run_sync(blocked.wait, 20)
                await client.send(
                    tool_call(1, "create_task", project_id="garden", title="x"), PING | {"id": 2}
                )
                assert (await client.line() or {})["id"] == 2, "both have been taken"
                with anyio.CancelScope(shield=True):
                    tasks.cancel_scope.cancel()
                    await anyio.lowlevel.checkpoint()
                    go_on.set()
                    answer = await client.line()
                    assert answer is not None
                    assert "result" in answer
                    assert await client.line() is None
        assert await board.count("task.created") == 1


def test_the_sdk_is_imported_only_when_the_server_runs() -> None:
    """The socket holds connections while the SDK loads, so nothing else may load it earlier."""
    code = (
        "import sys, aiagent_coordinator.server.app; "
        "print([name for name in ('mcp', 'mcp_types', 'starlette', 'uvicorn') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_a_connection_that_came_before_the_server_was_ready_is_served(
    short_dir: Path,
) -> None:
    async with serving(short_dir) as board:
        board.path = short_dir / "t"
        listener = bind_socket(board.path)
        with socket.socket(socket.AF_UNIX) as early:
            early.connect(os.fspath(board.path))
            early.sendall(json.dumps(PING).encode() + b"\n")
            async with anyio.create_task_group() as tasks:
                settings = ServerSettings(board.operator_key, board.coordinator_key)
                server = Server(board.store, settings, ManualClock())
                await tasks.start(server.run, listener)
                answer = await to_thread.run_sync(early.recv, 1000)
                assert json.loads(answer)["result"] == {}
                tasks.cancel_scope.cancel()
