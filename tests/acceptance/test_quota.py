"""A limit of a provider parks what works on it until it resets, and nothing is lost or spent by that."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.house import House, house, until

#: Speaks as claude does; what it is to say stands in a file beside it, newest word first.
TALKER = """\
#!{python} -S
import json, os, sys, time
told = json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "say.json")))
with open(told["log"], "a") as log:
    log.write(json.dumps({{name: os.environ.get(name) for name in told["look"]}} | {{"argv": sys.argv[1:]}}) + "\\n")
said = told["say"]
if said is None:
    sys.exit(0)
print(json.dumps({{"type": "system", "subtype": "init", "session_id": "s-1", "model": "m"}}))
print(json.dumps({{"type": "result", "is_error": True, "subtype": "success", "result": said,
                   "usage": {{"input_tokens": 10, "output_tokens": 5}}}}))
sys.exit(1)
"""


class Talker:
    """A program that says what it is told to say, and remembers each start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "starts.log"
        self.path = folder / "talker"
        self.path.write_text(TALKER.format(python=sys.executable), encoding="utf-8")
        self.path.chmod(0o755)
        self.look: list[str] = []
        self.say(None)

    def say(self, text: str | None) -> None:
        told = {"say": text, "log": str(self.log), "look": self.look}
        draft = self.folder / "say.tmp"
        draft.write_text(json.dumps(told), encoding="utf-8")
        draft.rename(self.folder / "say.json")

    def starts(self) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]


def in_a_while(seconds: float) -> tuple[str, datetime]:
    """A time as claude says it, and as it is."""
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
    return f"Claude AI usage limit reached|{int(at.timestamp())}", at


def settle(home: House, talker: Talker, **settings: Any) -> None:
    """A house whose agents `worker` and `other` work on one account of the talker."""
    home.write(
        ai_providers={"talker": {"like": "claude", "cli_command": str(talker.path)}},
        agents={"worker": {"provider": "talker"}, "other": {"provider": "talker"}},
        projects=[{"id": "app", "path": str(home.repo)}],
        **settings,
    )


def parked(home: House) -> dict[str, Any]:
    """Wait until something is parked and return that."""

    def found() -> dict[str, Any] | None:
        limits = home.ask("list_limits")["limits"]
        return next((one for one in limits if one["state"] == "parked"), None)

    return until("something is parked", found)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_limit_parks_the_account_until_it_resets_and_costs_no_attempt(short_dir: Path):
    talker = Talker(short_dir)
    with house(short_dir) as home:
        settle(home, talker)
        home.ready()
        words, at = in_a_while(12)
        talker.say(words)
        task = home.add("one")["id"]
        limit = parked(home)
        assert (limit["provider"], limit["account"], limit["model"]) == ("talker", "default", "")
        assert (limit["name"], limit["confidence"]) == ("limit", "stated")
        assert at <= instant(limit["until"]) <= at + timedelta(seconds=30)
        assert home.last(task)["reason"] == "quota"
        # nobody else starts on that account, and it is said until when
        waiting = home.add("two", agent="other")["id"]
        stands = home.task(task)
        assert (stands["status"], stands["status_reason"], stands["attempt"]) == (
            "queued",
            "quota",
            1,
        )
        for one in (task, waiting):
            why = home.run("explain", one).stdout
            assert f"parked until {at.strftime('%Y-%m-%dT%H:%M')}" in why
            assert "(talker/default: limit, stated)" in why
            assert "quota clear talker/default" in why
        assert "parked until" in home.run("status").stdout
        table = home.run("quota").stdout.splitlines()
        assert table[0].split() == [
            "PROVIDER", "ACCOUNT", "MODEL", "LIMIT", "STATE", "OPENS", "AT", "KNOWN", "USED",
            "WAITING",
        ]  # fmt: skip
        assert table[1].split()[-1] == "2"
        assert len(talker.starts()) == 1
        talker.say("Invalid")
        # both go on by themselves
        home.last(task, 2)
        home.last(waiting)
        began = [instant(run["started_at"]) for run in home.runs()[1:]]
        assert all(instant(limit["until"]) <= start for start in began)
        assert (
            home.json("run", "show", home.runs()[0]["id"])["account"],
            home.task(task)["attempt"],
        ) == ("default", 2)
        home.down()


def test_a_kill_of_everything_forgets_no_parking_and_it_ends_in_time(short_dir: Path):
    talker = Talker(short_dir)
    with house(short_dir) as home:
        settle(home, talker)
        process = home.ready()
        words, at = in_a_while(14)
        talker.say(words)
        task = home.add("one")["id"]
        limit = parked(home)
        home.last(task)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        talker.say("Invalid")
        home.ready()
        assert parked(home)["until"] == limit["until"]
        assert home.task(task)["status"] == "queued"
        home.last(task, 2)
        first, second = home.runs(task)[:2]
        assert instant(second["started_at"]) >= at
        assert (first["attempt"], second["attempt"]) == (1, 1)
        home.down()


def test_a_person_opens_moves_and_cancels_what_is_parked(short_dir: Path):
    talker = Talker(short_dir)
    with house(short_dir, timezone="Asia/Tokyo") as home:
        settle(home, talker)
        home.ready()
        talker.say("You've hit your usage limit. Try again in 3 hours 2 minutes.")
        task = home.add("one")["id"]
        limit = parked(home)
        left = (instant(limit["until"]) - datetime.now(UTC)).total_seconds()
        assert 10_000 < left < 11_000
        assert "+09:00" in home.run("quota").stdout
        cancelled = home.json("task", "cancel", task)
        assert cancelled["status"] == "cancelled"
        other = home.add("two", agent="other")["id"]
        moved = home.json("quota", "until", "talker/default", "5h")["limit"]
        left = (instant(moved["until"]) - datetime.now(UTC)).total_seconds()
        assert 17_900 < left < 18_001
        never = home.run("quota", "until", "talker", "never").stdout
        assert "somebody clears it" in never
        assert home.run("quota", "clear", "nobody", check=False).returncode == 5
        assert home.run("quota", "clear", "talker/work", check=False).returncode == 5
        assert home.run("quota", "until", "talker", "soon", check=False).returncode == 2
        assert len(talker.starts()) == 1
        talker.say("Invalid")
        assert "talker/default: may start again" in home.run("quota", "clear", "talker").stdout
        home.last(other)
        assert "Nothing is closed" in home.run("quota", "clear", "talker").stderr
        home.down()


def test_who_must_log_in_is_told_once_and_no_task_is_lost(short_dir: Path):
    talker = Talker(short_dir)
    with house(short_dir) as home:
        settle(home, talker)
        home.ready()
        talker.say("Not logged in · Please run /login")
        tasks = [home.add(f"task {number}")["id"] for number in range(3)]
        limit = parked(home)
        assert (limit["name"], limit["until"]) == ("needs login", None)
        (item,) = home.json("status")["logins"]
        assert item["lane"] == "talker/default"
        assert "needs login: talker/default" in home.run("status").stdout
        time.sleep(1.5)  # longer than the loop's own look: nothing is tried meanwhile
        assert len(talker.starts()) == 1
        assert {home.task(one)["status"] for one in tasks} == {"queued"}
        assert {home.task(one)["attempt"] for one in tasks} == {1}
        # another setting of the provider may be what was missing
        talker.say("Invalid")
        provider = home.settings["ai_providers"]["talker"]
        home.write(ai_providers={"talker": {**provider, "max_turns": 7}})
        home.run("stop")
        until("it is down", lambda: home.processes[-1].poll() is not None)
        home.ready()
        home.last(tasks[0], 2)
        assert home.json("status")["logins"] == []
        home.down()
