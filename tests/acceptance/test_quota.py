"""A limit of a provider parks what works on it until it resets, and nothing is lost or spent by that."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from support.house import House, house, until
from support.talker import AT, Talker


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
        began = datetime.now(UTC)
        talker.say(AT, seconds=3600)
        task = home.add("one")["id"]
        limit = parked(home)
        assert (limit["provider"], limit["account"], limit["model"]) == ("talker", "default", "")
        assert (limit["name"], limit["confidence"]) == ("limit", "stated")
        at = instant(limit["resets_at"])
        assert began + timedelta(hours=1) <= at <= datetime.now(UTC) + timedelta(hours=1, seconds=1)
        at = instant(limit["until"])
        assert timedelta(0) <= at - instant(limit["resets_at"]) <= timedelta(seconds=30)
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
        left = home.ask("get_remaining")
        assert (left["is_moving"], left["held"]) == (True, [])
        for words in (("status",), ("task", "show", waiting), ("doctor",), ("provider", "list")):
            assert "(talker/default: limit, stated)" in home.run(*words, check=False).stdout
        assert at.isoformat()[:16] in home.json("task", "show", waiting)["parked"]
        table = home.run("quota").stdout.splitlines()
        assert table[0].split() == [
            "PROVIDER", "ACCOUNT", "MODEL", "LIMIT", "STATE", "OPENS", "AT", "KNOWN", "USED",
            "WAITING",
        ]  # fmt: skip
        assert table[1].split()[-1] == "2"
        assert len(talker.starts()) == 1
        talker.say("Invalid")
        # it is over sooner than was said, and both go on by themselves
        sooner = home.ask("set_limit", provider="talker", account="default", seconds=1)["limit"]
        home.last(task, 2)
        home.last(waiting)
        starts = [instant(run["started_at"]) for run in home.runs()[1:]]
        assert all(instant(sooner["until"]) <= start for start in starts)
        first, second = home.runs(task)[:2]
        assert (first["account"], first["attempt"], second["attempt"]) == ("default", 1, 1)
        home.down()


def test_a_kill_of_everything_forgets_no_parking_and_it_ends_in_time(short_dir: Path):
    talker = Talker(short_dir)
    with house(short_dir, quota={"jitter": "0s"}) as home:
        settle(home, talker)
        process = home.ready()
        talker.say(AT, seconds=6)
        task = home.add("one")["id"]
        home.last(task)
        (limit,) = home.ask("list_limits")["limits"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        talker.say("Invalid")
        home.ready()
        (kept,) = home.ask("list_limits")["limits"]
        assert kept["until"] == limit["until"] == limit["resets_at"]
        home.last(task, 2)
        first, second = home.runs(task)[:2]
        assert instant(second["started_at"]) >= instant(limit["until"])
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
        left = home.ask("get_remaining")
        assert not left["is_moving"]
        ((reason,),) = {tuple(one["do"] for one in held["reasons"]) for held in left["held"]}
        assert (
            reason
            == "log in with its program; where it does not go on soon: quota clear talker/default"
        )
        (item,) = home.json("status")["logins"]
        assert item["lane"] == "talker/default"
        assert "needs login: talker/default" in home.run("status").stdout
        time.sleep(1.5)  # longer than the loop's own look: nothing is tried meanwhile
        assert len(talker.starts()) == 1
        assert {home.task(one)["status"] for one in tasks} == {"queued"}
        assert {home.task(one)["attempt"] for one in tasks} == {1}
        # who saw that there is a login opens nothing else
        home.ask("set_limit", provider="talker", account="default", model="x", seconds=900)
        home.ask("clear_limits", provider="talker", logins_only=True)
        home.last(tasks[0], 2)
        (left,) = [
            one
            for one in home.ask("list_limits")["limits"]
            if one["state"] == "parked" and one["model"]
        ]
        assert left["model"] == "x"
        until("it asks again", lambda: home.json("status")["logins"])
        # another setting of the provider may be what was missing
        talker.say("Invalid")
        provider = home.settings["ai_providers"]["talker"]
        home.write(ai_providers={"talker": {**provider, "max_turns": 7}})
        home.run("stop")
        until("it is down", lambda: home.processes[-1].poll() is not None)
        home.ready()
        until("all went on", lambda: home.json("status")["logins"] == [])
        home.last(tasks[0], 3)
        home.down()


def test_work_moves_to_the_next_account_where_that_is_allowed_with_its_variables_alone(
    short_dir: Path,
):
    talker = Talker(short_dir)
    talker.look = ["TALKER_KEY", "SECOND_ONLY", "HOME"]
    with house(short_dir) as home:
        home.env |= {"TALKER_KEY": "of-the-parent", "REAL_KEY": "very-secret-key-1"}
        accounts = {
            "first": {"env": {"TALKER_KEY": "${REAL_KEY}"}},
            "second": {"env": {"SECOND_ONLY": "very-secret-key-2"}, "home": str(short_dir)},
        }
        provider = {"like": "claude", "cli_command": str(talker.path), "accounts": accounts}
        home.write(
            ai_providers={"talker": provider},
            agents={"worker": {"provider": "talker"}},
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        home.ready()
        talker.say("You've hit your limit. Try again in 2 hours. very-secret-key-1")
        task = home.add("one")["id"]
        limit = parked(home)
        assert limit["account"] == "first"
        first = home.last(task)
        (start,) = talker.starts()
        assert (start["TALKER_KEY"], start["SECOND_ONLY"]) == ("very-secret-key-1", None)
        assert "very-secret" not in json.dumps(home.json("quota")) + json.dumps(first)
        assert "very-secret" not in home.run("config", "show").stdout
        # without a person's word it waits
        time.sleep(1.5)
        assert len(talker.starts()) == 1
        home.run("stop")
        until("it is down", lambda: home.processes[-1].poll() is not None)
        home.write(ai_providers={"talker": {**provider, "switch_accounts": "on_limit"}})
        talker.say("Invalid")
        home.ready()
        second = home.last(task, 2)
        assert (first["account"], second["account"]) == ("first", "second")
        start = talker.starts()[1]
        assert (start["TALKER_KEY"], start["SECOND_ONLY"]) == (None, "very-secret-key-2")
        assert start["HOME"] == str(short_dir)
        # another account does not know the session of the first
        assert "--resume" not in start["argv"]
        home.down()


def test_a_fallback_takes_over_with_the_hand_off_and_only_when_it_is_configured(short_dir: Path):
    talker = Talker(short_dir)
    with house(short_dir) as home:
        settle(home, talker)
        home.write(
            agents={
                "worker": {"provider": "talker", "fallback": ["nobody"]},
                "other": {"provider": "talker"},
            }
        )
        wrong = home.run("config", "validate", check=False)
        assert wrong.returncode == 3
        assert "there is no provider 'nobody'" in wrong.stderr
        home.write(
            agents={
                "worker": {"provider": "talker", "fallback": ["rehearsal/understudy"]},
                "other": {"provider": "talker"},
            }
        )
        home.ready()
        talker.say("You've hit your limit. Try again in 2 hours.")
        task = home.add("one")["id"]
        parked(home)
        waiting = home.add("two", agent="other")["id"]
        home.finished(task)
        first, second = home.runs(task)
        assert (first["provider"], first["reason"]) == ("talker", "quota")
        assert (second["provider"], second["model"], second["attempt"]) == (
            "rehearsal",
            "understudy",
            1,
        )
        assert "You've hit your limit" in home.task(task)["handoff"]
        assert home.task(waiting)["status"] == "queued"
        sums = {one["key"]: one["runs"] for one in home.json("usage", "--by", "model")["usage"]}
        assert sums == {"talker/m": 1, "rehearsal/understudy": 1}
        home.down()


def test_a_model_that_is_missing_is_never_replaced_unasked(short_dir: Path):
    talker = Talker(short_dir)
    with house(short_dir) as home:
        provider = {"like": "claude", "cli_command": str(talker.path), "models": ["small"]}
        home.write(
            ai_providers={"talker": provider},
            agents={
                "worker": {"provider": "talker", "model": "large"},
                "other": {"provider": "talker", "model": "large", "fallback": ["talker/small"]},
            },
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        home.ready()
        talker.say("Invalid")
        stuck, goes = home.add("one")["id"], home.add("two", agent="other")["id"]
        assert home.last(goes)["model"] == "small"
        words = "no model 'large' here, only small"
        until("it is said why", lambda: words in home.run("explain", stuck).stdout)
        assert home.runs(stuck) == []
        home.down()


def test_a_wait_that_is_too_long_asks_a_person(short_dir: Path):
    talker = Talker(short_dir)
    with house(short_dir) as home:
        settle(home, talker, quota={"max_wait": "1h"})
        home.ready()
        talker.say("You've hit your weekly limit. Try again in 3 days 4 h.")
        task = home.add("one", max_attempts="1")["id"]
        parked(home)
        home.last(task)
        stands = home.task(task)
        assert (stands["status"], stands["wait_reason"]) == ("waiting", "input")
        question = stands["question"]
        assert question["options"] == ["wait", "try now", "cancel"]
        assert "talker/default is at its limit (weekly limit)" in home.run("explain", task).stdout
        assert home.run("task", "answer", task, "perhaps", check=False).returncode == 2
        talker.say("Invalid")
        home.run("task", "answer", task, "try now")
        home.last(task, 2)
        talker.say("You've hit your weekly limit. Try again in 3 days 4 h.")
        other = home.add("two", agent="other")["id"]
        home.last(other)
        home.run("task", "answer", other, "cancel")
        assert home.task(other)["status"] == "cancelled"
        home.down()
