"""What is said twice is done once: a line that breaks under many calls, a stop that comes from two sides."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import anyio

from aiagent_coordinator.coordinator.link import ServerLink
from aiagent_coordinator.errors import UnavailableError
from support.house import house, until
from support.scripted import ScriptedServer

PATIENCE = 60.0


async def test_a_line_that_ends_under_many_calls_is_made_anew_once(tmp_path: Path):
    """Each call hears of it, two of them ended it, and one new line with one greeting comes of it."""
    updates: Counter[str] = Counter()
    lost: list[str] = []
    with ScriptedServer(tmp_path) as server:
        server.start()

        def heard(uri: str) -> None:
            updates[uri] += 1

        link = ServerLink(server.socket, "token", "crd_x", heard)

        async def call(do: str) -> None:
            try:
                await link.call("health_check", {"do": do})
            except UnavailableError:
                lost.append(do)

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(link.run)
                await link.wait_up()
                async with anyio.create_task_group() as calls:
                    for do in ("never", "never", "close", "close", "never", "never"):
                        calls.start_soon(call, do)
                assert (await asked_until_answered(link))["arguments"] == {"n": 1}
                tasks.cancel_scope.cancel()
        greetings = [one for one in server.entries() if one["frame"].get("method") == "initialize"]
    assert sorted(lost) == ["close"] * 2 + ["never"] * 4
    assert len(greetings) == 2, "one line before, one after"
    assert set(updates.values()) == {2}, "what may have been missed is looked at once each time"


async def asked_until_answered(link: ServerLink) -> dict[str, Any]:
    """As every caller here does it: the old line may not be known to be gone yet."""
    while True:
        await link.wait_up()
        try:
            return await link.call("health_check", {"n": 1})
        except UnavailableError:
            await anyio.sleep(0.01)


#: Counts how often it is asked to end, and ends when it may.
COUNTING = "trap 'echo asked >> asked' TERM; touch up; until [ -e go ]; do sleep 0.05; done; exit 0"


def test_a_stop_that_is_said_again_and_again_is_one_stop(short_dir: Path):
    """By the person twice, by the cancelled task, in every renewal after: the agent keeps its grace."""
    with house(short_dir, stop_grace_seconds=60, lease={"seconds": "3s"}) as home:
        home.write(
            agents={"worker": {"provider": "counting"}},
            ai_providers={
                "counting": {"like": "command", "cli_command": "sh", "cli_args": ["-c", COUNTING]}
            },
        )
        home.ready()
        task = home.add("Work", "x")["id"]
        folder = home.state / "worktrees" / "app" / task
        until("it runs", (folder / "up").exists)
        run = home.runs(task)[0]["id"]
        for _ in range(2):
            home.ask("request_stop_run", run_id=run)
        until("it was asked to end", (folder / "asked").exists)
        home.ask("cancel_task", task_id=task)
        home.ask("request_stop_run", run_id=run)
        renewed = _lease(home.state, run)
        until("its lease was renewed", lambda: _lease(home.state, run) > renewed)
        (folder / "go").touch()
        assert home.finished(task)["status"] == "cancelled"
        ended = home.over(run)
        assert (ended["exit_code"], ended["signal"]) == (0, None), "nobody cut its grace short"
        assert (folder / "asked").read_text() == "asked\n"
        counted = Counter(
            event["action"] for event in home.ask("list_events", run_id=run)["events"]
        )
        for action in ("run.stop_requested", "run.exited", "run.ended"):
            assert counted[action] == 1, counted
        assert len(home.logged("run.stop")) == 1


def _lease(state: Path, run: str) -> str:
    with sqlite3.connect(f"file:{state / 'store.db'}?mode=ro", uri=True) as store:
        ((until_when,),) = store.execute("SELECT lease_until FROM run WHERE id = ?", (run,))
    store.close()
    return str(until_when)
