"""OpenCode driven live, by the real programs: a scripted server in place of OpenCode."""

from __future__ import annotations

import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.driven import FAKES, REPORT, WAIT, events, heard, is_told_over_a_death, plan, told
from support.driven import driven as live
from support.house import House, until
from support.repo import git

WRITE = {"write": "a.txt", "text": "by a session\n"}


def driven(
    folder: Path, approval: str = "edits", *words: str, **more: Any
) -> AbstractContextManager[House]:
    """A house whose worker is driven as OpenCode is."""
    worker: dict[str, Any] = {"model": "scripted/m", "approval": approval, **more}
    return live(folder, "opencode", "opencode_server.py", *words, **worker)


def of_run(run: dict[str, Any]) -> list[psutil.Process]:
    """The processes of a run."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            is_its = process.environ().get("AIAGENT_RUN_ID") == run["id"]
        except psutil.Error:
            continue
        found += [process] if is_its and process.status() != psutil.STATUS_ZOMBIE else []
    return found


def test_a_session_takes_a_task_to_a_sealed_commit(short_dir: Path):
    """What it used, called and tried again is told as events."""
    with driven(short_dir) as home:
        steps = ({"garbage": True}, {"retry": 2}, {"say": "All is well"}, WRITE, REPORT)
        task = home.add("Write", plan(*steps), check="grep -q session a.txt")["id"]
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        assert (run["outcome"], run["exit_code"], run["attempt"]) == ("succeeded", 0, 1)
        assert git(home.repo, "show", f"{run['commit']}:a.txt") == "by a session"
        assert [one["text"] for one in events(home, run, "text")] == ["All is well"]
        used = {"event": "usage", "in": 60, "out": 11, "cache": 40, "cost": 0.5, "is_total": False}
        assert events(home, run, "usage") == [used] * 5
        assert events(home, run, "context")[0] == {"event": "context", "used": 111, "limit": 1000}
        (again,) = events(home, run, "retry")
        assert (again["attempt"], again["reason"]) == (2, "Overloaded")
        (call,) = events(home, run, "tool_call")
        assert (call["name"], call["arguments"]) == ("coord_report_completed", REPORT["arguments"])
        (started,) = events(home, run, "started")
        assert started["servers"] == {"coord": "connected"}
        shown = home.shown(run["id"])
        assert shown["provider_session_id"] == started["session_id"]
        assert (shown["usage"]["in"], shown["usage"]["cost"]) == (300, 2.5)


def test_what_is_said_reaches_the_turn_whoever_is_killed(short_dir: Path):
    with driven(short_dir) as home:
        is_told_over_a_death(home, WRITE)


def test_an_interrupt_begins_the_next_turn_with_what_was_said(short_dir: Path):
    with driven(short_dir) as home:
        task = home.add("Write", plan(WAIT, WRITE, REPORT))["id"]
        run = home.running(task)
        until("it works", lambda: events(home, run, "started"))
        home.run("tell", task, "Leave that.", "--interrupt")
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        turns, words = heard(home, run)
        assert turns == 2
        assert "Leave that." in words[0]
        reasons = [one["stop_reason"] for one in events(home, run, "result")]
        assert reasons == ["aborted", "stop"]
        assert told(home, task) == [("turn", True)]


NO = "reject It is not allowed here. Do it another way, or go on without."
NO_RULE = "reject The rules of this agent do not allow it. Do it another way, or go on without."


@pytest.mark.parametrize(
    ("approval", "rules", "answers"),
    [
        ("edits", None, [NO, "once", NO, "once"]),
        ("ask", None, [f"plan {NO}", f"plan {NO}", f"plan {NO}", "plan once"]),
        ("bypass", None, ["once"] * 4),
        ("edits", {"mode": "policy", "allow": ["Bash(ls*)"]}, ["once", "once", NO_RULE, "once"]),
        ("ask", {"mode": "policy", "allow": ["Edit(src/*)"]}, [NO_RULE, "once", NO_RULE, "once"]),
    ],
)
def test_what_it_asks_leave_for_is_settled(
    short_dir: Path, approval: str, rules: dict[str, Any] | None, answers: list[str]
):
    """A no has words: without them its turn would be over."""
    more: dict[str, Any] = {"permissions": rules} if rules else {}
    asked: list[dict[str, Any]] = [
        {"ask": "bash", "patterns": ["ls -l"], "metadata": {"command": "ls -l"}},
        {"ask": "edit", "patterns": ["src/b"], "metadata": {"filepath": "src/b"}},
        {"ask": "edit", "metadata": {"files": [{"filePath": "src/b", "movePath": "/x"}]}},
        {"ask": "coord_get_my_task", "patterns": ["*"]},
    ]
    steps = [{**one, "into": f"{number}.txt"} for number, one in enumerate(asked)]
    with driven(short_dir, approval, **more) as home:
        task = home.add("Write", plan(*steps, {"question": "no.txt"}, REPORT))["id"]
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        said = [git(home.repo, "show", f"{run['commit']}:{one['into']}") for one in steps]
        assert said == answers


def test_a_session_is_gone_on_with_and_one_that_is_gone_begins_anew(short_dir: Path):
    ask = {"tool": "ask_human", "arguments": {"text": "Which?"}}
    with driven(short_dir, hold_seconds=0.2) as home:
        for is_there in (True, False):
            task = home.add("Write", plan(ask))["id"]
            first = home.last(task)
            assert (first["outcome"], first["reason"]) == ("suspended", "asked")
            if not is_there:
                (short_dir / "kept" / first["provider_session_id"]).unlink()
            home.run("task", "answer", task, "this")
            second = home.last(task, 2)
            (started,) = events(home, second, "started")
            assert (started["session_id"] == first["provider_session_id"]) == is_there
            home.run("task", "cancel", task)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"fail": 401}, "auth"),
        ({"fail": 429}, "rate_limited"),
        ({"fail": 529}, "overloaded"),
        ({"fail": "x", "name": "ContextOverflowError"}, "context_overflow"),
        ({"exit": 3}, "exit_nonzero"),
    ],
)
def test_how_it_fails_has_its_name(short_dir: Path, step: dict[str, Any], reason: str):
    with driven(short_dir) as home:
        task = home.add("Write", plan(step), max_attempts="1")["id"]
        run = home.last(task)
        assert (run["outcome"], run["reason"]) == ("failed", reason), home.log_text()


def test_a_server_that_others_could_reach_is_not_spoken_to(short_dir: Path):
    with driven(short_dir, "edits", "open") as home:
        task = home.add("Write", plan(WRITE, REPORT), max_attempts="1")["id"]
        run = home.last(task)
        assert run["outcome"] == "failed"
        (fault,) = events(home, run, "fault")
        assert "listens to others" in fault["text"]


def test_cancelled_in_the_middle_of_a_turn_it_ends_whole(short_dir: Path):
    with driven(short_dir) as home:
        task = home.add("Write", plan(WAIT, REPORT))["id"]
        home.running(task)
        home.run("task", "cancel", task)
        run = home.last(task)
        assert (run["outcome"], run["reason"]) == ("cancelled", "cancelled")
        assert run["leftovers"] == []
        assert of_run(run) == []


def test_a_killed_driver_leaves_no_server_behind(short_dir: Path):
    with driven(short_dir) as home:
        task = home.add("Write", plan(WAIT, REPORT), max_attempts="1")["id"]
        run = home.running(task)
        until("it works", lambda: events(home, run, "started"))
        served = [one for one in of_run(run) if str(FAKES / "opencode_server.py") in one.cmdline()]
        (driver,) = (
            one for one in served if "aiagent_coordinator.drivers.opencode" in one.cmdline()
        )
        assert len(served) > 1
        os.kill(driver.pid, signal.SIGKILL)
        ended = home.last(task)
        assert (ended["outcome"], ended["reason"]) == ("failed", "signal"), home.log_text()
        until("nothing is left", lambda: of_run(run) == [])
