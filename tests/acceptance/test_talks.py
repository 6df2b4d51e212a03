"""Agents that our own loop starts talk with each other; real processes throughout."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.house import House, house, script, until

PURPOSE = "Agree on the colour"


@contextmanager
def pair(root: Path) -> Generator[House]:
    """A house with two agents in one project."""
    with house(root) as home:
        home.write(
            agents={name: {"provider": "rehearsal"} for name in ("worker", "helper")},
            projects=[
                {"id": "app", "path": str(home.repo), "agents": ["worker", "helper"]},
            ],
        )
        yield home


def delegating(home: House) -> str:
    """A task whose agent has its chat ask the helper, and goes on when it knows."""
    (helper,) = [one["id"] for one in home.json("agent", "list")["agents"] if one["id"] == "helper"]
    asked = {"target_agent_id": helper, "purpose": PURPOSE, "context": "Red?"}
    steps: tuple[dict[str, Any], ...] = (
        {"call": {"tool": "delegate_to_chat_session", "arguments": asked}},
        {"hear": {"action": "delegation_completed", "seconds": 100}},
        {"call": {"tool": "get_task_conversations"}},
        {"report": {"result": "success", "summary": "agreed"}},
    )
    return script(*steps)


def conversations(home: House) -> list[dict[str, Any]]:
    return home.json("chat", "conversations")["conversations"]


def check_talk(home: House, task: str) -> None:
    """The task knows what was said, once, and the conversation is over for everybody."""
    assert home.finished(task)["status"] == "succeeded"
    (run,) = home.runs(task)
    assert f"You said: {PURPOSE}" in home.run("logs", run["id"]).stdout
    (one,) = until(
        "both know that it is over",
        lambda: [each for each in conversations(home) if each["state"] == "ended"],
    )
    assert (one["initiator_agent_id"], one["participant_agent_id"]) == ("worker", "helper")
    assert (one["task_id"], one["end_reason"], one["ended_by"]) == (task, "ended", "worker")
    read = home.json("chat", "read", one["id"])
    assert [(said["sender_agent_id"], said["body"]) for said in read["messages"]] == [
        ("worker", f"{PURPOSE}\nRed?"),
        ("helper", f"You said: {PURPOSE}\nRed?"),
        ("worker", "Thank you."),
    ]
    assert one["id"] in home.run("chat", "conversations", "--agent", "helper").stdout
    shown = home.run("chat", "read", one["id"]).stdout
    assert "worker and helper in app, ended, 2 of 6 turns (ended, by worker)" in shown
    assert "Thank you." in shown
    # over already: it stays as it is
    ended = home.run("chat", "end", one["id"][:20]).stdout
    assert ended == f"Conversation {one['id']} is ended.\n"
    assert home.run("chat", "conversations", "--open").stdout == ""


def test_an_agent_at_work_has_its_chat_ask_another_agent_and_goes_on_with_the_answer(
    short_dir: Path,
) -> None:
    with pair(short_dir) as home:
        home.ready()
        task = home.add("Paint", delegating(home))["id"]
        check_talk(home, task)
        purposes = sorted((run["agent_id"], run["purpose"]) for run in home.runs())
        assert purposes == [("helper", "chat"), ("worker", "chat"), ("worker", "task")]
        home.down()


@pytest.mark.parametrize("tool", ["start_conversation", "send_message", "end_conversation"])
def test_a_server_killed_in_the_middle_of_a_conversation_goes_on_with_it(
    short_dir: Path, tool: str
) -> None:
    with pair(short_dir) as home:
        home.env["AIAGENT_FAILPOINT"] = f"tool.done/{tool}:1*kill"
        first = home.ready()
        task = home.add("Paint", delegating(home))["id"]
        until("it is killed", lambda: first.poll() is not None)
        del home.env["AIAGENT_FAILPOINT"]
        home.ready()
        check_talk(home, task)
        home.down()


@pytest.mark.parametrize(
    ("said", "outcome", "reason"),
    [("/leave", "succeeded", None), ("/vanish", "failed", "no_report")],
)
def test_a_chat_that_ends_by_itself_owes_no_report_but_an_answer(
    short_dir: Path, said: str, outcome: str, reason: str | None
) -> None:
    with pair(short_dir) as home:
        home.ready()
        home.run("chat", "send", "--project", "app", "--agent", "worker", said)
        (chat,) = until(
            "its session is over", lambda: [run for run in home.runs() if run["outcome"]]
        )
        assert (chat["purpose"], chat["outcome"], chat["reason"]) == ("chat", outcome, reason)
        home.down()
