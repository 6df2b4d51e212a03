"""What fails again and again at once is left alone for a while, and everybody can see it."""

from __future__ import annotations

from pathlib import Path

from support.house import House, house, script, until

REPORT = {"report": {"result": "success", "summary": "done"}}


def _failing_house(home: House) -> None:
    """An agent whose program ends at once with an error, beside one that works."""
    home.write(
        agents={"broken": {"provider": "nothing"}, "worker": {"provider": "rehearsal"}},
        ai_providers={"nothing": {"like": "command", "cli_command": str(home.root / "tool")}},
        projects=[{"id": "app", "path": str(home.repo), "agents": ["broken", "worker"]}],
        retry={"max_attempts": 1, "backoff_seconds": [0]},
        breaker={"failures": 3, "quick": "30s", "first": "600s", "longest": "600s"},
    )
    _tool(home, "echo no luck >&2; exit 3")


def _tool(home: House, line: str) -> None:
    tool = home.root / "tool"
    tool.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    tool.chmod(0o755)


def test_an_agent_that_fails_at_once_again_and_again_rests_and_nobody_else_waits(short_dir: Path):
    with house(short_dir) as home:
        _failing_house(home)
        home.ready()
        tasks = [home.add(f"Bad {number}", "x", agent="broken")["id"] for number in range(5)]
        circuits = until("the circuit is open", lambda: home.json("status")["circuits"])
        assert [(each["scope"], each["state"], each["failures"]) for each in circuits] == [
            ("line", "open", 3)
        ]
        good = home.add("Good", script(REPORT))
        assert home.finished(good["id"])["status"] == "succeeded"
        assert len(home.runs()) == 4
        waiting = [task for task in tasks if home.task(task)["status"] == "queued"]
        assert len(waiting) == 2
        told = home.run("explain", waiting[0]).stdout
        assert "broken is not started: agent broken failed 3 times in a row" in told
        shown = home.run("status").stdout
        assert "Resting: line broken/app/task failed 3 times in a row" in shown
        assert "Waiting: broken in app: agent broken failed 3 times" in shown
        (opened,) = home.logged("loop.circuit_opened")
        assert opened["name"] == "broken/app/task"


def test_after_the_rest_one_run_tries_and_its_success_lets_the_others_go(short_dir: Path):
    with house(short_dir) as home:
        _failing_house(home)
        home.write(breaker={"failures": 3, "quick": "30s", "first": "2s", "longest": "2s"})
        home.ready()
        tasks = [home.add(f"Bad {number}", "x", agent="broken")["id"] for number in range(6)]
        until("the circuit is open", lambda: home.logged("loop.circuit_opened"))
        _tool(home, "exit 0")
        ended = [home.finished(task)["status"] for task in tasks]
        assert ended.count("failed") >= 3
        assert ended[-1] == "succeeded"
        until("nothing rests", lambda: home.ask("get_status")["circuits"] == [])
