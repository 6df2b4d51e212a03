"""What a pause does to the programs that run in a project; real processes throughout."""

from __future__ import annotations

from pathlib import Path

from support.house import HOLD, house, script

REPORT = {"report": {"result": "success", "summary": "done"}}


def test_a_pause_stops_what_runs_where_the_settings_say_so_and_a_resume_goes_on(short_dir: Path):
    with house(short_dir, when_paused="stop") as home:
        home.ready()
        task = home.add("Long", script(HOLD, REPORT))["id"]
        run = home.running(task)["id"]
        home.run("project", "pause", "app")
        over = home.over(run)
        assert (over["outcome"], over["reason"]) == ("stopped", "stopped")
        shown = home.task(task)
        assert (shown["status"], shown["attempt"]) == ("queued", 1)
        home.run("project", "resume", "app")
        home.go(task)
        assert home.finished(task)["status"] == "succeeded"
        assert len(home.runs(task)) == 2


def test_without_the_setting_a_paused_project_lets_its_runs_finish(short_dir: Path):
    with house(short_dir) as home:
        home.ready()
        task = home.add("Long", script(HOLD, REPORT))["id"]
        run = home.running(task)["id"]
        home.run("project", "pause", "app")
        later = home.add("Later", script(REPORT))["id"]
        home.go(task)
        assert home.over(run)["outcome"] == "succeeded"
        assert home.task(later)["status"] == "queued"
