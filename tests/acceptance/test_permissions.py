"""What programs ask leave for goes to rules and to persons, by the real programs."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.house import House, house, until
from support.repo import git

FAKES = Path(__file__).parent.parent / "fakes"
REPORT: dict[str, Any] = {
    "tool": "report_completed",
    "arguments": {"result": "success", "summary": "did it"},
}


def plan(name: str, *steps: dict[str, Any]) -> str:
    return f"Do it.\n\n```{name}\n{json.dumps(list(steps))}\n```\n"


@contextmanager
def asking(folder: Path, permissions: dict[str, Any], **more: Any) -> Generator[House]:
    """A house whose worker is a CLI that asks a tool of ours for leave."""
    program = shlex.join([sys.executable, str(FAKES / "live_cli.py")])
    entry = {"kick_command": program, "like": "claude"}
    with house(folder, ai_providers={"asker": entry}, **more) as home:
        home.write(agents={"worker": {"provider": "asker", "permissions": permissions}})
        home.ready()
        yield home


def question(home: House) -> dict[str, Any]:
    def found() -> Any:
        return home.ask("list_questions")["questions"]

    return until("somebody is asked", found)[0]


def shown(home: House, run: dict[str, Any], name: str = "asked") -> list[str]:
    return git(home.repo, "show", f"{run['commit']}:{name}").splitlines()


def test_rules_answer_what_they_know_and_nobody_is_asked(short_dir: Path):
    rules = {"mode": "policy", "allow": ["Bash(git status*)"], "deny": ["Bash(git push*)"]}
    with asking(short_dir, rules) as home:
        commands = ("git status -s", "git push origin", "make")
        steps = [{"ask": command, "into": "asked"} for command in commands]
        task = home.add("Ask", plan("live", *steps, REPORT))["id"]
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        first, second, third = shown(home, run)
        assert first == "allow"
        assert second.startswith("deny A rule of this agent denies it")
        assert third.startswith("deny The rules of this agent do not allow it")
        assert home.task(task)["questions"] == []


def test_a_person_is_asked_for_what_no_rule_knows(short_dir: Path):
    """A secret in it is not shown; a yes with a but is a no, with its words."""
    token = "ghp_" + "a" * 36
    with asking(short_dir, {"mode": "ask"}) as home:
        steps = [{"ask": f"curl -H {token}", "into": "asked"}, {"ask": "make", "into": "asked"}]
        task = home.add("Ask", plan("live", *steps, REPORT))["id"]
        asked = question(home)
        assert asked["text"].startswith("May it use Bash?\n\ncurl -H [masked]")
        assert (asked["kind"], asked["options"]) == ("permission", ["allow", "deny"])
        waiting = home.task(task)
        assert (waiting["status"], waiting["wait_reason"]) == ("waiting", "input")
        home.run("task", "answer", task, "allow")
        until("the next is asked", lambda: "make" in question(home)["text"])
        home.run("task", "answer", task, "yes, but with -n")
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        assert shown(home, run) == ["allow", "deny A person said no: yes, but with -n"]


def test_silence_is_a_no_and_a_late_yes_counts_in_the_next_run(short_dir: Path):
    with asking(short_dir, {"mode": "ask"}, ask={"hold_seconds": 0.3}) as home:
        ask = {"ask": "make install", "into": "asked", "leave": 1}
        task = home.add("Ask", plan("live", ask, REPORT))["id"]
        first = home.last(task)
        assert (first["outcome"], first["reason"]) == ("suspended", "asked")
        home.run("task", "answer", task, "allow")
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        _, second = home.runs(task)
        nobody, late = shown(home, second)
        assert nobody.startswith("deny Nobody has answered")
        assert late == "allow"


def test_a_driven_agent_asks_the_same_way(short_dir: Path):
    sessions = short_dir / "sessions"
    sessions.mkdir(parents=True)
    program = shlex.join([sys.executable, str(FAKES / "acp_agent.py"), str(sessions)])
    entry = {"kick_command": program, "like": "acp"}
    with house(short_dir, ai_providers={"mine": entry}) as home:
        rules = {"mode": "ask", "allow": ["Bash(git status*)"]}
        home.write(agents={"worker": {"provider": "mine", "permissions": rules}})
        home.ready()
        asks: list[dict[str, Any]] = [
            {"ask": "execute", "title": "git", "input": {"command": "git status"}, "into": "one"},
            {"ask": "execute", "title": "make", "input": {"command": "make"}, "into": "two"},
            {"ask": "execute", "title": "rm", "input": {"command": "rm x"}, "into": "three"},
        ]
        task = home.add("Ask", plan("acp", *asks, REPORT))["id"]
        assert "make" in question(home)["text"]
        home.run("task", "answer", task, "allow")
        until("the next is asked", lambda: "rm x" in question(home)["text"])
        home.run("task", "answer", task, "deny")
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        given = [shown(home, run, one["into"]) for one in asks]
        assert given == [["allow_once"], ["allow_once"], ["reject_once"]]


@pytest.mark.parametrize("provider", ["rehearsal", "gemini"])
def test_a_cli_that_cannot_ask_refuses_it_at_the_start(short_dir: Path, provider: str):
    with house(short_dir) as home:
        home.write(agents={"worker": {"provider": provider, "permissions": {"mode": "ask"}}})
        refused = home.run("config", "validate", check=False)
        assert refused.returncode == 3
        assert "agents.worker.permissions" in refused.stderr
