"""People tell a running agent something, by the real programs: in its turn, with its next call, at its next start."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.house import HOLD, House, house, script, until
from support.repo import git

LIVE_CLI = Path(__file__).parent.parent / "fakes" / "live_cli.py"
REPORT: dict[str, Any] = {
    "tool": "report_completed",
    "arguments": {"result": "success", "summary": "did as I was told"},
}


def plan(*steps: dict[str, Any]) -> str:
    return f"Do it.\n\n```live\n{json.dumps(list(steps))}\n```\n"


@contextmanager
def listening(folder: Path, **more: Any) -> Generator[House]:
    """A house whose worker is a CLI that can be told more while it works."""
    program = f"{shlex.quote(sys.executable)} {shlex.quote(str(LIVE_CLI))}"
    entry = {"kick_command": program, "like": "claude"}
    with house(folder, ai_providers={"talker": entry}, **more) as home:
        home.write(agents={"worker": {"provider": "talker", "mode": "live"}})
        home.ready()
        yield home


def tells(home: House, task_id: str) -> list[tuple[str, str | None, bool]]:
    found = home.task(task_id)["tells"]
    return [(one["body"], one["way"], one["delivered_at"] is not None) for one in found]


def noted(home: House, run: dict[str, Any]) -> list[str]:
    return json.loads(git(home.repo, "show", f"{run['commit']}:heard.json"))


NOTE = {"note": "heard.json"}


def test_a_message_reaches_an_agent_in_the_turn_that_it_is_in(short_dir: Path):
    with listening(short_dir) as home:
        task = home.add("Listen", plan({"hear": 2}, NOTE, REPORT))["id"]
        home.running(task)
        said = home.run("tell", task, "use tabs")
        assert "on its way" in said.stdout
        home.run("tell", task, "and be quick\nplease")
        done = home.finished(task)
        assert done["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        assert (run["outcome"], run["exit_code"]) == ("succeeded", 0)
        assert noted(home, run) == ["use tabs", "and be quick\nplease"]
        assert tells(home, task) == [
            ("use tabs", "turn", True),
            ("and be quick\nplease", "turn", True),
        ]
        assert "heard in its turn" in home.run("task", "show", task).stdout


def test_an_interrupt_breaks_off_what_the_agent_does_and_it_goes_on_as_told(short_dir: Path):
    with listening(short_dir) as home:
        task = home.add("Hang", plan({"hang": True}, NOTE, REPORT))["id"]
        run = home.running(task)
        home.run("tell", run["id"], "stop that, and report", "--interrupt")
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        assert (run["outcome"], run["exit_code"]) == ("succeeded", 0)
        assert noted(home, run) == ["stop that, and report"]


def test_a_message_is_heard_once_whoever_is_killed_meanwhile(short_dir: Path):
    """The program with server and loop dies before the message is sent on, and after."""
    with listening(short_dir) as home:
        first = home.processes[-1]
        task = home.add("Listen", plan({"hear": 2}, NOTE, REPORT))["id"]
        home.running(task)
        home.run("tell", task, "one")
        first.kill()
        first.wait()
        second = home.ready()
        until("it is heard", lambda: tells(home, task) == [("one", "turn", True)])
        second.kill()
        second.wait()
        home.ready()
        home.run("tell", task, "two")
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task)
        assert noted(home, run) == ["one", "two"]
        assert [one[1:] for one in tells(home, task)] == [("turn", True), ("turn", True)]


def test_what_a_run_never_took_up_is_told_to_the_next_one(short_dir: Path):
    with listening(short_dir) as home:
        end = {"tool": "get_next_action"}
        task = home.add("Leave", plan({"deaf": 1}, end, {"hang": True}), max_attempts="2")["id"]
        run = home.running(task)
        home.run("tell", task, "in vain")
        assert tells(home, task) == [("in vain", "turn", False)]
        assert "not been heard" in home.run("explain", task).stdout
        home.ask("request_stop_run", run_id=run["id"])
        home.last(task)
        again = until("it runs again", lambda: len(home.runs(task)) > 1 and home.running(task))
        prompt = (home.state / "run" / again["id"] / "prompt").read_text("utf-8")
        assert "in vain" in prompt
        until("it is heard", lambda: tells(home, task) == [("in vain", "start", True)])
        home.run("task", "cancel", task)


def test_without_a_live_mode_a_message_goes_with_the_next_call(short_dir: Path):
    with house(short_dir) as home:
        home.ready()
        hear = {"hear": {"action": "person_says"}}
        task = home.add("Work", script(HOLD, hear, {"report": {"result": "success"}}))["id"]
        run = home.running(task)
        assert "next call" in home.run("tell", task, "use tabs").stdout
        refused = home.run("tell", run["id"], "stop", "--interrupt", check=False)
        assert refused.returncode == 6
        assert "cannot be interrupted" in refused.stderr
        home.go(task)
        assert home.finished(task)["status"] == "succeeded", home.log_text()
        assert tells(home, task) == [("use tabs", "call", True)]
        late = home.run("tell", task, "too late", check=False)
        assert (late.returncode, "succeeded" in late.stderr) == (6, True)


def test_a_cli_without_a_live_mode_refuses_it_at_the_start(short_dir: Path):
    with house(short_dir) as home:
        home.write(agents={"worker": {"provider": "rehearsal", "mode": "live"}})
        refused = home.run("config", "validate", check=False)
        assert refused.returncode == 3
        assert "agents.worker.mode" in refused.stderr
        assert "no live mode" in refused.stderr
        assert home.start().wait(60) == 3
