"""The real CLIs, driven live: only when asked for, as `test_real_clis`.

AIAGENT_REAL_CLIS=1 AIAGENT_CLI_CACHE=~/.cache/aiagent-clis pytest tests/acceptance/test_real_live.py -s
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clis import RUN_SECONDS, WANTED, litter, model, output_of, programs, working
from support.driven import told
from support.house import until
from support.repo import git
from support.scenarios import BEGIN, END, WRITE, planned

__test__ = bool(WANTED)
pytestmark = [pytest.mark.needs("node"), pytest.mark.timeout(600)]

#: Those with a live mode of their own.
LIVE = [name for name in ("claude", "codex", "opencode") if name in WANTED]
HOLD = {"shell": 'until [ -e .aiagent/go ]; do sleep 0.1; done; echo went "on"'}


@pytest.fixture(scope="session")
def clis() -> Iterator[Path]:
    """The folder with the programs."""
    yield from programs()


@pytest.fixture(autouse=True)
def _in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IS_SANDBOX", "1")


#: Of what is said to the model, these are noted.
WATCHED = ("--watch", "xylophone", "--watch", "quokka")


SHUT_IN = pytest.param("bwrap", marks=pytest.mark.needs("bwrap"))


@pytest.mark.parametrize("name", LIVE)
@pytest.mark.parametrize("sandbox", ["none", SHUT_IN])
def test_a_real_cli_hears_a_message_in_the_turn_that_it_is_in(
    name: str, sandbox: str, short_dir: Path, clis: Path
):
    """Its coordinator is killed while it holds, and a second message comes after that."""
    live = {"ai_providers": {name: {"mode": "live"}}, "sandbox": sandbox}
    words = (*planned(short_dir, *BEGIN, HOLD, WRITE, *END), *WATCHED)
    with (
        model(short_dir, *words) as served,
        working(short_dir, name, clis, served, "bypass", **live) as home,
    ):
        task = home.add("Write a file", "Write model.txt.", max_attempts="1")["id"]
        run = home.running(task)
        until("it holds", lambda: "sleep 0.1" in output_of(home, run))
        home.run("tell", task, "Mind the xylophone.")
        first = home.processes[-1]
        first.kill()
        first.wait()
        home.ready()
        home.run("tell", task, "And the quokka.")
        given = home.state / "run" / run["id"] / "answers"
        until("both are given", lambda: len(list(given.iterdir())) == 2)
        home.go(task)
        done = home.finished(task, RUN_SECONDS)
        (run,) = home.runs(task)
        assert done["status"] == "succeeded", output_of(home, run)
        assert (run["outcome"], run["exit_code"], run["attempt"]) == ("succeeded", 0, 1)
        assert told(home, task) == [("turn", True), ("turn", True)]
        saw = [set(request.get("saw", ())) for request in served.requests()]
        assert {"xylophone", "quokka"} in saw
        assert git(home.repo, "show", f"{run['commit']}:model.txt") == "written by a model"
        assert litter(home, name) == []


@pytest.mark.parametrize("name", LIVE)
def test_a_real_cli_is_interrupted_and_goes_on_as_it_is_told(
    name: str, short_dir: Path, clis: Path
):
    live = {"ai_providers": {name: {"mode": "live"}}}
    words = (*planned(short_dir, *BEGIN, HOLD, WRITE, *END), *WATCHED)
    with (
        model(short_dir, *words) as served,
        working(short_dir, name, clis, served, "bypass", **live) as home,
    ):
        task = home.add("Write a file", "Write model.txt.", max_attempts="1")["id"]
        run = home.running(task)
        until("it holds", lambda: "sleep 0.1" in output_of(home, run))
        home.run("tell", task, "Leave that, mind the quokka.", "--interrupt")
        done = home.finished(task, RUN_SECONDS)
        (run,) = home.runs(task)
        assert done["status"] == "succeeded", output_of(home, run)
        assert "went on" not in output_of(home, run)
        assert told(home, task) == [("turn", True)]
        assert any("quokka" in request.get("saw", ()) for request in served.requests())


#: How each is started as an agent of the protocol.
ACP: dict[str, dict[str, Any]] = {
    "opencode": {"cli_command": "opencode", "cli_args": ["acp"]},
    "gemini": {"cli_command": "gemini", "cli_args": ["--acp", "--skip-trust"]},
    # else it shows its model our tools only when that searches for them
    "qwen": {
        "cli_command": "qwen",
        "cli_args": ["--acp", "--auth-type", "openai", "--exclude-tools", "tool_search"],
    },
}


@pytest.mark.parametrize("name", [name for name in ACP if name in WANTED])
def test_a_real_agent_of_the_protocol_takes_a_task_to_a_sealed_commit(
    name: str, short_dir: Path, clis: Path
):
    entry: dict[str, Any] = {"ai_providers": {name: {"like": "acp", **ACP[name]}}}
    # qwen does not tell its model in which folder it works
    write = WRITE if name != "qwen" else {"shell": "echo written by a model > model.txt"}
    words = planned(short_dir, *BEGIN, write, *END)
    with (
        model(short_dir, *words) as served,
        working(short_dir, name, clis, served, **entry) as home,
    ):
        if name != "opencode":
            # they let models be chosen that they know
            approval = "bypass" if name == "qwen" else "edits"
            home.write(agents={"worker": {"provider": name, "approval": approval}})
            until("it is taken up", lambda: home.logged("config.changed"))
        task = home.add("Write a file", "Write model.txt.", max_attempts="1")["id"]
        done = home.finished(task, RUN_SECONDS)
        (run,) = home.runs(task)
        assert done["status"] == "succeeded", output_of(home, run)
        assert (run["outcome"], run["exit_code"]) == ("succeeded", 0)
        assert git(home.repo, "show", f"{run['commit']}:model.txt") == "written by a model"
        assert run["usage"]["out"] > 0, output_of(home, run)


#: Those that ask for every command, and in which mode.
ASKING = [("claude", "one-shot"), ("claude", "live"), ("opencode", "live")]


@pytest.mark.parametrize(("name", "mode"), [one for one in ASKING if one[0] in WANTED])
@pytest.mark.parametrize(("answer", "is_run"), [("allow", True), ("not now", False)])
def test_a_real_cli_asks_a_person_before_it_runs_a_command(
    name: str, mode: str, answer: str, is_run: bool, short_dir: Path, clis: Path
):
    more = {"ai_providers": {name: {"mode": mode}}}
    words = planned(short_dir, *BEGIN, {"shell": "python3 -c 'print(6 * 7000)'"}, WRITE, *END)
    with (
        model(short_dir, *words) as served,
        working(short_dir, name, clis, served, "edits", **more) as home,
    ):
        rules = {"mode": "ask", "deny": ["Bash(rm *)"]}
        worker = {**home.settings["agents"]["worker"], "permissions": rules}
        home.write(agents={"worker": worker})
        until("it is taken up", lambda: home.logged("config.changed"))
        task = home.add("Write a file", "Write model.txt.", max_attempts="1")["id"]

        def asked_now() -> list[dict[str, Any]]:
            assert home.task(task)["status"] not in {"failed", "succeeded"}, output_of(
                home, home.runs(task)[-1]
            )
            return home.ask("list_questions")["questions"]

        asked = until("a person is asked", asked_now)
        assert "print(6 * 7000)" in asked[0]["text"]
        home.run("task", "answer", task, answer)
        done = home.finished(task, RUN_SECONDS)
        (run,) = home.runs(task)
        assert done["status"] == "succeeded", output_of(home, run)
        out = (home.state / "run" / run["id"] / "out").read_text("utf-8")
        assert ("42000" in out) == is_run
        if not is_run:
            assert "A person said no: not now" in out
