"""Agents that are made by command, and agents that cannot be started here, by the real programs."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from support.house import HOLD, House, house, script, until
from support.repo import git

REPORT = {"report": {"result": "success", "summary": "done"}}


def test_an_agent_made_by_command_has_as_many_runs_at_a_time_as_it_was_given(short_dir: Path):
    """No file declares it, so only the board knows its limit."""
    with house(short_dir) as home:
        home.ready()
        home.run(
            "agent", "add", "twin", "--provider", "rehearsal", "--project", "app",
            "--max-concurrent", "2",
        )  # fmt: skip
        tasks = [home.add(f"Part {number}", script(HOLD, REPORT), agent="twin") for number in "123"]
        until("two of three run", lambda: len(_running(home)) == 2)
        assert sorted(run["agent_id"] for run in _running(home)) == ["twin", "twin"]
        reasons = [home.json("explain", task["id"])["reasons"][0]["code"] for task in tasks]
        assert sorted(reasons) == ["agent_limit", "running", "running"]
        for run in _running(home):
            home.go(run["task_id"])
        until("the third runs", lambda: tasks[2]["id"] in {r["task_id"] for r in _running(home)})
        home.go(tasks[2]["id"])
        for task in tasks:
            assert home.finished(task["id"])["status"] == "succeeded"


def _running(home: House) -> list[dict[str, str]]:
    return [run for run in home.runs() if run["phase"] == "running"]


def test_approval_bypass_is_refused_until_the_configuration_accepts_it(short_dir: Path):
    bold = ("agent", "add", "bold", "--provider", "rehearsal", "--approval", "bypass")
    with house(short_dir) as home:
        home.ready()
        refused = home.run(*bold, "--project", "app", check=False)
        assert refused.returncode == 7
        assert "i_understand_unsandboxed: true" in refused.stderr
        assert "bold" not in {one["id"] for one in home.json("agent", "list")["agents"]}
        home.close()
        home.write(i_understand_unsandboxed=True)
        home.ready()
        home.run(*bold, "--project", "app")
        task = home.add("Anything", script(REPORT), agent="bold")["id"]
        assert home.finished(task)["status"] == "succeeded"
        # what was accepted once does not outlive its acceptance
        home.close()
        home.write(i_understand_unsandboxed=False)
        home.ready()
        later = home.add("Anything again", script(REPORT), agent="bold")["id"]
        reason = until("it is told", lambda: _unschedulable(home, later))
        assert "i_understand_unsandboxed: true" in reason
        assert home.runs(later) == []


def test_a_task_that_nobody_here_can_start_stays_queued_and_starts_after_a_change(short_dir: Path):
    """It is told why, it writes no event while it waits, and it delays nobody else."""
    with house(short_dir) as home:
        modern = {"provider": "modern", "model": "old"}
        home.write(
            agents={"worker": {"provider": "rehearsal"}, "picky": modern},
            ai_providers={"modern": {"like": "rehearsal", "models": ["new", "newer"]}},
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        home.ready()
        home.run("agent", "add", "stray", "--provider", "nowhere", "--project", "app")
        lost = home.add("No such provider", script(REPORT), agent="stray")["id"]
        stuck = home.add("No such model", script(REPORT), agent="picky")["id"]
        assert "no provider 'nowhere'" in until("told", lambda: _unschedulable(home, lost))
        told = until("told", lambda: _unschedulable(home, stuck))
        assert "no model 'old' here, only new, newer" in told
        assert home.json("task", "show", stuck)["status"] == "queued"
        assert [line["agent_id"] for line in home.logged("loop.unschedulable")].count("stray") == 1
        before = _events(home, lost, stuck)
        for number in range(2):
            other = home.add(f"Else {number}", script(REPORT))["id"]
            assert home.finished(other)["status"] == "succeeded"
        assert _events(home, lost, stuck) == before
        assert home.runs(lost) == home.runs(stuck) == []
        home.write(
            agents={"worker": {"provider": "rehearsal"}, "picky": {**modern, "model": "newer"}}
        )
        assert home.finished(stuck)["status"] == "succeeded"
        assert home.task(lost)["status"] == "queued"


def _unschedulable(home: House, task_id: str) -> str | None:
    reasons = home.json("explain", task_id)["reasons"]
    return next((one["text"] for one in reasons if one["code"] == "unschedulable"), None)


def _events(home: House, *task_ids: str) -> int:
    with closing(sqlite3.connect(f"file:{home.state / 'store.db'}?mode=ro", uri=True)) as store:
        marks = ",".join("?" * len(task_ids))
        query = f"SELECT count(*) FROM event WHERE task_id IN ({marks})"
        return int(store.execute(query, task_ids).fetchone()[0])


def test_nothing_starts_that_would_run_code_of_the_project_unasked(short_dir: Path):
    """Such a program is told what it may do in vain; a sandbox shuts it in."""
    program = short_dir / "opencode"
    program.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    program.chmod(0o755)
    with house(short_dir) as home:
        plugin = home.repo / ".opencode" / "plugin" / "greet.js"
        plugin.parent.mkdir(parents=True)
        plugin.write_text("console.log('hello')\n", encoding="utf-8")
        git(home.repo, "add", "-A")
        git(home.repo, "commit", "-q", "-m", "a plugin")
        home.write(
            ai_providers={"open": {"like": "opencode", "cli_command": str(program)}},
            agents={
                "worker": {"provider": "open"},
                "boxed": {"provider": "open", "sandbox": "bwrap"},
            },
            projects=[{"id": "app", "path": str(home.repo)}],
        )
        home.ready()
        task = home.add("Work", max_attempts="1")["id"]
        run = home.last(task)
        assert (run["outcome"], run["reason"]) == ("not_started", "workspace_invalid")
        assert run["exit_code"] is None
        explained = home.run("explain", task).stdout
        assert ".opencode/plugin/greet.js of this project unasked" in explained
        if shutil.which("bwrap"):
            assert (
                home.last(home.add("Work", agent="boxed", max_attempts="1")["id"])["exit_code"] == 3
            )
        home.down()
