"""Who reads along sees what a run does as it does it; for nobody, nothing is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio

from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.paths import StateDir
from aiagent_coordinator.pipeline.stream import DIALECT_FILE
from aiagent_coordinator.server.frames import KEPT, Frames
from aiagent_coordinator.store.engine import open_store
from aiagent_coordinator.store.sqlite_file import sqlite_url
from support.board import Board, Raw, connected, declare, hosting

LINES: list[dict[str, Any]] = [
    {"event": "started", "session_id": "s-1"},
    {"event": "tool_delta", "id": "1", "text": '{"comm'},
    {"event": "tool_call", "id": "1", "name": "Bash", "arguments": {"command": "x" * 5000}},
    {"event": "usage", "in": 90, "out": 5, "cache": 10},
    {"event": "tool_result", "id": "1", "text": "key-of-nobody ok"},
    {"event": "text", "text": "Well done."},
    {"event": "result", "is_error": False, "text": "Well done."},
]
KINDS = ["tool_use_delta", "tool_use", "prompt_progress", "tool_result", "text", "done"]


def _prepare(state: StateDir, run: str) -> Path:
    folder = state.run(run)
    folder.mkdir(parents=True)
    (folder / DIALECT_FILE).write_text("events")
    (folder / "out").touch()
    return folder


def _print(folder: Path, *lines: dict[str, Any]) -> None:
    with (folder / "out").open("a") as out:
        out.writelines(json.dumps(line) + "\n" for line in lines)


def _mask(text: str) -> str:
    return text.replace("key-of-nobody", "[masked]")


def test_each_kind_comes_in_order_short_and_masked(tmp_path: Path):
    state = StateDir(tmp_path)
    folder = _prepare(state, "run_1")
    frames = Frames(state, _mask)
    assert frames.follow(["run_1"]) == []
    _print(folder, *LINES)
    assert frames.follow(["run_1"]) == ["run_1"]
    told = frames.read("run_1")
    assert [frame["kind"] for frame in told] == KINDS
    assert [frame["seq"] for frame in told] == [1, 2, 3, 4, 5, 6]
    _delta, use, progress, result, *_rest = told
    assert (len(use["arguments"]), use["truncated"]) == (2048, True)
    assert (progress["processed"], progress["cache"]) == (100, 10)
    assert (result["text"], result["is_error"]) == ("[masked] ok", False)
    assert frames.follow(["run_1"]) == []


def test_of_a_flood_the_end_is_kept(tmp_path: Path):
    state = StateDir(tmp_path)
    folder = _prepare(state, "run_1")
    frames = Frames(state, _mask)
    frames.follow(["run_1"])
    _print(folder, *([{"event": "text", "text": "x" * 1000}] * 3000), {"event": "result"})
    frames.follow(["run_1"])
    told = frames.read("run_1")
    assert len(told) == KEPT
    assert told[-1]["kind"] == "done"
    assert frames.built < 1500


def test_of_a_program_that_says_nothing_of_itself_nothing_is_made(tmp_path: Path):
    state = StateDir(tmp_path)
    folder = _prepare(state, "run_1")
    (folder / DIALECT_FILE).unlink()
    _print(folder, *LINES)
    frames = Frames(state, _mask)
    assert frames.read("run_1") == []
    assert frames.read("run_2") == []


async def _subscribe(client: Raw, uri: str) -> None:
    about = {"name": "t", "version": "1"}
    shake = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": about}
    await client.request("initialize", shake)
    await client.request("resources/subscribe", {"uri": uri})


async def _pushed(client: Raw, folder: Path) -> str:
    """Print on until something is pushed; what that is."""
    pushed: dict[str, Any] = {}
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:

            async def print_on() -> None:
                while True:
                    _print(folder, {"event": "text", "text": "more"})
                    await anyio.sleep(0.2)

            tasks.start_soon(print_on)
            pushed = await client.until(lambda frame: "method" in frame)
            tasks.cancel_scope.cancel()
    return str(pushed["params"]["uri"])


async def test_who_subscribed_hears_of_it_and_without_anybody_no_frame_is_made(short_dir: Path):
    state = StateDir(short_dir / "state")
    async with open_store(sqlite_url(short_dir / "store.db"), clock=SystemClock()) as store:
        board = Board(store, short_dir / "s")
        await store.write(lambda unit: declare(unit, short_dir))
        async with hosting(board, state=state) as server:
            claimed = await board.claim()
            folder = _prepare(state, claimed.run.id)
            log, uri = (f"coord://run/{claimed.run.id}/{name}" for name in ("log", "live"))
            async with (
                connected(board, board.person) as other,
                connected(board, board.person) as client,
            ):
                _print(folder, *LINES)
                # somebody listens, but not to this
                await _subscribe(other, log)
                assert await _pushed(other, folder) == log
                assert server.frames_built == 0
                await _subscribe(client, uri)
                assert await _pushed(client, folder) == uri
                assert server.frames_built > 0
                answer = await client.request("resources/read", {"uri": uri})
                told = json.loads(answer["result"]["contents"][0]["text"])["frames"]
                assert [frame["kind"] for frame in told][:6] == KINDS
