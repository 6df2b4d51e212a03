"""Codex driven live, by the real programs: a scripted app-server in place of Codex."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from support.driven import REPORT, WAIT, events, heard, is_told_over_a_death, plan, told
from support.driven import driven as live
from support.house import House
from support.repo import git

WRITE = {"write": "a.txt", "text": "by a thread\n"}


def driven(folder: Path, approval: str = "edits", **more: Any) -> AbstractContextManager[House]:
    """A house whose worker is driven as Codex is."""
    return live(folder, "codex", "app_server.py", approval=approval, **more)


def test_a_thread_takes_a_task_to_a_sealed_commit(short_dir: Path):
    """What it used, called and tried again is told as events."""
    with driven(short_dir) as home:
        steps = ({"garbage": True}, {"retry": 1}, {"say": "All is well"}, WRITE, REPORT)
        task = home.add("Write", plan(*steps), check="grep -q thread a.txt")["id"]
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        assert (run["outcome"], run["exit_code"], run["attempt"]) == ("succeeded", 0, 1)
        assert git(home.repo, "show", f"{run['commit']}:a.txt") == "by a thread"
        assert [one["text"] for one in events(home, run, "text")] == ["All is well"]
        used = {"event": "usage", "in": 60, "out": 11, "cache": 40, "cost": None, "is_total": True}
        assert events(home, run, "usage") == [used]
        (again,) = events(home, run, "retry")
        assert (again["attempt"], again["most"], again["status"]) == (2, 5, 529)
        (call,) = events(home, run, "tool_call")
        assert call["name"] == "mcp__coord__report_completed"
        (started,) = events(home, run, "started")
        assert home.shown(run["id"])["provider_session_id"] == started["session_id"]


def test_what_is_said_reaches_the_turn_whoever_is_killed(short_dir: Path):
    with driven(short_dir) as home:
        is_told_over_a_death(home, WRITE)


def test_an_interrupt_begins_the_next_turn_with_what_was_said(short_dir: Path):
    with driven(short_dir) as home:
        task = home.add("Write", plan(WAIT, WRITE, REPORT))["id"]
        home.running(task)
        home.run("tell", task, "Leave that.", "--interrupt")
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        turns, words = heard(home, run)
        assert turns == 2
        assert "Leave that." in words[0]
        assert [one["stop_reason"] for one in events(home, run, "result")] == [
            "interrupted",
            "completed",
        ]
        assert told(home, task) == [("turn", True)]


@pytest.mark.parametrize(
    ("approval", "rules", "answers"),
    [
        ("edits", None, ["never decline", "never accept"]),
        ("bypass", None, ["never accept", "never accept"]),
        ("edits", {"mode": "policy", "allow": ["Bash(ls*)"]}, ["untrusted accept"] * 2),
        ("ask", {"mode": "policy"}, ["untrusted decline"] * 2),
    ],
)
def test_what_it_asks_leave_for_is_settled(
    short_dir: Path, approval: str, rules: dict[str, Any] | None, answers: list[str]
):
    more: dict[str, Any] = {"permissions": rules} if rules else {}
    with driven(short_dir, approval, **more) as home:
        asked = ({"command": "ls -l", "into": "1.txt"}, {"change": ["b.txt"], "into": "2.txt"})
        task = home.add("Write", plan(*asked, REPORT))["id"]
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        said = [git(home.repo, "show", f"{run['commit']}:{number}.txt") for number in (1, 2)]
        assert said == answers
        decided = [one["decision"] for one in events(home, run, "permission")]
        assert [one for one in decided if one != "asked"] == [
            "allowed" if "accept" in one else "denied" for one in answers
        ]


def decisions(home: House, *asked: dict[str, Any]) -> list[str]:
    """Have it ask for each, and give what it was answered."""
    steps = [{**one, "into": f"{number}.txt"} for number, one in enumerate(asked)]
    task = home.add("Ask", plan(*steps, REPORT))["id"]
    assert home.finished(task)["status"] == "succeeded", home.log_text()
    (run,) = home.runs(task)
    shown = [git(home.repo, "show", f"{run['commit']}:{one['into']}") for one in steps]
    return [one.split()[-1] for one in shown]


def test_each_file_of_a_change_needs_leave_of_its_own(short_dir: Path):
    """A rule for one of them says nothing of the others, nor of what a file becomes."""
    rules = {"mode": "policy", "allow": ["Edit(src/*)"]}
    with driven(short_dir, "ask", permissions=rules) as home:
        assert decisions(
            home,
            {"change": ["src/a.txt", "src/b.txt"]},
            {"change": ["src/a.txt", ".git/hooks/x"]},
            {"change": ["src/a.txt"], "to": "x.txt"},
            {"change": ["src/../x.txt"]},
            {"change": []},
        ) == ["accept", "decline", "decline", "decline", "decline"]


def test_an_approval_of_edits_ends_at_the_workspace(short_dir: Path):
    with driven(short_dir, permissions={"mode": "policy"}) as home:
        changes = (["b.txt"], [str(short_dir / "x")], ["b.txt", "../x"])
        answers = decisions(home, *({"change": paths} for paths in changes))
        assert answers == ["accept", "decline", "decline"]


def test_what_is_no_command_is_not_taken_for_one(short_dir: Path):
    """Its reason is a sentence of the agent, and what is typed into a program is read by that."""
    rules = {"mode": "policy", "allow": ["Bash(ls*)", "Network(https://example.org)"]}
    with driven(short_dir, permissions=rules) as home:
        where = {"protocol": "https", "host": "example.org"}
        asked: list[dict[str, Any]] = [
            {"command": "ls"},
            {"reason": "ls"},
            {"command": "ls", "kind": "writeStdin"},
            {"reason": "ls", "networkApprovalContext": {**where, "host": "example.com"}},
            {"command": "ls", "networkApprovalContext": where},
        ]
        answers = decisions(home, *({"command": "curl", "as": one} for one in asked))
        assert answers == ["accept", "decline", "decline", "decline", "accept"]


def test_a_thread_is_gone_on_with_and_one_that_is_gone_begins_anew(short_dir: Path):
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
        ({"fail": "unauthorized"}, "auth"),
        ({"fail": "serverOverloaded"}, "overloaded"),
        ({"fail": "usageLimitExceeded"}, "quota"),
        ({"fail": "contextWindowExceeded"}, "context_overflow"),
        ({"exit": 3}, "exit_nonzero"),
    ],
)
def test_how_it_fails_has_its_name(short_dir: Path, step: dict[str, Any], reason: str):
    with driven(short_dir) as home:
        task = home.add("Write", plan(step), max_attempts="1")["id"]
        run = home.last(task)
        assert (run["outcome"], run["reason"]) == ("failed", reason), home.log_text()


def test_cancelled_in_the_middle_of_a_turn_it_ends_whole(short_dir: Path):
    with driven(short_dir) as home:
        task = home.add("Write", plan(WAIT, REPORT))["id"]
        home.running(task)
        home.run("task", "cancel", task)
        run = home.last(task)
        assert (run["outcome"], run["reason"]) == ("cancelled", "cancelled")
        assert run["leftovers"] == []
