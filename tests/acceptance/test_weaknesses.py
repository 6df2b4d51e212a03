"""What an earlier coordinator did wrong, each seen not to happen here through the real programs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from aiagent_coordinator import failpoints
from support.house import HOLD, PATIENCE_SECONDS, House, house, living, person, script, until
from support.repo import git

REPORT: dict[str, Any] = {"report": {"result": "success", "summary": "done"}}


def ended(home: House, task_id: str) -> dict[str, Any]:
    """The only run of a task, once it is over."""
    return until(
        "its run ends", lambda: next((r for r in home.runs(task_id) if r["phase"] == "ended"), None)
    )


def test_a_server_that_takes_the_connection_and_says_nothing_holds_nobody_for_ever(
    short_dir: Path,
):
    """Commands and the loop give up on it; the loop is there when a server that answers is."""
    with house(short_dir) as home:
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind(str(home.socket))
            mute.listen(8)
            home.start("coordinate")
            (told,) = until("the loop gives up", lambda: home.logged("loop.server_down"))
            assert "does not answer within" in told["error"]
            done = home.run("status", check=False)
            assert done.returncode == 4, done.stderr
        home.ready("serve")
        task = home.add("Work", script(REPORT))
        assert home.finished(task["id"])["status"] == "succeeded"


def test_a_call_that_gets_no_answer_ends_after_the_time_that_is_set(short_dir: Path):
    """The server takes the call and stands still: the command gives up, and the loop says so."""
    with house(short_dir) as home:
        home.write(api_timeout="1s", polling_interval="1s")
        server = home.ready("serve")
        home.start("coordinate")
        until("the loop is there", lambda: home.json("status").get("coordinators"))
        server.send_signal(signal.SIGSTOP)
        try:
            done = home.run("status", check=False)
            assert done.returncode == 4, done.stderr
            assert "within 1 s" in done.stderr
            told = until("the loop gives up on a call", lambda: home.logged("loop.failed"))
            assert "within 1 s" in told[0]["error"]
        finally:
            server.send_signal(signal.SIGCONT)
        task = home.add("Work", script(REPORT))
        assert home.finished(task["id"])["status"] == "succeeded"
        home.down()


def test_texts_larger_than_any_line_buffer_arrive_whole(short_dir: Path):
    """250 KB of description go to the board, to the loop, and through the bridge to the agent."""
    with house(short_dir) as home:
        home.ready()
        text = "é" * 120_000 + "\n" + script({"say": "I read it all"}, REPORT)
        with person(home) as client:
            new = {"project_id": "app", "agent_id": "worker", "title": "Long", "description": text}
            task = client.call("create_task", new)["task"]
        assert home.finished(task["id"])["status"] == "succeeded"
        assert "I read it all" in home.run("logs", task["id"]).stdout
        assert home.task(task["id"])["description"] == text


def test_a_coordinator_with_a_wrong_token_says_so(short_dir: Path):
    """It starts nothing, and names the setting; nobody has to guess why nothing happens."""
    (short_dir / "a").mkdir()
    (short_dir / "b").mkdir()
    with house(short_dir / "a") as first, house(short_dir / "b") as second:
        first.write(coordinator_token="the-right-token")
        second.write(coordinator_token="a-wrong-token", socket=str(first.socket))
        first.ready("serve")
        process = second.start("coordinate")
        (told,) = until("it says so", lambda: second.logged("loop.server_down"))
        assert "coordinator_token" in told["message"]
        assert "a-wrong-token" not in second.log_text()
        task = first.add("Wait", script(REPORT))
        reasons = first.json("explain", task["id"])["reasons"]
        assert [reason["code"] for reason in reasons] == ["no_coordinator"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_a_stop_reaches_every_agent_at_the_limit_and_delays_nobody(short_dir: Path):
    """One ignores TERM for its long grace; the other ends at once, and the next one works."""
    with house(short_dir) as home:
        names = ("stubborn", "willing", "next")
        home.write(
            agents={name: {"provider": "rehearsal"} for name in names},
            projects=[{"id": "app", "path": str(home.repo)}],
            max_concurrent=2,
            stop_grace_seconds=600,
        )
        home.ready()
        # what its command becomes ignores TERM too: nothing but KILL ends it
        forever = script({"ignore_term": True}, HOLD)
        stubborn = home.add("Ignore it", forever, agent="stubborn")["id"]
        willing = home.add("Obey", script(HOLD), agent="willing")["id"]
        for task in (stubborn, willing):
            until(
                "it holds", lambda task=task: "* run" in home.run("logs", task, check=False).stdout
            )
        later = home.add("Wait for a place", script(REPORT), agent="next")["id"]
        assert "max_concurrent is reached (2/2)" in home.run("explain", later).stdout
        home.run("task", "cancel", stubborn)
        home.run("task", "cancel", willing)
        assert ended(home, willing)["outcome"] == "cancelled"
        assert home.finished(later)["status"] == "succeeded"
        (left,) = home.runs(stubborn)
        assert left["phase"] != "ended"
        done = home.run("stop", "--kill", "--timeout", "0.5", check=False)
        assert done.returncode == 6
        assert "by the same command again" in done.stderr
        home.run("stop", "--kill")
        until("no process is left", lambda: not living(home))
        home.ready("serve")
        (left,) = home.runs(stubborn)
        assert (left["phase"], left["outcome"], left["signal"]) == ("ended", "cancelled", 9)


def test_two_agents_that_want_one_directory_take_turns_and_have_logs_of_their_own(short_dir: Path):
    """Two projects on one folder, three agents, asked for in the same moment."""
    with house(short_dir) as home:
        shared = {"path": str(home.repo), "workspace": "directory", "shared_path": True}
        home.write(
            agents={name: {"provider": "rehearsal", "max_concurrent": 2} for name in "abc"},
            projects=[
                {"id": "app", **shared, "allow_dirty": True, "agents": ["a", "b"]},
                {"id": "web", **shared, "allow_dirty": True, "agents": ["a", "c"]},
            ],
            max_concurrent=4,
        )
        home.ready()
        for project in ("app", "web"):
            home.run("project", "pause", project)
        places = (("app", "a"), ("app", "b"), ("web", "a"), ("web", "c"))
        tasks: list[str] = []
        for project, agent in places:
            name = f"{project}-{agent}"
            steps = script(
                {"say": f"I am {name}"}, {"append": {"path": name, "text": "x\n"}}, REPORT
            )
            tasks.append(home.add(name, steps, project=project, agent=agent)["id"])
        for project in ("app", "web"):
            home.run("project", "resume", project)
        for task in tasks:
            assert home.finished(task)["status"] == "succeeded", home.runs(task)
        runs = sorted(home.runs(), key=lambda run: run["started_at"])
        for before, after in pairwise(runs):
            assert before["ended_at"] <= after["started_at"]
        logs = {run["log_path"] for run in runs}
        assert len(logs) == len(places)
        for task, (project, agent) in zip(tasks, places, strict=True):
            (run,) = home.runs(task)
            said = Path(run["log_path"]).read_text("utf-8")
            others = [
                f"I am {one}-{other}" for one, other in places if (one, other) != (project, agent)
            ]
            assert f"I am {project}-{agent}" in said
            assert not [other for other in others if other in said]
            # a snapshot holds what that agent left, and nothing of who came after
            assert f"{project}-{agent}" in git(home.repo, "ls-tree", "--name-only", run["commit"])


def test_quoted_words_of_a_kick_command_stay_together(short_dir: Path):
    """It is split as a shell would, and no shell reads it."""
    with house(short_dir) as home:
        line = """sh -c 'printf "%s|" "$@" > said' sh 'hello world' "it's" '$HOME;`id`'"""
        home.write(
            agents={"worker": {"provider": "mine"}},
            ai_providers={"mine": {"like": "command", "kick_command": line}},
        )
        home.ready()
        task = home.add("Kick")
        assert home.finished(task["id"])["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task["id"])
        assert git(home.repo, "show", f"{run['commit']}:said") == "hello world|it's|$HOME;`id`|"


def test_the_users_own_settings_of_a_cli_stay_as_they_are(short_dir: Path):
    """Neither in the repository nor at home is a byte written for Claude, Codex or Gemini."""
    with house(short_dir) as home:
        program = short_dir / "cli"
        program.write_text("#!/bin/sh\nexit 1\n", "utf-8")
        program.chmod(0o700)
        names = ("claude", "codex", "gemini")
        for place in (home.repo, Path(home.env["HOME"])):
            for file in (".claude/settings.json", ".codex/config.toml", ".gemini/settings.json", ".mcp.json"):  # fmt: skip
                (place / file).parent.mkdir(exist_ok=True)
                (place / file).write_text(f"mine: {file}\n", "utf-8")
        git(home.repo, "add", "--all")
        git(home.repo, "commit", "-q", "-m", "settings of mine")
        home.write(
            agents={name: {"provider": name} for name in names},
            ai_providers={name: {"cli_command": str(program)} for name in names},
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        before = _content(home.repo) | _content(Path(home.env["HOME"]))
        home.ready()
        tasks = [home.add(name, agent=name, max_attempts="1")["id"] for name in names]
        for task in tasks:
            assert home.finished(task)["status"] == "failed"
            (run,) = home.runs(task)
            assert run["exit_code"] == 1, "its program was started"
        after = _content(home.repo) | _content(Path(home.env["HOME"]))
        assert {path: after.get(path) for path in before} == before
        assert not {path for path in set(after) - set(before) if "coordinator" not in str(path)}
        assert git(home.repo, "status", "--porcelain") == ""


def _content(folder: Path) -> dict[Path, bytes]:
    """Every file of a folder, git's own left out."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def test_output_that_is_no_text_is_read_in_any_locale(short_dir: Path):
    """Bytes of no encoding, in a coordinator that runs with LC_ALL=C."""
    with house(short_dir) as home:
        home.env |= {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0"}
        home.ready()
        noise = {"run": {"argv": ["printf", r"\377\376 日本 \200 Error: broken\n"]}}
        task = home.add("Noise 日本", script(noise, {"kill_self": {}}), max_attempts="1")
        assert home.finished(task["id"])["status"] == "failed"
        (run,) = home.runs(task["id"])
        assert run["signal"] == 9
        assert "日本" in Path(run["log_path"]).read_text("utf-8")
        assert not home.logged("run.failed")


def test_an_exit_is_noticed_while_the_server_is_away(short_dir: Path):
    """Nobody waits for a server to see that a CLI is gone; the report is kept and delivered later."""
    with house(short_dir) as home:
        home.write(retry={"max_attempts": 1})
        server = home.ready("serve")
        home.start("coordinate")
        task = home.add("Go", script({"say": "here"}, HOLD, {"exit": {"code": 3}}))["id"]
        until("it holds", lambda: "here" in home.run("logs", task, check=False).stdout)
        server.kill()
        server.wait(PATIENCE_SECONDS)
        (home.state / "worktrees" / "app" / task / ".aiagent" / "go").touch()
        (told,) = until("it is noticed", lambda: home.logged("run.exit"))
        assert told["exit_code"] == 3
        home.ready("serve")
        assert home.finished(task)["status"] == "failed"
        (run,) = home.runs(task)
        assert (run["exit_code"], run["reason"]) == (3, "exit_nonzero")


def test_a_run_that_hangs_gives_its_place_back(short_dir: Path):
    """One says nothing for too long, one takes too long: both end by name."""
    with house(short_dir) as home:
        home.write(silence_timeout="1s", retry={"max_attempts": 1})
        process = home.ready()
        silent = home.add("Say nothing", script({"sleep": {"seconds": 600}}))["id"]
        assert home.finished(silent)["status"] == "failed"
        assert home.runs(silent)[0]["reason"] == "stalled"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        home.write(silence_timeout="30m", run_timeout="1s")
        home.ready()
        talk = {"run": {"argv": ["sh", "-c", "while sleep 0.2; do echo; done"]}}
        slow = home.add("Take long", script(talk))["id"]
        assert home.finished(slow)["status"] == "failed"
        assert home.runs(slow)[0]["reason"] == "timed_out"


def test_two_configurations_cannot_share_a_state_directory_or_a_socket(short_dir: Path):
    """The second one ends with 9 at once, names the first, and leaves it as it is."""
    (short_dir / "a").mkdir()
    (short_dir / "b").mkdir()
    with house(short_dir / "a") as first, house(short_dir / "b") as second:
        process = first.ready()
        for shared in ({"state_dir": str(first.state)}, {"socket": str(first.socket)}):
            second.write(**{"state_dir": str(second.state), "socket": str(second.socket), **shared})
            done = second.run(check=False)
            assert done.returncode == 9, done.stderr
            assert str(process.pid) in done.stderr or str(first.socket) in done.stderr
        assert first.run("status").returncode == 0


def test_no_project_without_a_folder_is_worked_on_where_the_coordinator_stands(short_dir: Path):
    """No path, and one that is not there: refused, or ended by name; nothing runs anywhere else."""
    with house(short_dir) as home:
        projects = home.settings["projects"]
        home.write(projects=[*projects, {"id": "gone", "path": str(short_dir / "gone")}])
        home.ready()
        done = home.run("project", "add", "empty", check=False)
        assert done.returncode == 2
        assert "path" in done.stderr
        done = home.run("project", "add", "blank", "--path", "", check=False)
        assert done.returncode == 2
        assert "path" in done.stderr
        task = home.add("Nowhere", script(REPORT), project="gone")["id"]
        assert home.finished(task)["status"] == "failed"
        (run,) = home.runs(task)
        assert (run["outcome"], run["reason"]) == ("not_started", "workspace_invalid")
        assert "it is failed (workspace_invalid" in home.run("explain", task).stdout
        assert str(short_dir / "gone") in home.json("run", "show", run["id"])["error"]
        assert not (short_dir / "gone").exists()


def test_a_failure_in_a_pass_a_claim_or_a_report_stops_nobody(short_dir: Path):
    """Each is logged with its stack, and everything is done all the same."""
    with house(short_dir) as home:
        home.env[failpoints.VARIABLE] = (
            "loop.pass:2*error->off;stage.claim.begin:1*error->off;"
            "outbox.queued/report_run_exit:1*error->off;stage.result.begin:1*error->off"
        )
        home.write(
            agents={name: {"provider": "rehearsal"} for name in "abc"},
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        home.ready()
        tasks = [home.add(name, script(REPORT), agent=name)["id"] for name in "abc"]
        for task in tasks:
            assert home.finished(task)["status"] == "succeeded"
            assert len(home.runs(task)) == 1
        passes = home.logged("loop.failed")
        assert len(passes) == 2
        failed = home.logged("run.failed")
        assert sorted(line["stage"] for line in failed) == ["claim", "exit", "result"]
        for line in (*passes, *failed):
            assert "InjectedFaultError" in line["exception"]


def test_an_agent_reads_nothing_from_the_terminal_of_its_coordinator(short_dir: Path):
    """What somebody types there is not an agent's input."""
    with house(short_dir) as home:
        home.write(
            agents={"worker": {"provider": "cat"}},
            ai_providers={"cat": {"like": "command", "cli_command": "cat"}},
        )
        reading, writing = os.pipe()
        os.write(writing, b"typed into the terminal\n")
        with home.log.open("ab") as log:
            process = subprocess.Popen(
                [
                    Path(sys.executable).with_name("aiagent-coordinator"),
                    "--config",
                    str(home.config),
                    "--log-format",
                    "json",
                ],
                stdin=reading,
                stdout=log,
                stderr=log,
                env={**os.environ, **home.env},
                start_new_session=True,
                cwd=home.root,
            )
        home.processes.append(process)
        until("it answers", lambda: home.run("status", check=False).returncode == 0)
        task = home.add("Read")
        assert home.finished(task["id"])["status"] == "succeeded"
        said = home.run("logs", task["id"]).stdout
        assert "You are the agent worker" in said
        assert "typed into" not in said
        os.close(writing)
        assert os.read(reading, 100) == b"typed into the terminal\n"
        os.close(reading)
