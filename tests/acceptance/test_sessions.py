"""The session of an agent's own program, and what a definition says of it, by the real programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from support.house import House, house, script, until
from support.repo import git

ASK = {"ask": {"text": "Which greeting?"}}
REPORT = {"report": {"result": "success", "summary": "greeted"}}
AGENT = """
schema = 1
name = "{name}"
title = "A rehearsal with other words"

[detect]
executable = "{{python}}"

[launch]
command = ["-I", "-m", "aiagent_coordinator.rehearsal"]
args = [["--mcp-config", "{{mcp_config_file}}"]]
{launch}

[mcp]
style = "file"
stdio = {{ type = "stdio", command = "{{bridge_command}}", args = "{{bridge_args}}" }}
tool_timeout = "{timeout}"
"""
#: Prints the words it was started with.
TELLER = """
schema = 1
name = "teller"
title = "Teller"

[detect]
executable = "{python}"

[launch]
command = ["-I", "-c", "import sys; print(*sys.argv[1:])"]
args = [["--max-turns", "{max_turns}"], ["--allow", "{mcp_tools}"]]

[mcp]
style = "file"
stdio = { command = "{bridge_command}", args = "{bridge_args}" }
tool_name = "mcp__{server}__{tool}"

[outcome]
exit0_is_success = true
"""


def provider(home: House, name: str, text: str) -> None:
    """Give the user a definition of their own."""
    folder = home.root / "home/config/aiagent-coordinator/providers"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text, "utf-8")


def suspended(home: House, task_id: str) -> Mapping[str, Any]:
    """Wait until the task's first run is over, for its question."""
    until(
        "the run is over", lambda: [run["outcome"] for run in home.runs(task_id)] == ["suspended"]
    )
    return home.runs(task_id)[0]


def shown(home: House, run: Mapping[str, Any]) -> dict[str, Any]:
    return home.json("run", "show", run["id"])


def log_of(run: Mapping[str, Any]) -> str:
    return Path(run["log_path"]).read_text("utf-8")


def test_a_run_that_was_suspended_goes_on_with_the_session_of_its_program(short_dir: Path):
    """The words are those of the definition's `resume`; the first run had none to go on with."""
    with house(short_dir, ask={"hold_seconds": 0.2}) as home:
        home.ready()
        task = home.add("Greet", script(ASK, REPORT))["id"]
        first = shown(home, suspended(home, task))
        home.run("task", "answer", task, "hello")
        assert home.finished(task)["status"] == "succeeded"
        second = shown(home, home.runs(task)[1])
        assert first["resumed_session_id"] is None
        assert first["provider_session_id"]
        assert second["resumed_session_id"] == first["provider_session_id"]
        assert f"resumed: {first['provider_session_id']}" in log_of(second)
        assert "resumed:" not in log_of(first)
        assert "answer: hello" in log_of(second)


def test_a_session_that_lies_in_the_runs_own_folder_is_given_to_the_next_run(short_dir: Path):
    """Its plain files are, no link; and a task that is over keeps none of it."""
    keeps = (
        'resume = [["--resume", "{provider_session_id}"]]\n'
        'own_session_id = [["--session-id", "{new_uuid}"]]\n'
        'session_files = ["chats/*"]\nenv = { PLACE = "{files_dir}" }'
    )
    words = (
        'ls "$PLACE/chats" >>seen.txt 2>/dev/null; mkdir -p "$PLACE/chats"; cd "$PLACE/chats";'
        "echo said >one; ln -sf /etc/passwd two"
    )
    with house(short_dir, ask={"hold_seconds": 0.2}) as home:
        provider(home, "keeper", AGENT.format(name="keeper", launch=keeps, timeout="120s"))
        home.write(agents={"worker": {"provider": "keeper"}})
        home.ready()
        task = home.add("Greet", script({"run": {"argv": ["sh", "-c", words]}}, ASK, REPORT))["id"]
        first = suspended(home, task)
        home.run("task", "answer", task, "hello")
        assert home.finished(task)["status"] == "succeeded"
        second = home.over(home.runs(task)[1]["id"])
        assert second["resumed_session_id"] == first["provider_session_id"]
        assert git(home.repo, "show", f"{second['commit']}:seen.txt") == "one"
        kept = home.state / "run" / first["id"] / "session"
        assert [file.name for file in kept.rglob("*") if file.is_file()] == ["one"]
        assert not (home.state / "run" / second["id"] / "session").exists()
        # where somebody took it away, the next session is a new one
        again = home.add("Greet", script(ASK, REPORT))["id"]
        suspended(home, again)
        home.run("task", "answer", again, "hello")
        assert home.finished(again)["status"] == "succeeded"
        assert shown(home, home.runs(again)[1])["resumed_session_id"] is None


def test_a_session_that_is_gone_costs_no_attempt_and_the_hand_off_goes_on(short_dir: Path):
    """The program refuses to go on: the next run begins a session of its own."""
    with house(short_dir, ask={"hold_seconds": 0.2}) as home:
        refused = 'resume = [["--no-such-session", "{provider_session_id}"]]\n'
        refused += 'own_session_id = [["--session-id", "{new_uuid}"]]'
        provider(home, "forgetful", AGENT.format(name="forgetful", launch=refused, timeout="120s"))
        home.write(agents={"worker": {"provider": "forgetful"}})
        home.ready()
        task = home.add("Greet", script(ASK, REPORT), max_attempts="1")["id"]
        suspended(home, task)
        home.run("task", "answer", task, "hello")
        done = home.finished(task)
        assert (done["status"], done["attempt"]) == ("succeeded", 1)
        _, refused_run, last = home.runs(task)
        assert (refused_run["reason"], refused_run["exit_code"]) == ("spawn_failed", 2)
        assert shown(home, last)["resumed_session_id"] is None
        assert "answer: hello" in log_of(last)


def test_a_program_that_cannot_resume_is_given_the_hand_off(short_dir: Path):
    with house(short_dir) as home:
        provider(home, "plain", AGENT.format(name="plain", launch="", timeout="120s"))
        home.write(agents={"worker": {"provider": "plain"}})
        home.ready()
        attempts = [[{"fail_report": {"summary": "could not find the door"}}], [REPORT]]
        task = home.add("Open", script(attempts=attempts))["id"]
        assert home.finished(task)["attempt"] == 2
        _, second = home.runs(task)
        assert shown(home, second)["resumed_session_id"] is None
        assert "could not find the door" in home.task(task)["handoff"]


def test_turns_and_tools_reach_a_program_whose_definition_wants_them(short_dir: Path):
    with house(short_dir) as home:
        provider(home, "teller", TELLER)
        home.write(
            agents={"worker": {"provider": "teller"}, "brief": {"provider": "short"}},
            ai_providers={"short": {"like": "teller", "max_turns": 7}},
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        home.ready()
        limited = home.add("Tell", agent="brief")["id"]
        free = home.add("Tell")["id"]
        for task, words in ((limited, "--max-turns 7 --allow mcp__coord__"), (free, "--allow mcp")):
            assert home.finished(task)["status"] == "succeeded"
            told = log_of(home.runs(task)[0]).splitlines()[1]
            assert f"out {words}" in told
            assert "mcp__coord__report_completed" in told.split()


def test_a_question_is_never_held_longer_than_its_program_waits_for_a_call(short_dir: Path):
    """The settings say 40 s, the program gives a call up after 16 s: it is answered after one."""
    with house(short_dir, ask={"hold_seconds": 40}) as home:
        provider(home, "hasty", AGENT.format(name="hasty", launch="", timeout="16s"))
        home.write(agents={"worker": {"provider": "hasty"}})
        home.ready()
        task = home.add("Greet", script(ASK, REPORT))["id"]
        suspended(home, task)
        (question,) = home.task(task)["questions"]
        asked, until_then = (
            datetime.fromisoformat(question[k]) for k in ("asked_at", "hold_until")
        )
        assert (until_then - asked).total_seconds() == 1


def test_the_diagnostics_of_a_run_are_in_its_folder_and_shown_with_it(short_dir: Path):
    """A run that fails its check: what ran, how long, what it printed, and which check failed."""
    with house(short_dir) as home:
        home.ready()
        noise = {"say": {"text": "looking around"}}
        file = {"write": {"path": "a.txt", "text": "one\ntwo\n"}}
        task = home.add("Dig", script(noise, file, REPORT), check="false", max_attempts="1")["id"]
        assert home.finished(task)["status"] == "failed"
        (run,) = home.runs(task)
        assert "summary" not in run
        summary = shown(home, run)["summary"]
        kept = json.loads((home.state / "run" / run["id"] / "summary.json").read_text("utf-8"))
        assert kept == summary
        assert (summary["status"], summary["reason"]) == ("verify_failed", "verify_failed")
        assert (summary["reported"], summary["exit_code"]) == ("success", 0)
        assert [check["argv"] for check in summary["checks"]] == [["false"]]
        names = [stage["name"] for stage in summary["stages"]]
        assert names == ["claim", "prepare", "launch", "watch", "exit", "seal", "verify"]
        assert "looking around" in summary["output"]
        assert summary["seconds"] > 0
        changes = [summary[name] for name in ("files_changed", "lines_added", "lines_deleted")]
        assert changes == [1, 2, 0]
        assert summary["session"]["resumed"] is None
