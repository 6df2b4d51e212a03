"""What the board promises of order, places and branches, by the real programs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from support.house import House, house, script
from support.repo import git

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
