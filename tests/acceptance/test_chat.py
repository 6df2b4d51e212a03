"""A person writes with agents that our own loop starts; real processes throughout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.house import HOLD, House, house, script, until

REPORT = {"report": {"result": "success", "summary": "done"}}


def _whom(home: House) -> tuple[str, ...]:
    (agent,) = [one["id"] for one in home.json("agent", "list")["agents"]]
    return ("--project", "app", "--agent", agent)


def _answers(home: House, whom: tuple[str, ...]) -> list[str]:
    found: list[dict[str, Any]] = home.json("chat", "show", *whom)["messages"]
    return [one["body"] for one in found if one["author"] == "agent"]


def test_an_agent_at_work_answers_in_a_session_beside_its_task(short_dir: Path):
    with house(short_dir) as home:
        home.ready()
        whom = _whom(home)
        task = home.add("Long", script(HOLD, REPORT))["id"]
        home.running(task)
        home.run("chat", "send", *whom, "How far are you?")
        until("it has answered", lambda: _answers(home, whom))
        home.run("chat", "send", *whom, "And now?")
        until("it has answered again", lambda: len(_answers(home, whom)) == 2)
        assert _answers(home, whom) == ["You wrote: How far are you?", "You wrote: And now?"]
        live = [run for run in home.runs() if run["phase"] != "ended"]
        assert sorted(run["purpose"] for run in live) == ["chat", "task"]
        (chat,) = [run for run in live if run["purpose"] == "chat"]
        assert chat["task_id"] is None
        home.go(task)
        assert home.finished(task)["status"] == "succeeded"
        assert "not answered" not in home.run("chat", "show", *whom).stdout
        home.run("stop")


def test_a_chat_goes_on_while_the_coordinator_is_started_anew(short_dir: Path):
    with house(short_dir) as home:
        home.ready()
        whom = _whom(home)
        home.run("chat", "send", *whom, "Hello?")
        until("it has answered", lambda: _answers(home, whom))
        home.run("stop")
        until("it is down", lambda: home.processes[-1].poll() is not None)
        home.ready()
        home.run("chat", "send", *whom, "Still there?")
        until("it has answered again", lambda: len(_answers(home, whom)) == 2)
        chats = [run for run in home.runs() if run["purpose"] == "chat"]
        assert len(chats) == 1, [(run["outcome"], run["reason"]) for run in chats]
