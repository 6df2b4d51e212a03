"""What the board promises of order, places and branches, by the real programs."""

from __future__ import annotations

import json
import signal
from datetime import datetime
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from support.house import HOLD, PATIENCE_SECONDS, House, house, person, script, until
from support.repo import git, make_repo

REPORT = {"report": {"result": "success", "summary": "done"}}


def _write(name: str) -> dict[str, Any]:
    return {"write": {"path": name, "text": f"{name}\n"}}


def test_with_one_place_tasks_run_one_after_another_and_a_bad_one_stops_nobody(short_dir: Path):
    """The failing task goes first, the later ones never overlap, higher priority goes before age."""
    with house(short_dir, max_concurrent=1) as home:
        home.ready()
        home.run("project", "pause", "app")
        low = home.add("Low", script(_write("low"), REPORT))
        high = home.add("High", script(_write("high"), REPORT), priority="5")
        first = home.add("Fail", script({"fail_report": {}}), priority="9", max_attempts="1")
        higher = home.add("Higher", script(_write("higher"), REPORT), priority="7")
        home.run("project", "resume", "app")
        for task in (low, high, higher):
            assert home.finished(task["id"])["status"] == "succeeded"
        assert home.finished(first["id"])["status"] == "failed"
        runs = sorted(home.runs(), key=lambda run: run["started_at"])
        order = [home.task(run["task_id"])["title"] for run in runs]
        assert order == ["Fail", "Higher", "High", "Low"]
        for earlier, later in pairwise(runs):
            assert earlier["ended_at"] <= later["started_at"]


def _parallel(home: House, count: int) -> list[dict[str, Any]]:
    return [
        home.add(f"Part {number}", script(_write(f"{number}.txt"), REPORT))
        for number in range(count)
    ]


def test_parallel_tasks_in_one_repository_share_nothing(short_dir: Path):
    """Five worktrees, five branches, and each commit holds only its own file."""
    with house(short_dir, max_concurrent=5) as home:
        home.write(agents={"worker": {"provider": "rehearsal", "max_concurrent": 5}})
        home.ready()
        tasks = _parallel(home, 5)
        for task in tasks:
            assert home.finished(task["id"], 60.0)["status"] == "succeeded"
        runs = home.runs()
        assert len({run["branch"] for run in runs}) == 5
        base = git(home.repo, "rev-parse", "HEAD")
        for number, task in enumerate(tasks):
            [run] = home.runs(task["id"])
            changed = git(home.repo, "diff", "--name-only", base, run["commit"])
            assert changed == f"{number}.txt"


def test_a_task_works_on_the_branch_it_names(short_dir: Path):
    with house(short_dir) as home:
        home.ready()
        task = home.add("Branch off", script(_write("x"), REPORT), branch="topic/mine")
        assert home.finished(task["id"])["status"] == "succeeded"
        [run] = home.runs(task["id"])
        assert run["branch"] == "topic/mine"
        assert git(home.repo, "rev-parse", "topic/mine") == run["commit"]


def test_a_project_without_a_path_gives_each_task_a_repository(short_dir: Path):
    with house(short_dir) as home:
        home.write(projects=[{"id": "app", "workspace": "scratch", "agents": ["worker"]}])
        home.ready()
        task = home.add("Write", script(_write("x"), REPORT))
        assert home.finished(task["id"])["status"] == "succeeded"
        [run] = home.runs(task["id"])
        repository = home.state / "scratch" / "app" / task["id"]
        assert git(repository, "show", f"{run['commit']}:x") == "x"


def _runs_at_once(runs: list[dict[str, Any]]) -> int:
    """How many runs were alive at a time, at most."""
    edges = [(run["started_at"], 1) for run in runs] + [(run["ended_at"], -1) for run in runs]
    alive = [0, *accumulate(change for _, change in sorted(edges))]
    return max(alive)


def test_no_more_runs_are_alive_than_a_project_may_have(short_dir: Path):
    """Two places of a project are used, and never a third; everything else would allow five."""
    with house(short_dir, max_concurrent=5) as home:
        project = {"id": "app", "path": str(home.repo), "max_concurrent": 2}
        home.write(
            agents={"worker": {"provider": "rehearsal", "max_concurrent": 5}}, projects=[project]
        )
        home.ready()
        first, second = (home.add(f"Hold {n}", script(HOLD, REPORT))["id"] for n in (1, 2))
        until("both places are taken", lambda: len(_running(home)) == 2)
        tasks = [first, second, *(task["id"] for task in _parallel(home, 3))]
        assert (
            "max_concurrent of project app is reached (2/2)"
            in home.run("explain", tasks[-1]).stdout
        )
        for task in (first, second):
            home.go(task)
        for task in tasks:
            assert home.finished(task)["status"] == "succeeded"
        assert _runs_at_once(home.runs()) == 2


def _running(home: House) -> list[dict[str, Any]]:
    return [run for run in home.runs() if run["phase"] == "running"]


def test_a_project_with_a_hundred_tasks_does_not_starve_one_with_a_single_task(short_dir: Path):
    """One place: the single task is among the first two that run, although it came last."""
    with house(short_dir, max_concurrent=1) as home:
        make_repo(short_dir / "small")
        small = {"id": "small", "path": str(short_dir / "small"), "agents": ["worker"]}
        # with slots to spare nothing but fairness lets the other project in
        home.write(
            agents={"worker": {"provider": "rehearsal", "max_concurrent": 3}},
            projects=[*home.settings["projects"], small],
        )
        home.ready("serve")
        with person(home) as client:
            for number in range(100):
                new = {"project_id": "app", "title": f"Big {number}", "description": script(REPORT)}
                client.call("create_task", new)
        single = home.add("Single", script(REPORT), project="small")
        home.start("coordinate")
        assert home.finished(single["id"])["status"] == "succeeded"
        runs = sorted(
            (run for run in home.runs() if run["started_at"]), key=lambda run: run["started_at"]
        )
        assert single["id"] in [run["task_id"] for run in runs[:2]]


def test_a_new_task_is_heard_of_and_not_polled_for(short_dir: Path):
    """With an hour between polls a task, its retry and an archived project are all seen to at once."""
    with house(short_dir) as home:
        make_repo(short_dir / "old")
        old = {"id": "old", "path": str(short_dir / "old"), "agents": ["worker"]}
        home.write(projects=[*home.settings["projects"], old], polling_interval="1h")
        home.ready()
        home.run("project", "pause", "old")
        left = home.add("Never", script(REPORT), project="old")
        home.run("project", "archive", "old")
        task = home.add("Now", script(attempts=[[{"fail_report": {}}], [REPORT]]))
        assert home.finished(task["id"])["status"] == "succeeded"
        assert len(home.runs(task["id"])) == 2
        assert home.task(left["id"])["status"] == "queued"
        assert home.runs(left["id"]) == []
        assert "project old is archived" in home.run("explain", left["id"]).stdout


def test_a_task_that_always_fails_is_tried_three_times_after_growing_waits_and_fails_once(
    short_dir: Path,
):
    """The board tells the end once; each event of an end says how long that run took."""
    with house(short_dir) as home:
        home.write(retry={"max_attempts": 3, "backoff_seconds": [1, 4]})
        home.ready()
        task = home.add("Fail", script({"fail_report": {"summary": "no way"}}))["id"]
        until(
            "it waits for an attempt", lambda: "of 3 begins at" in home.run("explain", task).stdout
        )
        done = home.finished(task)
        assert (done["status"], done["status_reason"]) == ("failed", "attempts_exhausted")
        runs = home.runs(task)
        assert [run["attempt"] for run in runs] == [1, 2, 3]
        for before, after, wait in zip(runs, runs[1:], (1, 4), strict=False):
            ended, began = (
                datetime.fromisoformat(t) for t in (before["ended_at"], after["started_at"])
            )
            assert (began - ended).total_seconds() >= wait
        with person(home) as client:
            events = client.call("list_events", {"task_id": task, "limit": 1000})["events"]
        moves = [one["data"]["transition"] for one in events if one["action"] == "task.status"]
        assert moves == ["T1", "T4", "T14", "T4", "T14", "T4", "T16"]
        lengths = [one["data"]["seconds"] for one in events if one["action"] == "run.ended"]
        assert len(lengths) == 3
        assert all(seconds > 0 for seconds in lengths)


def test_a_branch_that_no_task_may_work_on_is_refused_when_it_is_named(short_dir: Path):
    """No name for a branch, a protected one, and one that another open task works on."""
    with house(short_dir) as home:
        home.ready("serve")
        add = ("task", "add", "--project", "app", "--title", "Branch", "--branch")
        first = json.loads(home.run(*add, "topic/mine", "--json").stdout)["id"]
        for branch, words in (
            ("two..dots", "is no name for a branch"),
            ("a b", "is no name for a branch"),
            ("-f", "is no name for a branch"),
            ("main", "is protected"),
            ("topic/mine", f"task {first} works on the branch"),
        ):
            done = home.run(*add, branch, check=False)
            assert done.returncode == 2, branch
            assert words in done.stderr, branch
            assert len(done.stderr.splitlines()) <= 2
        home.run("task", "cancel", first)
        assert home.run(*add, "topic/mine").returncode == 0


def test_the_level_of_the_log_changes_without_a_restart_and_a_flag_wins(short_dir: Path):
    """No line below the level before the change, some after it; what runs is left alone."""
    with house(short_dir) as home:
        home.write(log_level="info")
        process = home.ready()
        task = home.add("Hold", script(HOLD, REPORT))["id"]
        until("it runs", lambda: _running(home))
        assert not home.logged("run.stage")
        home.write(log_level="debug")
        until("it is taken up", lambda: home.logged("config.changed"))
        home.go(task)
        assert home.finished(task)["status"] == "succeeded"
        assert len(home.runs(task)) == 1
        until("the end is logged", lambda: home.logged("run.end"))
        assert home.logged("run.stage")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        # flag before environment before file
        shown = {"info": True, "warn": False, "error": False}
        for words, variable in (
            ((), "warn"),
            (("--log-level", "error"), "info"),
            (("--log-level", "info"), "error"),
        ):
            home.log.write_bytes(b"")
            home.env["AIAGENT_COORDINATOR_LOG_LEVEL"] = variable
            process = home.ready(*words)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
            assert bool(home.logged("daemon.ready")) == shown[words[1] if words else variable]
