"""Server and coordinator die, each by itself and both, around a limit, a budget and a request for leave."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from support.house import House, house, until
from support.repo import git
from support.talker import AT, Spender, Talker

LIVE_CLI = Path(__file__).parents[1] / "fakes" / "live_cli.py"
REPORT = {"tool": "report_completed", "arguments": {"result": "success", "summary": "did it"}}


class Pair:
    """Server and coordinator of a house, each a process of its own."""

    def __init__(self, home: House) -> None:
        self.home = home
        self.server: subprocess.Popen[bytes] | None = None
        self.coordinator: subprocess.Popen[bytes] | None = None

    def begin(self, *, server: str = "", coordinator: str = "") -> None:
        """Start whoever does not live; a failpoint dies with the life that it was given."""
        if self.server is None:
            self.server = self._armed(server, lambda: self.home.ready("serve"))
        if self.coordinator is None:
            self.coordinator = self._armed(coordinator, lambda: self.home.start("coordinate"))

    def _armed(self, failpoint: str, start: Any) -> subprocess.Popen[bytes]:
        if failpoint:
            self.home.env["AIAGENT_FAILPOINT"] = failpoint
        try:
            return start()
        finally:
            self.home.env.pop("AIAGENT_FAILPOINT", None)

    def kill(self, who: str) -> None:
        """End `server`, `coordinator` or `both` without a word."""
        for name in ("server", "coordinator"):
            process: subprocess.Popen[bytes] | None = getattr(self, name)
            if who in {name, "both"} and process is not None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                setattr(self, name, None)

    def dies(self, who: str) -> None:
        """Wait until a failpoint has struck."""
        process: subprocess.Popen[bytes] = getattr(self, who)
        until(f"the {who} dies", lambda: process.poll() is not None)
        assert process.returncode == -signal.SIGKILL
        setattr(self, who, None)


@contextmanager
def parted(folder: Path, **settings: Any) -> Generator[Pair]:
    """A house whose server and coordinator are two."""
    with house(folder, quota={"jitter": "0s"}, **settings) as home:
        pair = Pair(home)
        yield pair
        pair.kill("coordinator")
        pair.kill("server")


def settle(home: House, path: Path, **settings: Any) -> None:
    home.write(
        ai_providers={"talker": {"like": "claude", "cli_command": str(path)}},
        agents={"worker": {"provider": "talker"}, "other": {"provider": "talker"}},
        projects=[{"id": "app", "path": str(home.repo)}],
        **settings,
    )


def limits(home: House) -> list[dict[str, Any]]:
    return home.ask("list_limits")["limits"]


def over(home: House, task: str, runs: int = 1) -> list[dict[str, Any]]:
    """Wait until so many runs of a task are over."""

    def ended() -> list[dict[str, Any]] | None:
        found = home.runs(task)
        done = [run for run in found if run["phase"] == "ended"]
        return found if len(done) >= runs else None

    return until(f"{runs} runs are over", ended)


def test_whoever_dies_while_an_account_is_parked_nothing_starts_there_and_nothing_is_lost(
    short_dir: Path,
):
    talker = Talker(short_dir)
    with parted(short_dir) as pair:
        home = pair.home
        settle(home, talker.path)
        pair.begin()
        talker.say(AT, seconds=3600)
        task = home.add("one")["id"]
        over(home, task)
        (known,) = limits(home)
        waiting = home.add("two", agent="other")["id"]
        talker.say("Invalid")
        for who in ("server", "coordinator", "both"):
            pair.kill(who)
            pair.begin()
            assert limits(home) == [{**known, "waiting_tasks": 2}], who
        # the last life looks at its tasks before it is asked for more
        until("it holds", lambda: "parked until" in home.run("explain", waiting).stdout)
        assert len(talker.starts()) == 1
        moved = home.ask("set_limit", provider="talker", account="default", seconds=1)["limit"]
        (first, second), (other,) = over(home, task, 2)[:2], over(home, waiting)[:1]
        opened = datetime.fromisoformat(moved["until"])
        for run in (second, other):
            assert datetime.fromisoformat(run["started_at"]) >= opened
        assert (first["attempt"], second["attempt"]) == (1, 1)


@pytest.mark.parametrize(
    ("who", "failpoint"),
    [
        ("coordinator", "outbox.queued/report_run_result:1*kill"),
        ("coordinator", "outbox.answered/report_run_result:1*kill"),
        ("server", "tool.begun/report_run_result:1*kill"),
        ("server", "tool.done/report_run_result:1*kill"),
        ("both", "tool.done/report_run_result:1*kill"),
    ],
)
def test_whoever_dies_while_a_run_is_parked_it_is_parked_once_with_its_time(
    who: str, failpoint: str, short_dir: Path
):
    talker = Talker(short_dir)
    with parted(short_dir) as pair:
        home = pair.home
        settle(home, talker.path)
        armed = "server" if who == "both" else who
        pair.begin(**{armed: failpoint})
        talker.say(AT, seconds=3600)
        task = home.add("one")["id"]
        pair.dies(armed)
        if who == "both":
            pair.kill("coordinator")
        pair.begin()
        (run,) = over(home, task)
        (limit,) = limits(home)
        assert (limit["state"], limit["confidence"], limit["run_id"]) == (
            "parked",
            "stated",
            run["id"],
        )
        assert limit["until"] == limit["resets_at"]
        stands = home.task(task)
        assert (stands["status"], stands["attempt"], stands["status_reason"]) == (
            "queued",
            1,
            "quota",
        )
        events = home.ask("list_events", limit=1000)["events"]
        assert [one["action"] for one in events].count("quota.closed") == 1
        assert len(talker.starts()) == 1


@pytest.mark.parametrize(
    ("who", "failpoint"),
    [
        ("server", "tool.begun/renew_runs:3*off->1*kill"),
        ("server", "tool.done/renew_runs:3*off->1*kill"),
        ("coordinator", "stage.watch.end:1*kill"),
        ("both", "stage.watch.end:1*kill"),
    ],
)
def test_whoever_dies_while_a_budget_is_reached_its_run_is_stopped_once_and_counted_once(
    who: str, failpoint: str, short_dir: Path
):
    spender = Spender(short_dir)
    with parted(short_dir) as pair:
        home = pair.home
        settle(home, spender.path, budgets={"day": 50})
        spender.uses([20, 40], stays=True)
        armed = "coordinator" if who == "both" else who
        pair.begin(**{armed: failpoint})
        task = home.add("one")["id"]
        pair.dies(armed)
        if who == "both":
            pair.kill("server")
        pair.begin()
        (run,) = over(home, task)
        assert (run["outcome"], run["reason"]) == ("failed", "budget")
        stands = home.task(task)
        assert (stands["status"], stands["attempt"]) == ("queued", 1)
        why = home.run("explain", task).stdout
        assert "budget of a day: 60 tokens of 50 tokens used" in why
        assert len(home.runs()) == 1
        # it was not asked to leave by us: it would have stayed
        assert not (short_dir / "leave").exists()


@pytest.mark.parametrize("who", ["server", "coordinator", "both"])
def test_whoever_dies_while_a_person_is_asked_for_leave_is_asked_once_and_the_answer_arrives(
    who: str, short_dir: Path
):
    program = shlex.join([sys.executable, str(LIVE_CLI)])
    entry = {"kick_command": program, "like": "claude"}
    steps = [{"ask": "make install", "into": "asked"}, REPORT]
    plan = f"Do it.\n\n```live\n{json.dumps(steps)}\n```\n"
    with parted(short_dir, ai_providers={"asker": entry}) as pair:
        home = pair.home
        home.write(agents={"worker": {"provider": "asker", "permissions": {"mode": "ask"}}})
        pair.begin()
        task = home.add("Ask", plan)["id"]

        def asked() -> list[dict[str, Any]]:
            return home.ask("list_questions")["questions"]

        (question,) = until("somebody is asked", asked)
        pair.kill(who)
        pair.begin()
        assert [one["id"] for one in asked()] == [question["id"]]
        home.run("task", "answer", task, "allow")
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        assert git(home.repo, "show", f"{run['commit']}:asked") == "allow"
        assert [one["id"] for one in home.task(task)["questions"]] == [question["id"]]
