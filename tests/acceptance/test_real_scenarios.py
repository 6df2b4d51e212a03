"""What goes wrong for the real CLIs, one scenario each: only when asked for, as `test_real_clis`.

AIAGENT_REAL_CLIS=1 AIAGENT_CLI_CACHE=~/.cache/aiagent-clis pytest tests/acceptance/test_real_scenarios.py -s
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clis import (
    RUN_SECONDS,
    WANTED,
    bare_command,
    ended,
    model,
    output_of,
    programs,
    working,
)
from support.house import until
from support.repo import git
from support.scenarios import BEGIN, END, WRITE, add, end_of, nothing_is_left, planned, with_words

__test__ = bool(WANTED)
pytestmark = [pytest.mark.needs("node"), pytest.mark.timeout(600)]

each_cli = pytest.mark.parametrize("name", WANTED)

HOLD = {"shell": "until [ -e .aiagent/go ]; do sleep 0.2; done"}
#: Claude refuses a command that only sleeps.
FOREVER = {"shell": "until [ -e .aiagent/never ]; do sleep 0.2; done"}
#: So that what it starts by its shell is not refused; claude refuses `bypass` to root without it.
UNASKED = {"approval": "bypass"}
#: Its first words come sooner than this, from every one of them, on two busy cores.
SILENCE = "45s"


@pytest.fixture(scope="session")
def clis() -> Iterator[Path]:
    """The folder with the programs."""
    yield from programs()


@pytest.fixture(autouse=True)
def _in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IS_SANDBOX", "1")


def see(name: str, scenario: str, run: dict[str, Any]) -> None:
    """A cell of the table of CLIs and scenarios."""
    print(f"\n| {name} | {scenario} | exit code {run['exit_code']} | {end_of(run)} |")


@each_cli
def test_a_question_ends_the_session_and_its_answer_resumes_it(
    name: str, short_dir: Path, clis: Path
):
    ask = {"tool": "ask_human", "arguments": {"text": "Which word?"}}
    wait = {"say": "I wait for a person.", "until": "xylophone"}
    plan = planned(short_dir, *BEGIN, ask, wait, *BEGIN, {"tool": "get_next_action"}, WRITE, *END)
    with (
        model(short_dir, *plan) as served,
        working(short_dir, name, clis, served, ask={"hold_seconds": 0.5}) as home,
    ):
        task_id = add(home)
        first = ended(home, task_id)
        told = output_of(home, first)
        assert (first["outcome"], first["reason"]) == ("suspended", "asked"), told
        (question,) = home.ask("list_questions")["questions"]
        home.ask("answer_question", question_id=question["id"], answer="xylophone")
        done = home.finished(task_id, RUN_SECONDS)
        _, second = home.runs(task_id)
        assert (done["status"], done["attempt"]) == ("succeeded", 1), output_of(home, second)
        assert second["resumed_session_id"] == first["provider_session_id"] is not None
        assert git(home.repo, "show", f"{second['commit']}:model.txt") == "written by a model"
        see(name, "question, then resumed", second)


@each_cli
@pytest.mark.parametrize("fault", ["hang", "status", "drop"])
def test_one_bad_answer_in_the_middle_is_got_over(
    name: str, fault: str, short_dir: Path, clis: Path
):
    """Or is told by its name, in time; hanging for ever is ended by the silence."""
    plan = planned(short_dir, *BEGIN, {"tool": "get_next_action"}, WRITE, *END)
    words = ["--fault", fault, "--after", "3", "--times", "1", "--status", "529"]
    with (
        model(short_dir, *plan, *words) as served,
        working(short_dir, name, clis, served, silence_timeout=SILENCE) as home,
    ):
        run = ended(home, add(home))
        named = {"hang": "stalled", "status": "overloaded", "drop": "network"}[fault]
        assert (run["outcome"], run["reason"]) in {
            ("succeeded", None),
            ("failed", named),
        }, output_of(home, run)
        until("nothing of it is left", lambda: nothing_is_left(home))
        see(name, f"{fault} once", run)


@each_cli
def test_a_model_that_never_answers_ends_by_silence(name: str, short_dir: Path, clis: Path):
    with (
        model(short_dir, "--fault", "hang") as served,
        working(short_dir, name, clis, served, silence_timeout="15s") as home,
    ):
        run = ended(home, add(home))
        assert (run["outcome"], run["reason"]) == ("failed", "stalled"), output_of(home, run)
        until("nothing of it is left", lambda: nothing_is_left(home))
        see(name, "hang", run)


@each_cli
def test_what_its_shell_leaves_behind_is_ended(name: str, short_dir: Path, clis: Path):
    """A process of its own session, which no signal to the CLI reaches."""
    stay = (
        "setsid nohup sh -c 'echo $$ >.aiagent/left; exec sleep 98765' >/dev/null 2>&1 </dev/null &"
    )
    left = {"shell": f"mkdir -p .aiagent; {stay} until [ -s .aiagent/left ]; do sleep 0.1; done"}
    plan = planned(short_dir, *BEGIN, {"tool": "get_next_action"}, left, WRITE, *END)
    with (
        model(short_dir, *plan) as served,
        working(short_dir, name, clis, served, **UNASKED) as home,
    ):
        task_id = add(home)
        run = ended(home, task_id)
        assert run["outcome"] == "succeeded", output_of(home, run)
        run = home.over(run["id"])
        pid = (home.state / "worktrees" / "app" / task_id / ".aiagent" / "left").read_text().strip()
        assert not Path("/proc", pid).exists(), output_of(home, run)
        # some programs end it themselves
        assert run["leftovers_ended"] or not run["leftovers"]
        until("nothing of it is left", lambda: nothing_is_left(home))
        see(name, "shell child left behind", run)


@each_cli
def test_cancelled_in_the_middle_of_a_command_nothing_of_it_lives(
    name: str, short_dir: Path, clis: Path
):
    plan = planned(short_dir, *BEGIN, FOREVER, *END)
    with (
        model(short_dir, *plan) as served,
        working(short_dir, name, clis, served, **UNASKED) as home,
    ):
        task_id = add(home)
        until("its command runs", lambda: with_words(home, "aiagent/never"), RUN_SECONDS)
        home.run("task", "cancel", task_id)
        run = ended(home, task_id)
        assert (run["outcome"], run["reason"]) == ("cancelled", "cancelled"), output_of(home, run)
        until("nothing of it is left", lambda: nothing_is_left(home))
        see(name, "ended in the middle of a command", run)


@each_cli
def test_a_killed_coordinator_takes_it_up_again(name: str, short_dir: Path, clis: Path):
    """It is in the middle of a command, and goes on as if nothing had been."""
    plan = planned(short_dir, *BEGIN, {"tool": "get_next_action"}, HOLD, WRITE, *END)
    with (
        model(short_dir, *plan) as served,
        working(short_dir, name, clis, served, **UNASKED) as home,
    ):
        task_id = add(home)
        until("its command runs", lambda: with_words(home, "until ["), RUN_SECONDS)
        home.processes[-1].kill()
        home.processes[-1].wait()
        home.ready()
        until("it is taken up", lambda: home.logged("run.adopted"))
        home.go(task_id)
        done = home.finished(task_id, RUN_SECONDS)
        (run,) = home.runs(task_id)
        told = output_of(home, run)
        assert (done["status"], run["outcome"], run["exit_code"]) == (
            "succeeded",
            "succeeded",
            0,
        ), told
        until("nothing of it is left", lambda: nothing_is_left(home))
        see(name, "coordinator killed, taken up again", run)


@each_cli
def test_a_cli_that_is_killed_is_resumed_by_the_next_attempt(
    name: str, short_dir: Path, clis: Path
):
    """Its session is on the disk; where it is not, the next one begins anew with the hand-off."""
    plan = planned(short_dir, *BEGIN, HOLD, *BEGIN, {"tool": "get_next_action"}, WRITE, *END)
    with (
        model(short_dir, *plan) as served,
        working(short_dir, name, clis, served, **UNASKED) as home,
    ):
        task_id = add(home, max_attempts="4")
        until("its command runs", lambda: with_words(home, "aiagent/go"), RUN_SECONDS)
        (first,) = home.runs(task_id)
        started = json.loads((home.state / "run" / first["id"] / "started").read_text("utf-8"))
        os.kill(started["pid"], signal.SIGKILL)
        first = ended(home, task_id)
        assert (first["outcome"], first["reason"]) == ("failed", "signal"), output_of(home, first)

        # where the conversation forgot the call that was under way, its model makes it once more
        def go_on() -> bool:
            if with_words(home, "aiagent/go"):
                home.go(task_id)
            return home.task(task_id)["status"] in {"succeeded", "failed"}

        until("its task is over", go_on, RUN_SECONDS)
        *_, last = home.runs(task_id)
        assert last["outcome"] == "succeeded", output_of(home, last)
        second = home.runs(task_id)[1]
        see(name, f"killed; then resumed: {second['resumed_session_id'] is not None}", last)


def kept_of(home: Path) -> set[str]:
    """What lies in a home, as far as a name says what it is for: two folders deep."""
    found = (path.relative_to(home) for path in home.rglob("*") if not path.is_dir())
    # what is named after a folder or a session has another name each time
    return {re.sub(r"[0-9a-f-]{8,}", "*", "/".join(path.parts[:2])) for path in found}


@each_cli
def test_nothing_lies_in_the_home_that_the_bare_cli_does_not_leave_there(
    name: str, short_dir: Path, clis: Path
):
    """The same program, once by hand with the same model, once under supervision."""
    bare, ours = short_dir / "bare", short_dir / "ours"
    for folder in (bare, ours):
        folder.mkdir()
    with model(short_dir) as served, working(ours, name, clis, served) as home:
        run = ended(home, add(home))
        assert run["outcome"] == "succeeded", output_of(home, run)
        by_hand = bare_command(name, bare, home, clis)
        subprocess.run(
            by_hand.argv,
            input=b"Say that you are done.",
            cwd=by_hand.folder,
            env=by_hand.env,
            capture_output=True,
            timeout=RUN_SECONDS,
            check=True,
        )
        mine = kept_of(home.root / "home")
        own = {path for path in mine if path.startswith(("state/aiagent", "config/aiagent"))}
        added = mine - own - kept_of(bare / "home")
        print(f"\n{name}: bare {sorted(kept_of(bare / 'home'))}\n  ours {sorted(mine - own)}")
        assert not added
        assert git(home.repo, "status", "--porcelain", "--ignored") == ""
