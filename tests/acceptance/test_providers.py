"""Programs that are not as their definitions say, by the real program: drift, versions, odd places, options."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.house import HOLD, House, house, living, script, until
from support.repo import git

#: A CLI of ours in the shape of a definition of one's own: it drives the rehearsal agent.
LIVE = """
[live]
driver = "claude"
more = [["--input-format", "stream-json"]]
"""
DEFINITION = """\
schema = 1
name = "mine"
title = "My CLI"

[detect]
executable = "mycli"
version_args = ["--version"]
version_pattern = 'mycli (\\d+\\.\\d+)'

[launch]
args = [["--mcp-config", "{mcp_config_file}"], ["{option_args}"], ["{extra_args}"]]
own_session_id = [["--session-id", "{new_uuid}"]]
pass_env = ["MYCLI_LOGIN"]

[mcp]
style = "file"
stdio = { type = "stdio", command = "{bridge_command}", args = "{bridge_args}" }

[capabilities]
versions = ">=1.0, <2.0"
mcp = ["file"]
turn_limit = true

[auth]
status_args = ["login-status"]
logged_in = 'as somebody'
logged_out = 'as nobody'
login = "run `mycli login`"

[options.api_key]
env = { MYCLI_KEY = "{api_key}" }

[options.max_turns]
env = { MYCLI_TURNS = "{max_turns}" }

[[errors]]
pattern = 'unknown option'
reason = "bad_flags"
"""
WORK = f'exec {sys.executable} -I -m aiagent_coordinator.rehearsal "$@"\n'
OLD = """\
#!/bin/sh
case "$1" in
--version) echo "mycli VERSION" ;;
login-status) echo "logged in as ${MYCLI_LOGIN:-nobody}" ;;
*) WORK ;;
esac
"""
#: The same as a program that its driver talks with, and what that is asked to do.
TALKS = f'exec {sys.executable} -I {Path(__file__).parents[1] / "fakes/live_cli.py"} "$@"\n'
REPORTS = """Do it.

```live
[{"tool": "report_completed", "arguments": {"result": "success", "summary": "did it"}}]
```
"""
REFUSES = 'echo "error: unknown option --mcp-config" >&2; exit 1'


def program(file: Path, version: str, work: str = WORK) -> None:
    """Write the CLI as an update does: a new file in the place of the old one."""
    draft = file.with_suffix(".new")
    draft.write_text(OLD.replace("VERSION", version).replace("WORK", work), "utf-8")
    draft.chmod(0o755)
    draft.replace(file)


@contextmanager
def mine(folder: Path, **entry: Any) -> Generator[tuple[House, Path]]:
    """A house whose worker is the CLI of our own, and the file of that."""
    with house(folder, i_understand_unsandboxed=True) as home:
        place = Path(home.env["XDG_CONFIG_HOME"]) / "aiagent-coordinator" / "providers"
        place.mkdir(parents=True)
        (place / "mine.toml").write_text(DEFINITION + LIVE, "utf-8")
        programs = home.root / "bin"
        programs.mkdir()
        home.env["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
        home.write(agents={"worker": {"provider": "mine", "approval": "bypass"}})
        if entry:
            home.write(ai_providers={"mine": entry})
        yield home, programs / "mycli"


WRITES = script({"write": {"path": "a.txt", "text": "a\n"}})


@pytest.mark.parametrize(
    ("mode", "work", "asked"), [("one-shot", WORK, WRITES), ("live", TALKS, REPORTS)]
)
def test_a_program_that_refuses_a_flag_fails_no_task_and_starts_nothing_until_it_is_another(
    short_dir: Path, mode: str, work: str, asked: str
):
    with mine(short_dir) as (home, file):
        home.write(agents={"worker": {"provider": "mine", "approval": "bypass", "mode": mode}})
        program(file, "2.4", REFUSES)
        home.ready()
        task = home.add("Write", asked, max_attempts="1")
        until("the agent is known as unfit", lambda: home.logged("loop.unschedulable"))
        shown = home.task(task["id"])
        assert (shown["status"], shown["attempt"]) == ("queued", 1)
        (run,) = home.runs(task["id"])
        assert (run["outcome"], run["reason"]) == ("failed", "bad_flags")
        told = str(home.shown(run["id"]))
        assert "error: unknown option --mcp-config" in told
        assert "My CLI 2.4 is installed; its flags were checked with >=1.0, <2.0" in told
        # a second task of the agent is not even tried
        other = home.add("Write more", asked, max_attempts="1")
        until(
            "it is said why",
            lambda: "refuses how it is started" in home.run("explain", other["id"]).stdout,
        )
        (row,) = [
            one for one in home.json("provider", "list")["providers"] if one["name"] == "mine"
        ]
        assert (row["health"], row["standing"]) == ("unfit", "newer")
        assert "unknown option" in row["why"]
        assert home.runs(other["id"]) == []
        # the program is updated: both go on by themselves
        program(file, "1.1", work)
        for each in (task, other):
            assert home.finished(each["id"])["status"] == "succeeded"
        assert len(home.logged("loop.unschedulable")) == 1


def test_a_program_that_is_replaced_while_it_works_harms_neither_this_run_nor_the_next(
    short_dir: Path,
):
    with mine(short_dir) as (home, file):
        program(file, "1.0")
        home.ready()
        first = home.add("Hold", script(HOLD))
        home.running(first["id"])
        program(file, "1.1")
        home.go(first["id"])
        second = home.add("Write", WRITES)
        for task in (first, second):
            assert home.finished(task["id"])["status"] == "succeeded"
            assert len(home.runs(task["id"])) == 1


def test_a_newer_program_says_so_and_works(short_dir: Path):
    with mine(short_dir) as (home, file):
        program(file, "2.0")
        told = home.run("doctor", check=False).stdout
        assert "2.0 is newer than what this was checked with (>=1.0, <2.0)" in told
        home.ready()
        task = home.add("Write", WRITES)
        assert home.finished(task["id"])["status"] == "succeeded"
        shown = home.run("explain", task["id"]).stdout
        assert "2.0 is newer" in shown


@pytest.mark.parametrize(("login", "word"), [("somebody", "logged_in"), ("", "needs_login")])
def test_a_login_is_asked_of_the_program_with_the_variables_of_its_runs(
    short_dir: Path, login: str, word: str
):
    with mine(short_dir) as (home, file):
        program(file, "1.0")
        home.env["MYCLI_LOGIN"] = login
        shown = home.json("provider", "show", "mine")
        assert shown["login"] == word
        told = home.run("doctor", check=False).stdout
        assert ("run `mycli login`" in told) == (word == "needs_login")


def test_a_login_is_asked_for_each_account(short_dir: Path):
    accounts = {
        "work": {"env": {"MYCLI_LOGIN": "somebody"}},
        "spare": {"env": {"MYCLI_LOGIN": "nobody"}},
    }
    with mine(short_dir, accounts=accounts) as (home, file):
        program(file, "1.0")
        shown = home.json("provider", "show", "mine")
        assert shown["accounts"] == {"work": "logged_in", "spare": "needs_login"}
        assert "account spare" in home.run("provider", "show", "mine").stdout


def test_a_key_of_the_configuration_reaches_the_program_and_no_check(short_dir: Path):
    key = "a-secret-of-the-configuration"
    with mine(short_dir, api_key="${CHOSEN_KEY}", max_turns=7) as (home, file):
        program(file, "1.0")
        home.env["CHOSEN_KEY"] = key
        home.ready()
        prints = ["sh", "-c", 'echo "key=$MYCLI_KEY turns=$MYCLI_TURNS" | tee seen.txt']
        task = home.add(
            "Look", script({"run": {"argv": prints}}), check="sh -c 'test -z \"$MYCLI_KEY\"'"
        )
        assert home.finished(task["id"])["status"] == "succeeded"
        (run,) = home.runs(task["id"])
        assert git(home.repo, "show", f"{run['commit']}:seen.txt") == f"key={key} turns=7"
        # what it prints of it is masked in what people read
        assert key not in home.run("logs", run["id"]).stdout + home.log_text()
        assert key not in json.dumps(home.json("config", "show"))
        for stored in (home.state / "run" / run["id"]).iterdir():
            if stored.is_file() and stored.name not in {"out", "err"}:
                assert key.encode() not in stored.read_bytes(), stored


def test_a_provider_is_shown_with_where_it_comes_from_and_what_is_in_force(short_dir: Path):
    with mine(short_dir, like="mine", max_turns=7) as (home, file):
        program(file, "1.0")
        shown = home.json("provider", "show", "mine")
        assert shown["path"] == str(file)
        assert "mine.toml (your own)" in shown["origin"]
        (turns,) = [one for one in shown["options"] if one["name"] == "max_turns"]
        assert turns["origin"].startswith("coordinator.yaml:")
        rows = home.json("provider", "list")["providers"]
        assert [row["name"] for row in rows if row["enabled"]] == ["mine"]
        # once asked, its version is remembered for as long as the file is the same
        program(file, "1.5")
        assert home.json("provider", "show", "mine")["version"] == "1.5"


def test_a_provider_that_is_tried_ends_with_the_trial_however_that_ends(short_dir: Path):
    with mine(short_dir) as (home, file):
        home.env["TMPDIR"] = str(home.root)
        at_work = home.root / "at-work"
        program(file, "1.0", f": > {at_work}; sleep 600")
        trial = home.start("provider", "test", "mine")
        until("the program works", at_work.exists)
        assert living(home)
        trial.kill()
        trial.wait()
        until("nothing is left", lambda: not living(home))


#: Works for who is logged in; whether somebody is, lies in a file.
LOGS_IN = """\
#!/bin/sh
here=$(dirname "$0")
case "$1" in
--version) echo "mycli 1.0" ;;
login-status) echo x >> "$here/asked"; echo "logged in as $(cat "$here/login" 2>/dev/null || echo nobody)" ;;
*) echo x >> "$here/started"
   [ -e "$here/good" ] || { echo "Not logged in. Please log in." >&2; exit 1; }
   WORK ;;
esac
"""


def test_what_waits_for_a_login_goes_on_when_somebody_logged_in_and_not_on_its_word_alone(
    short_dir: Path,
):
    with mine(short_dir) as (home, file):
        definition = Path(home.env["XDG_CONFIG_HOME"]) / "aiagent-coordinator/providers/mine.toml"
        rule = "[[errors]]\npattern = 'Not logged in'\nreason = \"auth\"\n"
        definition.write_text(DEFINITION + rule, "utf-8")
        file.write_text(LOGS_IN.replace("WORK", WORK), "utf-8")
        file.chmod(0o755)
        home.ready()
        first = home.add("Write", WRITES)
        until("it waits for a login", lambda: home.json("status")["logins"])
        asked, started = file.with_name("asked"), file.with_name("started")
        until("its program was asked", asked.exists)
        assert home.task(first["id"])["status"] == "queued"
        # a login that its provider does not take: one more run, and no further one
        file.with_name("login").write_text("somebody")
        until("it was tried", lambda: len(started.read_text().split()) == 2)
        until("it waits again", lambda: home.json("status")["logins"])
        before = len(asked.read_text().split())
        until("it was asked again", lambda: len(asked.read_text().split()) > before + 1)
        assert len(started.read_text().split()) == 2
        # another life begins, and another login was made meanwhile
        home.run("stop")
        file.with_name("good").touch()
        home.ready()
        assert home.finished(first["id"])["status"] == "succeeded"
        assert [one["account"] for one in home.logged("loop.logged_in")] == ["default"] * 2


def test_a_provider_is_tried_in_a_folder_of_its_own_and_nothing_stays(short_dir: Path):
    with mine(short_dir) as (home, file):
        program(file, "1.0")
        answer = home.json("provider", "test", "mine")
        assert answer["ok"], answer
        assert answer["steps"] == {"started": True, "authenticated": True, "reported": True}
        program(file, "3.0", REFUSES)
        done = home.run("provider", "test", "mine", check=False)
        assert done.returncode == 1
        assert "bad_flags" in done.stdout
        assert "unknown option" in done.stderr
        done = home.run("provider", "test", "mine", "--scripted", check=False)
        assert "cannot be sent to a model of ours" in done.stderr


def test_a_program_that_is_not_there_leaves_its_tasks_waiting_until_it_is(short_dir: Path):
    with mine(short_dir) as (home, file):
        home.ready()
        task = home.add("Write", WRITES, max_attempts="1")
        reason = "the program 'mycli' of provider mine was not found here; install it"
        until("it is said why", lambda: reason in home.run("explain", task["id"]).stdout)
        rows = {one["name"]: one for one in home.json("provider", "list")["providers"]}
        assert (rows["mine"]["health"], "'mycli'" in rows["mine"]["why"]) == ("unfit", True)
        assert (home.task(task["id"])["status"], home.runs(task["id"])) == ("queued", [])
        # it is looked at again and again, and said once
        version = home.ask("get_status")["uptime_seconds"]
        until("it looked again", lambda: home.ask("get_status")["uptime_seconds"] > version + 3)
        assert len(home.logged("loop.unschedulable")) == 1
        program(file, "1.1")
        done = home.finished(task["id"])
        assert (done["status"], done["attempt"]) == ("succeeded", 1)
        home.down()
