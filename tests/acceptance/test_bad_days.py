"""What goes wrong on a bad day: one agent or project fails by name, everything else goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from support.house import HOLD, House, house, living, script, until
from support.repo import git, make_repo

REPORT = {"report": {"result": "success", "summary": "done"}}
ONE_TRY = {"max_attempts": "1"}


def outcome(home: House, task_id: str) -> tuple[str, str | None]:
    """How the last run of a task ended."""
    run = home.runs(task_id)[-1]
    return run["outcome"], run["reason"]


def test_agents_that_misbehave_fail_by_name_and_delay_nobody(short_dir: Path):
    with house(short_dir) as home:
        agents = {f"w{number}": {"provider": "rehearsal"} for number in range(8)}
        home.write(
            agents={
                **agents,
                "absent": {"provider": "ghost"},
                "plain": {"provider": "plain"},
                "refusing": {"provider": "refusing"},
            },
            ai_providers={
                "ghost": {"like": "command", "cli_command": "no-such-cli-anywhere"},
                "plain": {"like": "command", "cli_command": "cat"},
                "refusing": {"like": "command", "cli_command": "false"},
            },
            projects=[{"id": "app", "path": str(home.repo)}],
            max_concurrent=8,
            stop_grace_seconds=1,
        )
        home.ready()
        expected = {
            "w0": (
                "never authenticates",
                script({"no_auth": True}),
                "failed",
                "never_authenticated",
            ),
            "w1": ("exits at once", script({"exit": {"code": 3}}), "failed", "exit_nonzero"),
            "w2": ("kills itself", script({"kill_self": {"signal": 9}}), "failed", "signal"),
            "w3": ("reports nothing", script({"exit": {"code": 0}}), "failed", "no_report"),
            "w4": ("never connects", script({"no_mcp": True}), "failed", "tools_absent"),
            "w5": ("says it failed", script({"fail_report": {}}), "failed", "agent_reported"),
            "plain": ("prints its prompt", "nothing to script", "succeeded", None),
            "refusing": ("is a program that fails", "no", "failed", "exit_nonzero"),
        }
        tasks = {
            agent: home.add(title, text, agent=agent, **ONE_TRY)["id"]
            for agent, (title, text, _, _) in expected.items()
        }
        missing = home.add("a CLI that is not installed", agent="absent")["id"]
        good = home.add("works", script(REPORT), agent="w6")["id"]
        assert home.finished(good)["status"] == "succeeded"
        for agent, (title, _, ended, reason) in expected.items():
            home.finished(tasks[agent])
            assert outcome(home, tasks[agent]) == (ended, reason), title
        killed = home.runs(tasks["w2"])[-1]
        assert (killed["exit_code"], killed["signal"]) == (None, 9)
        # of a missing program nothing is tried: it is named, once, and the task waits for it
        assert (home.task(missing)["status"], home.runs(missing)) == ("queued", [])
        (told,) = home.logged("loop.unschedulable")
        assert (
            "the program 'no-such-cli-anywhere' of provider ghost was not found" in told["reason"]
        )


def test_floods_long_lines_and_leftovers_harm_nothing(short_dir: Path):
    """100 MB, a line of 5 MB, an agent that ignores TERM, grandchildren in every shape."""
    with house(short_dir) as home:
        names = ["flood", "line", "stubborn", "litter"]
        home.write(
            agents={name: {"provider": "rehearsal"} for name in names},
            projects=[{"id": "app", "path": str(home.repo)}],
            max_concurrent=4,
            stop_grace_seconds=1,
        )
        home.ready()
        shapes = [
            {"spawn_child": {"seconds": 600, "shape": shape}}
            for shape in ("child", "group", "session", "daemon", "stubborn")
        ]
        stubborn = home.add(
            "ignore", script({"ignore_term": True}, {"sleep": {"seconds": 600}}), agent="stubborn"
        )["id"]
        flood = home.add("flood", script({"print": {"megabytes": 100}}, REPORT), agent="flood")[
            "id"
        ]
        line = home.add("line", script({"long_line": {"megabytes": 5}}, REPORT), agent="line")["id"]
        litter = home.add("litter", script(*shapes, REPORT), agent="litter")["id"]
        for task_id in (flood, line, litter):
            assert home.finished(task_id, 60)["status"] == "succeeded"
        out = home.state / "run" / home.runs(flood)[0]["id"] / "out"
        assert out.stat().st_size > 99_000_000
        raw = home.state / "run" / home.runs(line)[0]["id"] / "out"
        assert b"x" * 5_000_000 in raw.read_bytes()
        run = until("it runs", lambda: [r for r in home.runs(stubborn) if r["phase"] == "running"])[
            0
        ]
        home.run("task", "cancel", stubborn)
        until("its run ends", lambda: home.runs(stubborn)[0]["phase"] == "ended")
        ended = next(r for r in home.runs(stubborn) if r["id"] == run["id"])
        assert (ended["outcome"], ended["signal"]) == ("cancelled", 9)
        home.run("stop")
        until("no process is left", lambda: not living(home))


def test_projects_that_cannot_be_worked_on_fail_by_name(short_dir: Path):
    with house(short_dir) as home:
        plain = short_dir / "plain"
        plain.mkdir()
        dirty = make_repo(short_dir / "dirty")
        (dirty / "README.md").write_text("changed\n", encoding="utf-8")
        detached = make_repo(short_dir / "detached")
        git(detached, "checkout", "-q", "--detach")
        taken = make_repo(short_dir / "taken")
        git(taken, "checkout", "-q", "-b", "feature")
        empty = short_dir / "empty"
        empty.mkdir()
        git(empty, "init", "-q")
        home.write(
            agents={"worker": {"provider": "rehearsal", "max_concurrent": 8}},
            projects=[
                {"id": "app", "path": str(home.repo)},
                {"id": "missing", "path": str(short_dir / "missing")},
                {"id": "plain", "path": str(plain)},
                {"id": "empty", "path": str(empty)},
                {"id": "dirty", "path": str(dirty)},
                {
                    "id": "dirty-dir",
                    "path": str(dirty),
                    "workspace": "directory",
                    "shared_path": True,
                },
                {"id": "detached", "path": str(detached)},
                {"id": "taken", "path": str(taken)},
            ],
            max_concurrent=8,
        )
        for project in home.settings["projects"]:
            project["shared_path"] = True
        home.write()
        home.ready()
        done = script({"write": {"path": "new.txt", "text": "new\n"}}, REPORT)
        bad = {
            name: home.add(name, done, project=name)["id"]
            for name in ("missing", "plain", "empty", "dirty-dir")
        }
        bad["taken"] = home.add("taken", done, project="taken", branch="feature")["id"]
        good = [home.add(name, done, project=name)["id"] for name in ("app", "dirty", "detached")]
        for task_id in good:
            assert home.finished(task_id)["status"] == "succeeded"
        reasons: dict[str, str] = {}
        for name, task_id in bad.items():
            assert home.finished(task_id)["status"] == "failed", name
            assert outcome(home, task_id) == ("not_started", "workspace_invalid"), name
            (line,) = [one for one in home.logged("run.exit") if one.get("task_id") == task_id]
            reasons[name] = line["error"]
        assert "missing" in reasons["missing"]
        assert "feature" in reasons["taken"]
        assert (dirty / "README.md").read_text(encoding="utf-8") == "changed\n"


def refuses(home: House, status: int, *words: str) -> None:
    """The program does not begin: one line says why, with this exit status."""
    done = home.run(check=False)
    assert done.returncode == status, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_socket_path_that_cannot_be_bound_is_refused_in_words(short_dir: Path):
    with house(short_dir) as home:
        home.write(socket=str(short_dir / ("x" * 100)))
        refuses(home, 3, "100")
        link = short_dir / "link.sock"
        link.symlink_to(short_dir / "elsewhere")
        home.write(socket=str(link))
        refuses(home, 3, "link.sock")
        assert link.is_symlink()
        plain = short_dir / "plain.sock"
        plain.write_text("precious", encoding="utf-8")
        home.write(socket=str(plain))
        refuses(home, 3, "plain.sock")
        assert plain.read_text(encoding="utf-8") == "precious"
        occupied = short_dir / "occupied.sock"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(occupied))
            other.listen(1)
            home.write(socket=str(occupied))
            refuses(home, 9, "occupied.sock")
        # the listener is gone and its file was left behind: that is nobody's any more
        home.ready()


def test_a_second_start_names_the_holder(short_dir: Path):
    with house(short_dir) as home:
        first = home.ready()
        refuses(home, 9, str(first.pid), "aiagent-coordinator stop")
        # what tells commands where the server is goes with it
        notes = [*short_dir.rglob("aiagent-coordinator/*.json")]
        assert notes
        assert all(str(first.pid) in note.read_text("utf-8") for note in notes)
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
        assert not [*short_dir.rglob("aiagent-coordinator/*.json")]


def test_the_first_ctrl_c_leaves_agents_running_and_the_next_start_adopts_them(short_dir: Path):
    with house(short_dir) as home:
        process = home.ready()
        task = home.add("sleep", script(HOLD, REPORT))["id"]
        until("it runs", lambda: [r for r in home.runs(task) if r["phase"] == "running"])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert living(home), "the agent was to keep running"
        home.ready()
        home.go(task)
        assert home.finished(task)["status"] == "succeeded"
        assert len(home.runs(task)) == 1
        assert home.logged("run.adopted")


def test_the_second_ctrl_c_ends_the_agents(short_dir: Path):
    with house(short_dir) as home:
        process = home.ready()
        task = home.add("sleep", script({"sleep": {"seconds": 600}}, REPORT))["id"]
        until("it runs", lambda: list(home.state.glob("run/*/started")))
        process.send_signal(signal.SIGINT)
        until("it says what a second one does", lambda: home.logged("daemon.stopping"))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        until("no process is left", lambda: not living(home))
        home.ready()
        run = home.runs(task)[0]
        assert (run["outcome"], run["reason"]) == ("stopped", "stopped")


@pytest.mark.needs("mount")
def test_a_full_disk_while_starting_costs_no_attempt_and_heals(short_dir: Path):
    """Nothing is lost when the state directory's disk is full; it goes on when there is room."""
    disk = short_dir / "disk"
    disk.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "none", str(disk)], check=True
    )
    try:
        with house(short_dir) as home:
            home.write(state_dir=str(disk / "state"), watermarks={"disk": 0})
            home.ready()
            # the disk fills at another point of a start each time: claim, folder, worktree, output
            for spare_kib in (0, 60, 120, 250, 500):
                home.log.write_bytes(b"")
                fill(disk / "filler", spare_kib)
                add = ("task", "add", "--project", "app", "--agent", "worker", "--title", "full")
                added = home.run(*add, "--description", script(REPORT), "--json", check=False)
                assert "Traceback" not in added.stderr
                if added.returncode == 0:
                    task_id = json.loads(added.stdout)["id"]
                    until("the start was tried", partial(tried, home))
                    (disk / "filler").unlink()
                else:
                    (disk / "filler").unlink()
                    task_id = home.add("again", script(REPORT))["id"]
                assert home.finished(task_id)["status"] == "succeeded"
                assert home.task(task_id)["attempt"] == 1
            home.run("stop")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def tried(home: House) -> bool:
    """Whether a start got as far as it could: not begun, failed, or its run is through."""
    return any(home.logged(event) for event in ("daemon.degraded", "run.failed", "run.end"))


def fill(path: Path, spare_kib: int) -> None:
    """Fill the disk of a file up to the last spare KiB."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            file.truncate(max(0, file.tell() - spare_kib * 1024))


def test_no_secret_is_in_any_command_line_or_file_of_a_run(short_dir: Path):
    """Tokens live in their own files alone: never in argv, environment, prompt, log or database."""
    with house(short_dir) as home:
        home.ready()
        task = home.add("sleep", script(HOLD, REPORT))["id"]
        run_dir = home.state / "run" / home.running(task)["id"]
        secrets = {
            "token": (run_dir / "token").read_text(encoding="ascii").strip(),
            "operator": (home.state / "operator.key").read_text(encoding="ascii").strip(),
            "coordinator": (home.state / "coordinator.key").read_text(encoding="ascii").strip(),
        }
        pids = living(home)
        assert len(pids) >= 3, "daemon, shim and agent are to be seen"
        reader = [sys.executable, "-c", READ_ALL, json.dumps(pids)]
        if os.geteuid() == 0:
            reader = ["setpriv", "--reuid=65534", "--clear-groups", *reader]
        seen = subprocess.run(reader, capture_output=True, check=True, timeout=30).stdout
        assert b"rehearsal" in seen, "the scan saw no agent"
        for name, secret in secrets.items():
            assert secret.encode() not in seen, name
        home.go(task)
        assert home.finished(task)["status"] == "succeeded"
        # what only a living run needs goes after its result is told
        until("the run is cleaned up", lambda: not (run_dir / "token").exists())
        holders = {
            name: [path for path in home.root.rglob("*") if holds(path, secret)]
            for name, secret in secrets.items()
        }
        assert holders["operator"] == [home.state / "operator.key"]
        assert holders["coordinator"] == [home.state / "coordinator.key"]
        assert holders["token"] == [], "the token dies with its run"


READ_ALL = """
import json, sys
for pid in json.loads(sys.argv[1]):
    for name in ("cmdline", "environ"):
        try:
            sys.stdout.buffer.write(open(f"/proc/{pid}/{name}", "rb").read())
        except OSError:
            pass
"""


def holds(path: Path, secret: str) -> bool:
    """Whether a regular file holds the secret."""
    return path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes()


def test_an_answer_that_comes_twice_late_or_to_a_cancelled_task_is_told_and_changes_nothing(
    short_dir: Path,
):
    with house(short_dir, ask={"hold_seconds": 0.2, "timeout": "1s"}) as home:
        home.write(agents={name: {"provider": "rehearsal"} for name in "abc"})
        home.write(projects=[{"id": "app", "path": str(home.repo)}])
        home.ready()
        ask = script({"ask": {"text": "Which?"}}, REPORT)
        late = home.add("Late", ask, agent="a")["id"]
        until("nobody answered in time", lambda: home.task(late)["status"] == "failed")
        process = home.processes[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        home.write(ask={"hold_seconds": 0.2})
        home.ready()
        gone = home.add("Gone", ask, agent="b")["id"]
        twice = home.add("Twice", ask, agent="c")["id"]
        for task in (gone, twice):
            until("it asks", partial(suspended, home, task))
        home.run("task", "cancel", gone)
        home.run("task", "answer", twice, "the first")
        assert home.finished(twice)["status"] == "succeeded"
        for task, status in ((late, "failed"), (gone, "cancelled"), (twice, "succeeded")):
            done = home.run("task", "answer", task, "another", check=False)
            assert done.returncode == 6, done.stderr
            assert done.stderr.startswith("error: question qst_")
            assert len(done.stderr.splitlines()) <= 2
            assert home.task(task)["status"] == status
        shown = home.json("task", "show", twice)
        assert [one["answer"] for one in shown["questions"]] == ["the first"]


def suspended(home: House, task_id: str) -> bool:
    """Whether the task's run has asked and is over."""
    return [run["outcome"] for run in home.runs(task_id)] == ["suspended"]


OFFLINE = """\
#!/bin/sh
echo "Unable to connect to API: ECONNREFUSED" >&2
exit 1
"""


def test_a_provider_that_cannot_be_reached_costs_no_attempt_and_is_asked_only_so_often(
    short_dir: Path,
):
    with house(short_dir) as home:
        program = short_dir / "offline"
        program.write_text(OFFLINE)
        program.chmod(0o755)
        home.write(
            ai_providers={"offline": {"like": "claude", "cli_command": str(program)}},
            agents={"worker": {"provider": "offline"}},
            retry={
                "max_attempts": 1,
                "backoff_seconds": ["1h"],
                "infra_requeues": 2,
                "infra_backoff_seconds": [0.1],
            },
        )
        home.ready()
        task = home.add("ask it")["id"]
        done = home.finished(task)
        assert (done["status"], done["attempt"], done["infra_requeues"]) == ("failed", 1, 3)
        assert done["status_reason"] == "attempts_exhausted"
        assert [one["reason"] for one in home.runs(task)] == ["network"] * 3
        (row,) = [
            one for one in home.json("provider", "list")["providers"] if one["name"] == "offline"
        ]
        assert (row["last_error"], row["since"]) == ("network", home.runs(task)[-1]["ended_at"])
        assert "network" in home.run("provider", "list").stdout
        home.down()
