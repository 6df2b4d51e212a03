"""A question of an agent, by the real programs: answered in time, or in another run."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiagent_coordinator.wire.client import BlockingClient
from support.house import House, house, person, script, until
from support.repo import git

ASK = {"ask": {"text": "Which greeting?", "options": ["hello", "hi"]}}
REPORT = {"report": {"result": "success", "summary": "greeted"}}


def asked(client: BlockingClient) -> dict[str, Any]:
    """Wait for a question and give it."""

    def found() -> Any:
        return client.call("list_questions", {})["questions"]

    questions: list[dict[str, Any]] = until("a question is asked", found)
    return questions[0]


def test_a_question_that_is_answered_in_time_holds_its_run(short_dir: Path):
    """One run: it asks, hears, and goes on."""
    with house(short_dir) as home, _ready(home) as client:
        write = {"write": {"path": "hello.txt", "text": "hello\n"}}
        task = home.add("Greet", script(ASK, write, REPORT))
        question = asked(client)
        client.call("answer_question", {"question_id": question["id"], "answer": "hello"})
        assert home.finished(task["id"])["status"] == "succeeded"
        (run,) = home.runs(task["id"])
        assert (run["outcome"], run["attempt"]) == ("succeeded", 1)
        assert "answer: hello" in Path(run["log_path"]).read_text("utf-8")


def test_a_question_without_an_answer_ends_its_run_and_the_answer_begins_another(short_dir: Path):
    """What the first run did is there in the second, and no attempt was spent."""
    with house(short_dir, ask={"hold_seconds": 0.2}) as home, _ready(home) as client:
        before = {"write": {"path": "before.txt", "text": "kept\n"}}
        task = home.add("Greet", script(before, ASK, REPORT), check="grep -q kept before.txt")
        until("the run is over", lambda: _outcomes(home, task["id"]) == ["suspended"])
        (first,) = home.runs(task["id"])
        assert (first["reason"], first["exit_code"]) == ("asked", 0)
        assert git(home.repo, "show", f"{first['commit']}:before.txt") == "kept"
        waiting = client.call("get_task", {"task_id": task["id"]})["task"]
        assert (waiting["status"], waiting["wait_reason"]) == ("waiting", "input")
        assert waiting["question"]["text"] == "Which greeting?"
        client.call("answer_question", {"task_id": task["id"], "answer": "hi\nthere"})
        done = home.finished(task["id"])
        assert (done["status"], done["attempt"]) == ("succeeded", 1)
        _, second = home.runs(task["id"])
        assert (second["outcome"], second["attempt"]) == ("succeeded", 1)
        assert "answer: hi" in Path(second["log_path"]).read_text("utf-8")
        assert second["branch"] == first["branch"]


def test_an_agent_that_stays_although_it_was_told_to_leave_is_still_only_suspended(
    short_dir: Path,
):
    """It is cancelled here, so that nobody waits two minutes: its task ends with it."""
    with house(short_dir, ask={"hold_seconds": 0.2}) as home, _ready(home) as client:
        task = home.add("Greet", script(ASK))
        until("the run is over", lambda: _outcomes(home, task["id"]) == ["suspended"])
        client.call("cancel_task", {"task_id": task["id"]})
        assert home.task(task["id"])["status"] == "cancelled"


def test_a_question_survives_the_server_it_was_asked_of(short_dir: Path):
    """The agent keeps waiting while the server is killed and comes back."""
    with house(short_dir) as home:
        first = home.ready()
        task = home.add("Greet", script(ASK, REPORT))
        with person(home) as client:
            asked(client)
        first.kill()
        first.wait()
        home.ready()
        with person(home) as client:
            client.call("answer_question", {"task_id": task["id"], "answer": "hello"})
        assert home.finished(task["id"])["status"] == "succeeded"
        (run,) = home.runs(task["id"])
        assert "answer: hello" in Path(run["log_path"]).read_text("utf-8")


def _outcomes(home: House, task_id: str) -> list[str | None]:
    return [run["outcome"] for run in home.runs(task_id)]


@contextmanager
def _ready(home: House) -> Generator[BlockingClient]:
    home.ready()
    with person(home) as client:
        yield client
