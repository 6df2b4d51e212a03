"""Our own programs are served without the SDK, and hear exactly what the SDK would have told them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiagent_coordinator.store.unit import Unit
from aiagent_coordinator.wire import answers
from aiagent_coordinator.wire.protocol import ACTIONS_URI, CAPABILITY, MCP_REVISION
from support.board import Board, Raw, connected, serving, tool_call

HERE = Path(__file__).parents[1]
PLAIN = {
    "protocolVersion": MCP_REVISION,
    "capabilities": {},
    "clientInfo": {"name": "anybody", "version": "1"},
}


def _served(folder: Path, who: str) -> str:
    done = subprocess.run(
        [sys.executable, str(HERE / "fakes" / "served.py"), str(folder), who],
        env={"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("who", "sdk"), [("person", "absent"), ("stranger", "loaded")])
def test_the_sdk_is_loaded_for_clients_of_others_only(short_dir: Path, who: str, sdk: str):
    assert _served(short_dir, who) == sdk


async def _opened(client: Raw, *, ours: bool) -> dict[str, Any]:
    params = answers.initialize(0)["params"] if ours else PLAIN
    answer = await client.request("initialize", params)
    await client.send(answers.INITIALIZED)
    return answer["result"]


#: Asked in this order by every kind of client.
REQUESTS: list[tuple[str, dict[str, Any] | None]] = [
    ("ping", None),
    ("tools/list", None),
    ("tools/call", {"name": "health_check", "arguments": {}}),
    ("tools/call", {"name": "health_check"}),
    ("tools/call", {"name": "get_task", "arguments": {"task_id": "no such"}}),
    ("tools/call", {"name": "get_task", "arguments": {"task_id": 5}}),
    ("tools/call", {"name": "no_such_tool", "arguments": {}}),
    ("resources/subscribe", {"uri": ACTIONS_URI}),
    ("resources/unsubscribe", {"uri": ACTIONS_URI}),
    ("resources/subscribe", {"uri": "coord://nothing"}),
]
#: Refused by both; the words are each one's own.
MALFORMED: list[tuple[str, dict[str, Any] | None]] = [
    ("tools/call", {"name": "health_check", "arguments": [1]}),
    ("tools/call", {"arguments": {}}),
    ("resources/subscribe", {}),
    ("no/such/method", {}),
]


def _timeless(answer: dict[str, Any]) -> Any:
    """An answer without its id and without the times in it."""
    kept = {key: value for key, value in answer.items() if key != "id"}
    return json.loads(re.sub(r"20\d\d-\d\d-\d\dT[\d:.]+Z", "TIME", json.dumps(kept)))


async def _everything(board: Board, hello: dict[str, object], *, ours: bool) -> list[Any]:
    """What a client hears when it asks all there is, and what there is not."""
    heard: list[Any] = []
    async with connected(board, hello) as client:
        about = await _opened(client, ours=ours)
        heard.append({name: about[name] for name in ("protocolVersion", "serverInfo")})
        heard.append(about["capabilities"]["experimental"][CAPABILITY])
        heard.append(about["instructions"])
        for method, params in REQUESTS:
            heard.append((method, params, _timeless(await client.request(method, params))))
        for method, params in MALFORMED:
            answer = await client.request(method, params)
            heard.append((method, params, answer["error"]["code"]))
    return heard


@pytest.mark.parametrize("role", ["person", "coordinator", "wrong key", "nobody"])
async def test_our_programs_hear_what_the_sdk_would_tell_them(short_dir: Path, role: str):
    async with serving(short_dir) as board:
        hellos = {
            "person": board.person,
            "coordinator": board.coordinator,
            "wrong key": {**board.person, "params": {"v": 1, "operator_key": "0" * 32}},
        }
        hello = hellos.get(role, {"jsonrpc": "2.0", "method": "notifications/nothing"})
        ours = await _everything(board, hello, ours=True)
        theirs = await _everything(board, hello, ours=False)
    assert ours == theirs


async def test_a_call_that_is_taken_back_is_not_answered_and_its_id_is_free_again(short_dir: Path):
    go = threading.Event()

    def hold(unit: Unit) -> None:
        del unit
        assert go.wait(60)

    async with (
        serving(short_dir) as board,
        connected(board, board.person) as client,
        anyio.create_task_group() as tasks,
    ):
        await _opened(client, ours=True)
        tasks.start_soon(board.store.write, hold)
        # writes wait for each other: these two cannot be answered before they are taken back
        for title in ("first", "second"):
            call = tool_call("same", "create_task", project_id="garden", title=title)
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
            taken_back = {**cancel, "params": {"requestId": "same"}}
            hostile = {**cancel, "params": {"requestId": [1]}}
            await client.send(call, taken_back, hostile)
        assert (await client.request("ping"))["result"] == {}
        go.set()
        # answered after everything that was written before it
        assert await client.code("create_task", project_id="garden", title="third") is None
        assert await client.code("health_check") is None
        assert "same" not in [frame["id"] for frame in client.seen]


async def test_two_hundred_calls_at_once_are_each_answered_once(short_dir: Path):
    async with serving(short_dir) as board, connected(board, board.person) as client:
        await _opened(client, ours=True)
        wanted = list(range(100, 300))
        await client.send(*(tool_call(number, "get_status") for number in wanted))
        answered = [(await client.line() or {})["id"] for _ in wanted]
    assert sorted(answered) == wanted
