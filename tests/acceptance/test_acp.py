"""Agents of the Agent Client Protocol, by the real programs: prompt, permission, interrupt, resume, and what breaks."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support import driven
from support.driven import REPORT, events
from support.house import House, until
from support.repo import git

WRITE = {"write": "a.txt", "text": "by an agent\n"}
plan = partial(driven.plan, fence="acp")


def agent(
    folder: Path, *words: str, approval: str = "edits", **more: Any
) -> AbstractContextManager[House]:
    """A house whose worker is an agent of the protocol."""
    return driven.driven(folder, "acp", "acp_agent.py", *words, approval=approval, **more)


def test_an_agent_of_the_protocol_takes_a_task_to_a_sealed_commit(short_dir: Path):
    """What it says in pieces is one text, and what nobody knows is passed over."""
    with agent(short_dir) as home:
        steps = ({"say": "All is well"}, {"odd": True}, {"garbage": True}, WRITE, REPORT)
        task = home.add("Write", plan(*steps), check="grep -q agent a.txt")["id"]
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        assert (run["outcome"], run["exit_code"], run["attempt"]) == ("succeeded", 0, 1)
        assert git(home.repo, "show", f"{run['commit']}:a.txt") == "by an agent"
        assert [one["text"] for one in events(home, run, "text")] == ["All is well "]
        used = {"event": "usage", "in": 60, "out": 11, "cache": 40, "cost": None, "is_total": False}
        assert events(home, run, "usage") == [used]
        (started,) = events(home, run, "started")
        assert home.shown(run["id"])["provider_session_id"] == started["session_id"]


YES, NO = "allow_once", "reject_once"


@pytest.mark.parametrize(
    ("approval", "answers"),
    [
        ("ask", [YES, YES, NO, NO, NO, YES, NO]),
        ("edits", [YES, YES, NO, YES, NO, YES, NO]),
        ("bypass", [YES] * 7),
    ],
)
def test_the_approval_answers_what_the_agent_asks_for(
    short_dir: Path, approval: str, answers: list[str]
):
    """By the kind of the offered answers: their ids are the agent's own."""
    wanted = [
        ("read", "Reading a.txt"),
        ("other", "coord_get_next_action"),
        ("other", "other_get_next_action"),
        ("edit", "Writing a.txt"),
        ("execute", "echo coord get_next_action"),
    ]
    asks: list[dict[str, Any]] = [{"ask": kind, "title": title} for kind, title in wanted]
    # some say only in this place which tool it is
    asks += [
        {"ask": "other", "title": "{}", "tool": f"mcp__{server}__get_my_task"}
        for server in ("coord", "evil")
    ]
    asks = [{**one, "into": f"asked-{number}"} for number, one in enumerate(asks)]
    with agent(short_dir, approval=approval) as home:
        task = home.add("Ask", plan(*asks, REPORT))["id"]
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        given = [git(home.repo, "show", f"{run['commit']}:{one['into']}") for one in asks]
        assert given == answers
        said = [one["decision"] for one in events(home, run, "permission")]
        assert said == ["allowed" if one == YES else "denied" for one in answers]


def test_each_file_of_a_change_counts_and_edits_end_at_the_workspace(short_dir: Path):
    files: list[dict[str, Any]] = [
        {"input": {"path": "a"}, "files": ["a", "b"]},
        {"input": {"path": "a"}, "files": ["a", str(short_dir / "b")]},
        {"input": {"path": "../b"}},
    ]
    asks = [
        {"ask": "edit", "title": "Writing a", "into": f"asked-{number}", **one}
        for number, one in enumerate(files)
    ]
    with agent(short_dir) as home:
        task = home.add("Ask", plan(*asks, REPORT))["id"]
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        given = [git(home.repo, "show", f"{run['commit']}:{one['into']}") for one in asks]
        assert given == [YES, NO, NO]


def test_an_interrupt_cancels_the_turn_and_begins_another(short_dir: Path):
    with agent(short_dir) as home:
        task = home.add("Hang", plan({"hang": True}, WRITE, REPORT))["id"]
        run = home.running(task)
        until("it hangs", lambda: events(home, run, "started"))
        home.run("tell", task, "write it and report", "--interrupt")
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        heard = json.loads(git(home.repo, "show", f"{run['commit']}:heard.json"))
        assert heard == [2, "write it and report"]
        reasons = [one["stop_reason"] for one in events(home, run, "result")]
        assert reasons == ["cancelled", "end_turn"]
        assert (run["outcome"], run["exit_code"]) == ("succeeded", 0)


@pytest.mark.parametrize("words", [("load",), ("resume",), ()])
def test_a_session_is_gone_on_with_where_the_agent_can(short_dir: Path, words: tuple[str, ...]):
    """What it tells of the old story again is not said twice."""
    with agent(short_dir, *words) as home:
        task = home.add("Fail first", plan(WRITE, {"exit": 3}), max_attempts="2")["id"]
        home.last(task, runs=2)
        first, second = home.runs(task)
        (begun,), (again,) = events(home, first, "started"), events(home, second, "started")
        assert (begun["session_id"] == again["session_id"]) == bool(words)
        assert events(home, second, "text") == []


def test_a_run_that_is_stopped_lets_the_agent_end_its_turn(short_dir: Path):
    with agent(short_dir) as home:
        task = home.add("Hang", plan({"hang": True}))["id"]
        run = home.running(task)
        until("it hangs", lambda: events(home, run, "started"))
        home.run("task", "cancel", task)
        home.over(run["id"])
        reasons = [one["stop_reason"] for one in events(home, run, "result")]
        assert reasons in (["cancelled"], [])
        assert home.shown(run["id"])["outcome"] == "cancelled"


@pytest.mark.parametrize(
    ("step", "reason"),
    [({"exit": 3}, "exit_nonzero"), ({"fail": "rate limit reached"}, "rate_limited")],
)
def test_an_agent_that_breaks_says_why(short_dir: Path, step: dict[str, Any], reason: str):
    with agent(short_dir) as home:
        task = home.add("Break", plan(step), max_attempts="1")["id"]
        run = home.last(task)
        assert (run["reason"], run["exit_code"]) == (reason, 1), home.log_text()
        assert events(home, run, "fault")


def test_an_agent_that_ignores_the_end_of_its_input_is_ended(short_dir: Path):
    with agent(short_dir, "deaf") as home:
        task = home.add("Stay", plan(WRITE, REPORT))["id"]
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        assert (run["outcome"], run["exit_code"]) == ("succeeded", 0)
