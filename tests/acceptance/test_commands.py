"""What a developer types every day, through the real programs on a real repository."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.executors.inspection import is_held
from support.house import COORDINATOR, HOLD, PATIENCE_SECONDS, House, house, script, until
from support.repo import make_repo

SUCCESS = {"report": {"result": "success", "summary": "done"}}
FAILURE = {"report": {"result": "failed", "summary": "no idea"}}


def running(home: House, task_id: str) -> dict[str, Any]:
    """Wait until a run of the task runs."""
    return until(
        "a run runs",
        lambda: next((r for r in home.runs(task_id) if r["phase"] == "running"), None),
    )


def test_projects_and_agents_are_added_shown_paused_and_resumed(short_dir: Path):
    """`project add|list|show|pause|resume|archive` and `agent add|list|show`."""
    with house(short_dir) as home:
        home.ready()
        second = short_dir / "second"
        make_repo(second)
        made = home.json("project", "add", "second", "--path", "second", "--check", "git diff")
        assert (made["path"], made["checks"]) == (str(second), [{"argv": ["git", "diff"]}])
        agent = home.json("agent", "add", "helper", "--provider", "rehearsal", "--project", "sec")
        assert (agent["approval"], agent["projects"]) == ("edits", ["second"])
        assert {p["id"] for p in home.json("project", "list")["projects"]} == {"app", "second"}
        assert {a["id"] for a in home.json("agent", "list")["agents"]} == {"helper", "worker"}
        assert home.json("project", "show", "second")["agents"] == ["helper", "worker"]
        assert home.json("agent", "show", "help")["projects"] == ["second"]
        assert "second" in home.run("project", "list").stdout
        assert home.run("project", "pause", "second").stdout == "Project second is paused.\n"
        task = home.add("Wait", script(SUCCESS), project="second", agent="helper")
        told = home.run("explain", task["id"]).stdout
        assert "1. project second is paused" in told
        assert "what helps: project resume second" in told
        home.run("project", "resume", "second")
        assert home.finished(task["id"])["status"] == "succeeded"
        assert home.json("project", "archive", "second")["status"] == "archived"


def test_what_is_declared_is_not_added_twice(short_dir: Path):
    """The file owns what it declares."""
    with house(short_dir) as home:
        home.ready()
        for words in (("project", "add", "app", "--path", "repo"), ("agent", "add", "worker", "--provider", "rehearsal")):  # fmt: skip
            done = home.run(*words, check=False)
            assert done.returncode == 6, done.stderr
            assert len(done.stderr.splitlines()) <= 2


def test_a_question_is_shown_explained_and_answered(short_dir: Path):
    """`explain`, `task show` and `task answer` on a task that asks."""
    with house(short_dir) as home:
        home.write(ask={"hold_seconds": 60})
        home.ready()
        task = home.add("Ask", script({"ask": {"text": "Red or blue?"}}, SUCCESS))
        until("it asks", lambda: home.task(task["id"])["wait_reason"] == "input")
        assert f"task answer {task['id']} TEXT" in home.run("explain", task["id"]).stdout
        assert "Red or blue?" in home.run("task", "show", task["id"]).stdout
        assert home.run("status").stdout.splitlines()[-1] == "Questions: 1."
        home.run("task", "answer", task["id"], "blue")
        assert home.finished(task["id"])["status"] == "succeeded"
        shown = home.json("task", "show", task["id"])
        assert [one["answer"] for one in shown["questions"]] == ["blue"]
        again = home.run("task", "answer", task["id"], "red", check=False)
        assert again.returncode == 6, again.stderr


def test_a_failed_task_is_put_back(short_dir: Path):
    """`task retry` gives another attempt, which succeeds here."""
    with house(short_dir) as home:
        home.write(retry={"max_attempts": 1, "backoff_seconds": [0.1]})
        home.ready()
        task = home.add("Twice", script(attempts=[[FAILURE], [SUCCESS]]))
        assert home.finished(task["id"])["status"] == "failed"
        assert home.run("explain", task["id"]).stdout.count("task retry") == 1
        home.run("task", "retry", task["id"])
        assert home.finished(task["id"])["status"] == "succeeded"


PRINTED = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jgone sess_0123456789abcdef0123456789abcdef 日本"
)


def test_logs_show_what_was_printed_without_secrets_or_terminal_control(short_dir: Path):
    """`logs` of a task and of a run, plain, as JSON, and on a terminal."""
    with house(short_dir) as home:
        home.ready()
        task = home.add("Talk", script({"say": PRINTED}, SUCCESS))
        home.finished(task["id"])
        (run,) = home.runs(task["id"])
        plain = home.run("logs", task["id"]).stdout
        assert plain == home.run("logs", run["id"]).stdout
        assert "red gone [masked] 日本" in plain
        assert "\x1b" not in plain
        lines = [json.loads(line) for line in home.run("logs", "--json", run["id"]).stdout.splitlines()]  # fmt: skip
        assert "red gone [masked] 日本" in [line["message"] for line in lines]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["ts"]) for line in lines)
        shown = on_terminal(home, "logs", run["id"])
        assert "\x1b[31mred\x1b[0m gone [masked] 日本\x1b[0m" in shown
        assert not re.sub(r"\x1b\[[0-9;:]*m", "", shown).count("\x1b")


def test_readable_logs_go_where_the_configuration_says(short_dir: Path):
    """`log_directory` in the file."""
    with house(short_dir) as home:
        home.write(log_directory="mine")
        home.ready()
        task = home.add("Work", script(SUCCESS))
        home.finished(task["id"])
        (run,) = home.runs(task["id"])
        assert Path(run["log_path"]).is_relative_to(short_dir / "mine")
        assert "* report success" in Path(run["log_path"]).read_text("utf-8")


def test_logs_are_followed_until_the_run_is_over(short_dir: Path):
    """`logs -f` prints what comes and ends by itself."""
    with house(short_dir) as home:
        home.ready()
        steps = [{"say": "first"}, {"sleep": {"seconds": 2}}, {"say": "last"}]
        task = home.add("Slow", script(*steps, SUCCESS))
        running(home, task["id"])
        until("it printed", lambda: "first" in home.run("logs", task["id"], check=False).stdout)
        followed = home.run("logs", "-f", task["id"]).stdout
        assert followed.count(" out first\n") == 1
        assert followed.count(" out last\n") == 1


def test_logs_of_a_task_without_a_run_say_so(short_dir: Path):
    """Nothing is there, and what to ask instead is named."""
    with house(short_dir) as home:
        home.ready()
        home.run("project", "pause", "app")
        task = home.add("Never")
        done = home.run("logs", task["id"], check=False)
        assert done.returncode == 5
        assert f"aiagent-coordinator explain {task['id']}" in done.stderr


def test_until_done_ends_with_0_when_everything_succeeded(short_dir: Path):
    """`--until-done` works off the board and ends."""
    with house(short_dir) as home:
        process = home.ready("serve")
        home.add("Work", script(SUCCESS))
        home.run("stop")
        assert process.wait(PATIENCE_SECONDS) == 0
        assert home.start("--until-done").wait(PATIENCE_SECONDS) == 0
        assert "Every task succeeded." in home.log_text()


def test_until_done_ends_with_1_and_the_list_otherwise(short_dir: Path):
    """A failed task and one that depends on it: nothing moves any more."""
    with house(short_dir) as home:
        home.write(retry={"max_attempts": 1})
        home.ready("serve")
        failing = home.add("Fail", script(FAILURE))
        waiting = home.add("Then this", script(SUCCESS), depends_on=failing["id"])
        home.run("stop")
        assert home.start("--until-done").wait(PATIENCE_SECONDS) == 1
        listed = home.log_text().rpartition("2 task(s) did not succeed:")[2]
        assert failing["id"] in listed
        assert waiting["id"] in listed


def test_drain_waits_for_the_last_run_and_starts_nothing_more(short_dir: Path):
    """`stop --drain` lets the run end and leaves the queue."""
    with house(short_dir) as home:
        process = home.ready()
        first = home.add("Slow", script(HOLD, SUCCESS))
        running(home, first["id"])
        drain = subprocess.Popen(
            [*COORDINATOR, "stop", "--drain", "--config", str(home.config)],
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **home.env},
        )
        until("it drains", lambda: home.logged("daemon.stopping"))
        second = home.add("Later", script(SUCCESS))
        home.go(first["id"])
        assert drain.communicate(timeout=PATIENCE_SECONDS)[0] == "Stopped. No agent is running.\n"
        assert process.wait(PATIENCE_SECONDS) == 0
        home.ready("serve")
        assert home.task(first["id"])["status"] == "succeeded"
        assert home.runs(second["id"]) == []


@pytest.mark.parametrize("then", [(), ("--then", "leave"), ("--then", "kill")])
def test_a_drain_with_a_limit_names_who_is_left_and_stops_as_it_was_told(
    short_dir: Path, then: tuple[str, ...]
):
    """A run that takes longer than somebody may wait: it keeps running, or is ended and begins anew."""
    with house(short_dir) as home:
        home.write(agents={"worker": {"provider": "rehearsal", "max_concurrent": 2}})
        process = home.ready()
        quick, slow = (home.add(name, script(HOLD, SUCCESS)) for name in ("Quick", "Slow"))
        run = running(home, slow["id"])
        running(home, quick["id"])
        home.go(quick["id"])
        home.finished(quick["id"])
        done = home.run("stop", "--drain", "--timeout", "1", *then)
        first, left, last = done.stdout.splitlines()
        assert first == "After 1 s still at work: 1"
        assert left.strip() == f"{run['id']}: agent worker in project app, task {slow['id']}"
        assert process.wait(PATIENCE_SECONDS) == 0
        lives = is_held(home.state / "run" / run["id"])
        assert lives is ("kill" not in then)
        assert last == (
            "Stopped. 1 run keeps running; the next start takes it over."
            if lives
            else "Stopped. No agent is running."
        )
        home.ready()
        running(home, slow["id"])
        home.go(slow["id"])
        assert home.finished(slow["id"])["status"] == "succeeded"
        assert [one["outcome"] for one in home.runs(slow["id"])] == (
            ["succeeded"] if lives else ["stopped", "succeeded"]
        )


@pytest.mark.parametrize(
    "words", [("stop", "--kill", "--drain"), ("stop", "--then", "kill"), ("--until-done", "status")]
)
def test_what_contradicts_itself_is_refused(short_dir: Path, words: tuple[str, ...]):
    """One line, status 2, nothing done."""
    with house(short_dir) as home:
        done = home.run(*words, check=False)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def on_terminal(home: House, *words: str, columns: int = 80) -> str:
    """Run a command on a terminal and give what it showed."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COORDINATOR, *words, "--config", str(home.config)],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, **home.env, "TERM": "xterm-256color", "COLUMNS": str(columns)},
        cwd=home.root,
    )
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(controller, 65536):
            shown += part
    except OSError:  # Linux says EIO at the end
        pass
    os.close(controller)
    assert process.wait(PATIENCE_SECONDS) == 0
    return shown.decode("utf-8")


def test_a_change_of_the_file_counts_while_it_runs_and_a_wrong_one_is_refused(short_dir: Path):
    """A new project works without a restart; an unusable file changes nothing and is told."""
    with house(short_dir) as home:
        home.ready()
        second = short_dir / "second"
        make_repo(second)
        good = home.config.read_text("utf-8")
        home.config.write_text(good + "zzz: 1\n", "utf-8")
        (refused,) = until("it is told", lambda: home.logged("config.refused"))
        assert "zzz: unknown setting" in refused["reason"]
        projects = [*home.settings["projects"], {"id": "second", "path": str(second)}]
        home.write(projects=projects, max_concurrent=5, max_finishing=3)
        (changed,) = until("it is taken up", lambda: home.logged("config.changed"))
        assert "max_concurrent" in changed["live"]
        assert changed["next_start"] == ["max_finishing"]
        task = home.add("Work", script(SUCCESS), project="second")
        assert home.finished(task["id"])["status"] == "succeeded"
        home.write(projects=[{**projects[0], "path": str(second)}])
        until("it is refused", lambda: len(home.logged("config.refused")) == 2)
        assert home.json("project", "show", "app")["path"] == str(home.repo)


def test_an_agent_that_vanishes_from_the_file_ends_its_run_and_gets_no_new_one(short_dir: Path):
    """What runs goes on to its end; what is no longer declared cannot be named."""
    with house(short_dir) as home:
        home.ready()
        task = home.add("Slow", script({"sleep": {"seconds": 3}}, SUCCESS))
        running(home, task["id"])
        projects = [{**home.settings["projects"][0], "agents": ["other"]}]
        home.write(agents={"other": {"provider": "rehearsal"}}, projects=projects)
        until("it is taken up", lambda: home.logged("config.changed"))
        words = ("task", "add", "--project", "app", "--agent", "worker", "--title", "Again")
        done = home.run(*words, check=False)
        assert done.returncode == 5
        assert done.stderr.startswith("error: there is no agent 'worker'\n")
        assert home.finished(task["id"])["status"] == "succeeded"
