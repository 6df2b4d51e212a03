"""A question of an agent, by the real programs: answered in time, or in another run."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiagent_coordinator.wire.client import BlockingClient
from support.house import PATIENCE_SECONDS, House, house, person, script, until
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


#: A rehearsal that is given its prompt as a file and reads answers on its standard input.
READER = """
schema = 1
name = "reader"
title = "Reader"

[detect]
executable = "{python}"

[launch]
command = ["-I", "-m", "aiagent_coordinator.rehearsal"]
args = [["--mcp-config", "{mcp_config_file}", "--prompt-file", "{prompt_file}"]]
prompt = "file"
answers = "stdin"

[mcp]
style = "file"
stdio = { command = "{bridge_command}", args = "{bridge_args}" }
"""


def _reader(home: House) -> None:
    folder = home.root / "home/config/aiagent-coordinator/providers"
    folder.mkdir(parents=True)
    (folder / "reader.toml").write_text(READER, "utf-8")
    home.write(agents={"worker": {"provider": "reader"}})


def _moves(home: House, task_id: str) -> list[str]:
    with person(home) as client:
        events = client.call("list_events", {"task_id": task_id})["events"]
    return [e["data"]["transition"] for e in events if e["action"] == "task.status"]


def test_a_program_that_reads_its_standard_input_gets_the_answer_there_once(short_dir: Path):
    """Waiting, running, succeeded, all in one run: it is not suspended although nobody answers in
    the time that a call would be held."""
    with house(short_dir, ask={"hold_seconds": 0}) as home:
        _reader(home)
        home.ready()
        task = home.add("Greet", script(ASK, {"say": {"text": "go on"}}, ASK_AGAIN, REPORT))["id"]
        with person(home) as client:
            asked(client)
            assert client.call("get_task", {"task_id": task})["task"]["wait_reason"] == "input"
            home.run("task", "answer", task, "hello there")
            until("it goes on", lambda: _answers(home, task) == ["answer: hello there"])
            assert asked(client)["text"] == "Are you sure?"
            (run,) = home.runs(task)
            assert run["phase"] == "running"
            home.run("task", "answer", task, "yes")
        assert home.finished(task)["status"] == "succeeded"
        assert len(home.runs(task)) == 1
        assert _answers(home, task) == ["answer: hello there", "answer: yes"]
        assert _moves(home, task) == ["T1", "T4", "T5", "T9", "T5", "T9", "T13"]


def test_an_answer_reaches_a_program_that_outlived_its_coordinator(short_dir: Path):
    """Killed between question and answer; the next life delivers it, and never twice."""
    with house(short_dir) as home:
        _reader(home)
        first = home.ready()
        task = home.add("Greet", script(ASK, ASK_AGAIN, REPORT))["id"]
        with person(home) as client:
            asked(client)
        first.kill()
        first.wait()
        second = home.ready("serve")
        home.run("task", "answer", task, "hello")
        home.run("stop")
        assert second.wait(PATIENCE_SECONDS) == 0
        third = home.ready()
        with person(home) as client:
            assert asked(client)["text"] == "Are you sure?"
        third.kill()
        third.wait()
        home.ready()
        home.run("task", "answer", task, "yes")
        assert home.finished(task)["status"] == "succeeded"
        assert _answers(home, task) == ["answer: hello", "answer: yes"]


ASK_AGAIN = {"ask": {"text": "Are you sure?"}}


def _answers(home: House, task_id: str) -> list[str]:
    """What the agent said it was answered, as its program printed it."""
    (run,) = home.runs(task_id)
    out = (home.state / "run" / run["id"] / "out").read_text("utf-8")
    return [line for line in out.splitlines() if line.startswith("answer:")]
