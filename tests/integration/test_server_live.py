"""Pushes: whoever subscribed hears of what was committed, soon, and not too often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from aiagent_coordinator import ids
from aiagent_coordinator.clock import SystemClock
from aiagent_coordinator.runs import RetryPolicy, RunOutcome, Verification
from aiagent_coordinator.server.connection import Connection
from aiagent_coordinator.server.live import Live
from aiagent_coordinator.store import reports, requests
from aiagent_coordinator.store import runs as run_store
from aiagent_coordinator.store.engine import open_store
from aiagent_coordinator.store.sqlite_file import sqlite_url
from aiagent_coordinator.wire.protocol import ACTIONS_URI, runs_uri
from support.board import (
    PATIENCE_SECONDS,
    Board,
    Claimed,
    Raw,
    connected,
    declare,
    hosting,
    serving,
    tool_call,
)


async def _subscribe(client: Raw, *uris: str) -> None:
    for uri in uris:
        assert "result" in await client.request("resources/subscribe", {"uri": uri})


async def _pushed(client: Raw) -> str:
    frame = await client.until(
        lambda frame: frame.get("method") == "notifications/resources/updated"
    )
    return frame["params"]["uri"]


async def _start_or_hold(client: Raw, board: Board) -> str:
    answer = await client.tool("list_agent_actions", coordinator_id=board.coordinator_id)
    return answer["actions"][0]["action"]


async def test_a_new_task_is_pushed_and_the_answer_is_new(short_dir: Path) -> None:
    async with (
        serving(short_dir) as board,
        connected(board, board.coordinator) as loop,
        connected(board, board.person) as person,
    ):
        assert await _start_or_hold(loop, board) == "hold"
        await _subscribe(loop, ACTIONS_URI)
        assert await person.code("create_task", project_id="garden", title="x") is None
        assert await _pushed(loop) == ACTIONS_URI
        assert await _start_or_hold(loop, board) == "start"


async def test_an_answer_is_never_older_than_the_last_commit(short_dir: Path) -> None:
    async with (
        serving(short_dir) as board,
        connected(board, board.coordinator) as loop,
        connected(board, board.person) as person,
    ):
        for _ in range(20):
            made = await person.tool("create_task", project_id="garden", title="x")
            assert await _start_or_hold(loop, board) == "start"
            await person.tool("cancel_task", task_id=made["task"]["id"])
            assert await _start_or_hold(loop, board) == "hold"


async def test_the_answer_is_kept_until_something_changes(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.coordinator) as loop:
        reads = 0
        read = board.store.read

        async def counted(work: Any) -> Any:
            nonlocal reads
            reads += 1
            return await read(work)

        board.store.read = counted  # the only way to see that nothing is asked
        await _start_or_hold(loop, board)
        after_first = reads
        with anyio.move_on_after(0.2):
            for _ in range(20):
                await _start_or_hold(loop, board)
        assert reads <= after_first + 1


async def test_who_knows_the_answer_is_not_told_it_again(short_dir: Path) -> None:
    async with (
        serving(short_dir) as board,
        connected(board, board.coordinator) as loop,
        connected(board, board.person) as person,
    ):
        ask = {"coordinator_id": board.coordinator_id}
        whole = await loop.tool("list_agent_actions", **ask)
        known = {"known": whole["etag"]}
        named = {name: whole[name] for name in ("version", "etag")}
        assert await loop.tool("list_agent_actions", **ask, **known) == named
        assert await loop.tool("list_agent_actions", **ask, known="another") == whole
        await person.tool("create_task", project_id="garden", title="x")
        news = await loop.tool("list_agent_actions", **ask, **known)
        assert news["actions"] != whole["actions"]
        assert news["etag"] != whole["etag"]


@pytest.mark.parametrize("said", ["hello", "authenticated", "reported", "stop"])
async def test_what_an_agent_or_a_person_says_is_pushed_to_the_runs_coordinator(
    short_dir: Path, said: str
) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        mine, other = runs_uri(board.coordinator_id), runs_uri(ids.new_id("crd"))
        async with (
            connected(board, board.coordinator) as loop,
            connected(board, board.coordinator) as stranger,
            connected(board, board.person) as person,
        ):
            await _subscribe(loop, mine)
            await _subscribe(stranger, other)
            await _say(board, claimed, said, person)
            assert await _pushed(loop) == mine
            assert await loop.code("health_check") is None
            assert await stranger.code("health_check") is None
            assert not [frame for frame in stranger.seen if frame.get("method")]


async def _say(board: Board, claimed: Claimed, said: str, person: Raw) -> None:
    run = claimed.run
    match said:
        case "stop":
            assert await person.code("request_stop_run", run_id=run.id) is None
        case "hello":
            await board.store.write(lambda unit: run_store.mark_hello(unit, run.id))
        case "authenticated":
            await board.store.write(lambda unit: run_store.mark_authenticated(unit, run.id))
        case _:
            await board.store.write(
                lambda unit: run_store.record_agent_report(unit, run, "success", None)
            )


async def test_a_burst_of_changes_is_few_pushes(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.coordinator) as loop:
        await _subscribe(loop, ACTIONS_URI)
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(board.add_task, f"Task {number}")
        assert await _pushed(loop) == ACTIONS_URI
        assert await loop.code("health_check") is None
        pushes = [frame for frame in loop.seen if "method" in frame]
        assert 1 <= len(pushes) < 40


async def test_changes_a_moment_apart_become_one_push(short_dir: Path) -> None:
    async with (
        await anyio.create_unix_listener(short_dir / "s") as listener,
        await anyio.connect_unix(short_dir / "s") as client,
        await listener.accept() as stream,
        anyio.create_task_group() as tasks,
    ):
        live = Live()
        live.begin(tasks)
        live.subscribe(Connection(stream, _no_hello, SystemClock().monotonic), ACTIONS_URI)
        for _ in range(100):
            live.publish((ACTIONS_URI, "coord://other"))
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.05)
        lines = (await client.receive(1 << 20)).splitlines()
        assert 1 <= len(lines) < 50


async def _no_hello(params: dict[str, Any]) -> None:
    del params


async def test_progress_is_no_news_for_the_loop(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        async with (
            connected(board, claimed.hello()) as agent,
            connected(board, board.coordinator) as loop,
        ):
            assert await agent.code("authenticate") is None
            await _subscribe(loop, ACTIONS_URI)
            for number in range(10):
                assert await agent.code("report_progress", progress=number) is None
            assert await loop.code("health_check") is None
            assert not [frame for frame in loop.seen if "method" in frame]


async def test_a_retry_is_pushed_when_it_falls_due(short_dir: Path) -> None:
    """Nothing is committed at that moment: the server looks at the clock for it."""
    async with serving(short_dir) as board, connected(board, board.coordinator) as loop:
        claimed = await board.claim()
        await _subscribe(loop, ACTIONS_URI)
        result = requests.ResultReport(
            run_id=claimed.run.id,
            fence=claimed.run.fence,
            seq=2,
            outcome=RunOutcome.FAILED,
            reason="no_report",
            verification=Verification.NOT_VERIFIED,
        )
        policy = RetryPolicy(backoff_seconds=(1.0,))
        await board.store.write(lambda unit: reports.record_result(unit, result, policy))
        assert await _pushed(loop) == ACTIONS_URI
        assert await _start_or_hold(loop, board) == "hold"
        before = SystemClock().now()
        with anyio.fail_after(PATIENCE_SECONDS):
            while await _start_or_hold(loop, board) == "hold":
                assert await _pushed(loop) == ACTIONS_URI
        assert SystemClock().now() > before


async def test_agents_and_strangers_cannot_listen(short_dir: Path) -> None:
    async with serving(short_dir) as board:
        claimed = await board.claim()
        for hello, code in ((None, "UNAUTHORIZED"), (claimed.hello(), "FORBIDDEN")):
            async with connected(board, hello) as client:
                answer = await client.request("resources/subscribe", {"uri": ACTIONS_URI})
                assert answer["error"]["data"]["code"] == code
        async with connected(board, board.coordinator) as client:
            answer = await client.request("resources/subscribe", {"uri": "coord://everything"})
            assert answer["error"]["data"]["code"] == "NOT_FOUND"


async def test_who_unsubscribed_hears_nothing_more(short_dir: Path) -> None:
    async with serving(short_dir) as board, connected(board, board.coordinator) as loop:
        await _subscribe(loop, ACTIONS_URI)
        assert "result" in await loop.request("resources/unsubscribe", {"uri": ACTIONS_URI})
        await board.add_task()
        assert await loop.code("health_check") is None
        assert not [frame for frame in loop.seen if "method" in frame]


async def test_a_subscriber_that_never_reads_delays_nobody(short_dir: Path) -> None:
    async with (
        serving(short_dir) as board,
        connected(board, board.coordinator) as deaf,
        connected(board, board.coordinator) as loop,
    ):
        await _subscribe(deaf, ACTIONS_URI)
        await _subscribe(loop, ACTIONS_URI)
        # fill what lies between us and it: its answers, unread
        for number in range(2000):
            with anyio.move_on_after(0.2) as patience:
                await deaf.send(tool_call(number, "list_agents"))
            if patience.cancelled_caught:
                break
        for _ in range(5):
            await board.add_task()
            assert await _pushed(loop) == ACTIONS_URI


def test_the_herald_is_called_by_the_store_alone() -> None:
    """Pushes come from what was committed, or from a file that grew; never from a tool."""
    folder = Path(__file__).parents[2] / "aiagent_coordinator" / "server"
    callers = [path.name for path in sorted(folder.glob("*.py")) if ".publish(" in path.read_text()]
    assert callers == ["herald.py", "log_watch.py"]


async def test_a_retry_that_an_earlier_server_put_off_is_pushed_by_the_next(
    short_dir: Path,
) -> None:
    """An answer of a moment before says `hold`; the push makes it old."""
    async with open_store(sqlite_url(short_dir / "store.db"), clock=SystemClock()) as store:
        board = Board(store, short_dir / "s")
        await store.write(lambda unit: declare(unit, short_dir))
        claimed = await board.claim()
        result = requests.ResultReport(
            run_id=claimed.run.id,
            fence=claimed.run.fence,
            seq=2,
            outcome=RunOutcome.FAILED,
            reason="no_report",
            verification=Verification.NOT_VERIFIED,
        )
        policy = RetryPolicy(backoff_seconds=(3.0,))
        async with hosting(board):
            await store.write(lambda unit: reports.record_result(unit, result, policy))
        heard = anyio.Event()

        async def ask_all_the_time(other: Raw) -> None:
            while not heard.is_set():
                await _start_or_hold(other, board)
                await anyio.sleep(0.01)

        async with (
            hosting(board),
            connected(board, board.coordinator) as loop,
            connected(board, board.coordinator) as other,
            anyio.create_task_group() as tasks,
        ):
            await _subscribe(loop, ACTIONS_URI)
            tasks.start_soon(ask_all_the_time, other)
            assert await _pushed(loop) == ACTIONS_URI
            assert await _start_or_hold(loop, board) == "start"
            heard.set()
