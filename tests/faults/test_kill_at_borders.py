"""Kill -9 at every border of a start, of the stages and of a call: the story goes on from there.

`AIAGENT_ALL_BORDERS=1 pytest tests/faults/test_kill_at_borders.py` tries every place there is, about
five minutes; without it those at which most could go wrong.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aiagent_coordinator import failpoints
from support.house import House, house, living, script, until
from support.repo import git

STEPS = (
    {"progress": {"value": 50, "message": "half"}},
    {"write": {"path": "new.txt", "text": "new\n"}},
    {"report": {"result": "success", "summary": "done"}},
)

#: Every place, and calls whose effect must not be doubled when the answer is lost.
PLACES = [name for name in failpoints.NAMES if not name.startswith("tool.")] + [
    f"tool.{moment}/{tool}"
    for tool in (
        "authenticate",
        "get_next_action",
        "report_progress",
        "report_completed",
        "claim_run",
        "report_run_started",
        "report_run_exit",
        "report_run_result",
        "renew_runs",
        "list_agent_actions",
    )
    for moment in ("begun", "done")
]


#: Where an effect and the knowledge of it lie furthest apart.
TELLING = (
    "intent.journaled",
    "claim.answered",
    "launch.held",
    "launch.gone",
    "outbox.answered",
    "seal.committed",
    "tool.done/report_progress",
    "tool.done/report_completed",
    "tool.done/claim_run",
    "tool.done/report_run_result",
)
CHOSEN = PLACES if os.environ.get("AIAGENT_ALL_BORDERS") else TELLING


def test_the_telling_places_exist():
    assert set(TELLING) <= set(PLACES)


def story_with_a_kill(home: House, place: str) -> None:
    """One task whose daemon is killed at the place, once, and started again."""
    home.env[failpoints.VARIABLE] = f"{place}:1*kill"
    home.log.write_bytes(b"")
    process = home.start()
    home.env.pop(failpoints.VARIABLE)

    def added() -> bool:
        return process.poll() is not None or home.up()

    until("the server answers", added)
    description = script(*STEPS)
    add = ("task", "add", "--project", "app", "--agent", "worker", "--title", place)
    check = ("--check", "test -f new.txt")
    home.run(*add, "--description", description, *check, check=False)
    until(f"it is killed at {place}", lambda: process.poll() is not None)
    assert process.returncode == -9, home.log_text()
    home.ready()
    tasks = [task for task in home.json("task", "list")["tasks"] if task["title"] == place]
    if not tasks:  # it was killed before the task was there
        tasks = [home.add(place, description, check="test -f new.txt")]
    (task,) = tasks
    done = home.finished(task["id"])
    runs = home.runs(task["id"])
    told = f"{place}\n{done}\n{runs}\n{home.log_text()}"
    assert done["status"] == "succeeded", told
    assert done["attempt"] == 1, told
    assert [run["outcome"] for run in runs] == ["succeeded"], told
    (run,) = runs
    assert run["exit_code"] == 0, told
    out = (home.state / "run" / run["id"] / "out").read_text(encoding="utf-8")
    assert out.count("* report success") == 1, told + out
    trailers = git(home.repo, "log", "--format=%(trailers)", f"main..{run['branch']}")
    assert trailers.count("Run-Id") == 1, trailers
    home.run("stop")
    until("no process is left", lambda: not living(home))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(2))
def test_a_kill_at_any_border_costs_nothing(short_dir: Path, part: int):
    with house(short_dir) as home:
        for place in CHOSEN[part::2]:
            story_with_a_kill(home, place)
