"""Single promises of the product, each seen from outside through the real programs."""

from __future__ import annotations

import json
import shlex
import sqlite3
import time
from pathlib import Path

from aiagent_coordinator import failpoints
from aiagent_coordinator.errors import UnauthorizedError
from aiagent_coordinator.wire.client import BlockingClient
from aiagent_coordinator.wire.protocol import hello_run
from support.house import HOLD, PATIENCE_SECONDS, House, house, living, script, until
from support.repo import git

REPORT = {"report": {"result": "success", "summary": "done"}}


def running(home: House, task_id: str) -> Path:
    """The folder of a task's run, once its CLI runs."""
    # the server hears of the shim first: only the file says that the CLI was let go
    return home.state / "run" / str(home.running(task_id)["id"])


def test_two_coordinators_of_one_server_make_one_run_of_one_task(short_dir: Path):
    """Several machines may look at one board: each task is claimed once."""
    (short_dir / "a").mkdir()
    (short_dir / "b").mkdir()
    with house(short_dir / "a") as first, house(short_dir / "b") as second:
        token = "a-token-that-both-know"
        first.write(coordinator_token=token)
        second.write(
            coordinator_token=token, socket=str(first.socket), projects=first.settings["projects"]
        )
        first.ready("serve")
        first.start("coordinate")
        second.start("coordinate")
        until("both are known", lambda: len(first.json("status").get("coordinators", [])) == 2)
        tasks = [first.add(f"task {number}", script(REPORT))["id"] for number in range(6)]
        for task in tasks:
            assert first.finished(task)["status"] == "succeeded"
        assert sorted(run["task_id"] for run in first.runs()) == sorted(tasks)


def test_the_token_and_the_generated_files_die_with_the_run(short_dir: Path):
    with house(short_dir) as home:
        home.ready()
        task = home.add("nap", script(HOLD, REPORT))["id"]
        run_dir = running(home, task)
        token = (run_dir / "token").read_text(encoding="ascii").strip()
        spec = json.loads((run_dir / "spec.json").read_text(encoding="utf-8"))
        assert Path(spec["argv"][-1]).is_file(), "the CLI's MCP configuration"
        home.go(task)
        home.finished(task)
        until("the token's file is gone", lambda: not (run_dir / "token").exists())
        until("the generated files are gone", lambda: not (run_dir / "files").exists())
        hello = hello_run(run_dir.name, token, "another bridge", [])
        try:
            with BlockingClient(str(home.socket), hello, 10) as client:
                client.call("get_my_task", {})
            raise AssertionError("the token of an ended run worked")
        except UnauthorizedError:
            pass


def test_a_cli_sees_the_allowed_environment_and_nothing_else(short_dir: Path):
    with house(short_dir) as home:
        home.env |= {"SECRET_OF_MINE": "x", "LD_PRELOAD": "", "AIAGENT_COORDINATOR_TOKEN": "y"}
        home.env |= {"LANG": "C.UTF-8", "PYTHONPATH": "/nowhere", "NODE_OPTIONS": "--inspect"}
        home.write(
            agents={"worker": {"provider": "env"}},
            ai_providers={"env": {"like": "command", "cli_command": "env"}},
        )
        home.ready()
        task = home.add("show the environment")["id"]
        assert home.finished(task)["status"] == "succeeded"
        run = home.runs(task)[0]
        out = (home.state / "run" / run["id"] / "out").read_text(encoding="utf-8")
        seen = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        assert seen["AGENT_ID"] == seen["AIAGENT_AGENT_ID"] == "worker"
        assert seen["PROJECT_ID"] == "app"
        assert seen["AIAGENT_TASK_ID"] == task
        assert seen["AIAGENT_RUN_ID"] == run["id"]
        assert Path(seen["WORKING_DIRECTORY"]).name == task
        assert len(seen["TMPDIR"]) <= 40
        until("the temporary folder is gone", lambda: not Path(seen["TMPDIR"]).exists())
        leaked = {"SECRET_OF_MINE", "LD_PRELOAD", "PYTHONPATH", "NODE_OPTIONS"} & set(seen)
        assert not leaked
        assert not [name for name in seen if name.startswith("AIAGENT_COORDINATOR")]


def test_the_next_attempt_reads_the_failing_command_and_its_output(short_dir: Path):
    with house(short_dir) as home:
        home.write(
            agents={"worker": {"provider": "reader"}},
            ai_providers={"reader": {"like": "command", "cli_command": "cat"}},
        )
        home.ready()
        task = home.add(
            "read",
            max_attempts="2",
            check="sh -c 'echo the reason why it fails >&2; exit 3'",
        )["id"]
        assert home.finished(task)["status_reason"] == "attempts_exhausted"
        first, second = home.runs(task)
        assert (first["reason"], second["reason"]) == ("verify_failed", "verify_failed")
        prompt = (home.state / "run" / second["id"] / "out").read_text(encoding="utf-8")
        assert "the reason why it fails" in prompt
        assert "exit 3" in prompt


def test_the_workspace_has_its_folders_and_git_does_not_see_them(short_dir: Path):
    with house(short_dir) as home:
        home.ready()
        task = home.add("nap", script(HOLD, REPORT))["id"]
        running(home, task)
        tree = home.state / "worktrees" / "app" / task
        for name in ("inputs", "artifacts", "logs", "handoff"):
            assert (tree / ".aiagent" / name).is_dir()
        assert git(tree, "status", "--porcelain") == ""
        home.go(task)
        home.finished(task)
        assert git(tree, "status", "--porcelain") == ""


def test_both_streams_are_on_the_disk_as_they_are_written(short_dir: Path):
    """Neither stream waits for the other, for a full line, or for the end."""
    with house(short_dir) as home:
        home.write(
            agents={"worker": {"provider": "sh"}},
            ai_providers={
                "sh": {
                    "like": "command",
                    "cli_command": "sh",
                    "cli_args": ["-c", "printf a; sleep 1; printf 'b\\n' >&2; sleep 30"],
                }
            },
        )
        home.ready()
        run_dir = running(home, home.add("talk")["id"])
        until("out has it", lambda: (run_dir / "out").read_bytes() == b"a")
        until("err has it", lambda: (run_dir / "err").read_bytes() == b"b\n")
        assert not (run_dir / "exit").exists()


def test_runs_of_one_second_have_logs_of_their_own(short_dir: Path):
    with house(short_dir) as home:
        home.write(agents={"worker": {"provider": "rehearsal", "max_concurrent": 2}})
        home.ready()
        tasks = [
            home.add(f"{number}", script({"say": f"I am {number}"}, REPORT))["id"]
            for number in (1, 2)
        ]
        for task in tasks:
            home.finished(task)
        logs = [Path(home.runs(task)[0]["log_path"]) for task in tasks]
        assert logs[0] != logs[1]
        for number, log in enumerate(logs, start=1):
            assert f"I am {number}" in log.read_text(encoding="utf-8")


def test_every_log_line_is_json_and_an_unexpected_error_has_its_stack(short_dir: Path):
    """A stage that fails is logged with its traceback and entered again."""
    with house(short_dir) as home:
        home.env[failpoints.VARIABLE] = "stage.seal.begin:1*error->off"
        home.ready()
        task = home.add("work", script(REPORT))["id"]
        assert home.finished(task)["status"] == "succeeded"
        for line in home.log.read_text(encoding="utf-8").splitlines():
            assert {"ts", "level", "event", "message"} <= set(json.loads(line)), line
        (failed,) = home.logged("run.failed")
        assert failed["stage"] == "seal"
        assert "InjectedFaultError" in failed["exception"]


def test_a_killed_cli_leaves_its_signal_and_words_with_the_run(short_dir: Path):
    with house(short_dir) as home:
        home.ready()
        task = home.add(
            "die",
            script(
                {"run": {"argv": ["sh", "-c", "echo Error: out of luck >&2"]}}, {"kill_self": {}}
            ),
            max_attempts="1",
        )["id"]
        assert home.finished(task)["status"] == "failed"
        run = home.json("run", "show", home.runs(task)[0]["id"])
        assert (run["outcome"], run["signal"], run["exit_code"]) == ("failed", 9, None)
        assert "out of luck" in run["error"]


def test_a_run_that_neither_journal_nor_folder_knows_is_accounted_for(short_dir: Path):
    """The server says what this coordinator should hold; what it does not know is lost, and ended."""
    with house(short_dir) as home:
        process = home.ready()
        task = home.add("nap", script({"sleep": {"seconds": 600}}), max_attempts="1")["id"]
        running(home, task)
        process.kill()
        process.wait()
        for path in [*home.state.glob("journal.db*"), *home.state.glob("run/*/record")]:
            path.unlink()
        home.write(agents={"other": {"provider": "rehearsal"}}, projects=[])
        home.write(projects=[{"id": "app", "path": str(home.repo), "agents": ["other"]}])
        home.ready()
        run = until("it is ended", lambda: [r for r in home.runs(task) if r["phase"] == "ended"])[0]
        assert (run["outcome"], run["reason"]) == ("lost", "lost")
        home.run("stop")
        until("no process is left", lambda: not living(home))


def test_an_agent_that_lingers_after_its_report_is_success(short_dir: Path):
    """A CLI that does not exit is ended once its work is reported; that is no failure."""
    with house(short_dir) as home:
        home.ready()
        task = home.add("linger", script(REPORT, {"sleep": {"seconds": 600}}))["id"]
        began = time.monotonic()
        done = home.finished(task, 90)
        assert done["status"] == "succeeded", home.runs(task)
        assert home.runs(task)[0]["reason"] == "lingering"
        assert time.monotonic() - began < 90


def test_each_step_of_a_task_is_one_event(short_dir: Path):
    with house(short_dir) as home:
        home.ready()
        task = home.add("work", script(REPORT))["id"]
        home.finished(task)
        with sqlite3.connect(f"file:{home.state / 'store.db'}?mode=ro", uri=True) as store:
            rows = store.execute(
                "SELECT action, data FROM event WHERE task_id = ? ORDER BY seq", (task,)
            ).fetchall()
        moves = [json.loads(data)["transition"] for action, data in rows if action == "task.status"]
        assert moves == ["T1", "T4", "T13"]
        assert [action for action, _ in rows].count("task.created") == 1


def test_a_token_printed_in_two_pieces_is_masked_and_a_commit_id_is_not(short_dir: Path):
    """It crosses two writes; wherever a person reads it, it is masked."""
    with house(short_dir) as home:
        commit = git(home.repo, "rev-parse", "HEAD")
        home.ready()
        pieces = "printf 'at %s sess_0123456789abcdef' \"$1\"; sleep 1; echo 0123456789abcdef end"
        talk = {"run": {"argv": ["sh", "-c", pieces, "sh", commit]}}
        task = home.add("Talk", script(talk, REPORT))["id"]
        assert home.finished(task)["status"] == "succeeded"
        (run,) = home.runs(task)
        for said in (home.run("logs", task).stdout, Path(run["log_path"]).read_text("utf-8")):
            (line,) = [line for line in said.splitlines() if f"at {commit}" in line]
            assert line.endswith(f"at {commit} [masked] end")


def test_a_secret_that_the_end_of_a_checks_output_cuts_in_two_is_masked_too(short_dir: Path):
    """What is kept of it begins in the middle of the secret; nobody would know the rest as one."""
    secret = "zebra" * 8
    with house(short_dir) as home:
        home.write(coordinator_token=secret)
        home.ready()
        command = f"echo {secret}; printf 'end %01180d' 0; exit 1"
        task = home.add(
            "fail", script(REPORT), check=shlex.join(["sh", "-c", command]), max_attempts="1"
        )
        done = home.finished(task["id"])
        assert done["status"] == "failed"
        (run,) = home.runs(task["id"])
        with sqlite3.connect(f"file:{home.state / 'journal.db'}?mode=ro", uri=True) as journal:
            (text,) = journal.execute(
                "SELECT record FROM run WHERE run_id = ?", (run["id"],)
            ).fetchone()
        tail = json.loads(text)["checks"][0]["tail"]
        assert "end 000" in tail
        assert "zebra" not in tail


def test_what_the_checks_leave_is_taken_away_and_counted(short_dir: Path):
    """New files that are not ignored go; the log says how many."""
    with house(short_dir) as home:
        home.ready()
        task = home.add("check", script(REPORT), check="touch one two")
        assert home.finished(task["id"])["status"] == "succeeded"
        (cleaned,) = home.logged("run.cleaned")
        assert (cleaned["task_id"], cleaned["files"]) == (task["id"], 2)
        assert not (home.state / "worktrees" / "app" / task["id"] / "one").exists()


def test_a_folder_may_have_any_name(short_dir: Path):
    """What means something in an address means nothing in a path: state, log and work lie inside it."""
    root = short_dir / "a b?c=1&d#e%20f%"
    root.mkdir()
    with house(root) as home:
        for _ in range(2):
            process = home.ready()
            assert home.finished(home.add("work", script(REPORT))["id"])["status"] == "succeeded"
            home.run("stop")
            process.wait(PATIENCE_SECONDS)
        assert (home.state / "store.db").is_file()
        assert [entry.name for entry in short_dir.iterdir()] == [root.name]


def test_a_kick_command_is_split_as_a_shell_splits_and_read_by_none(short_dir: Path):
    """Blanks in quotes stay, and what would mean something to a shell is a word like any other."""
    tools = short_dir / "my tools"
    tools.mkdir()
    program = tools / "agent"
    program.write_text('#!/bin/sh\ncat > prompt.txt\nprintf "%s\\n" "$@" > words.txt\n')
    program.chmod(0o755)
    with house(short_dir) as home:
        home.write(
            ai_providers={
                "mine": {
                    "like": "command",
                    "kick_command": f"'{program}' --profile 'night shift' '$HOME;true' a\\ b",
                }
            },
            agents={"worker": {"provider": "mine"}},
        )
        home.ready()
        task = home.add("Read your words", "And mine.")
        assert home.finished(task["id"])["status"] == "succeeded"
        (run,) = home.runs(task["id"])
        words = git(home.repo, "show", f"{run['commit']}:words.txt").splitlines()
        assert words == ["--profile", "night shift", "$HOME;true", "a b"]
        assert "And mine." in git(home.repo, "show", f"{run['commit']}:prompt.txt")


def test_what_cannot_be_done_to_a_task_is_told_in_plain_words(short_dir: Path):
    """Nobody has to know the numbers of a table."""
    with house(short_dir) as home:
        home.ready()
        task = home.add("Work", script(REPORT))["id"]
        home.finished(task)
        for words, becomes in (
            (("task", "retry", task), "queued"),
            (("task", "cancel", task), "cancelled"),
        ):
            done = home.run(*words, check=False)
            assert done.returncode == 6
            assert done.stderr == f"error: a task that is succeeded cannot become {becomes}\n"
