"""`--until-done` comes to its end whatever lies on the board, by the real programs."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.house import PATIENCE_SECONDS, House, house, script
from support.repo import make_repo

SUCCESS = script({"report": {"result": "success", "summary": "done"}})
FAILURE = script({"report": {"result": "failed", "summary": "no"}})


def worked_off(home: House, *words: str) -> tuple[int, str]:
    """Work off the board; the exit status and what was said at the end."""
    status = home.start("--until-done", *words).wait(PATIENCE_SECONDS)
    return status, home.log_text().rpartition("task(s) did not succeed:")[2]


def line_of(listed: str, task_id: str) -> str:
    """What the list says of one task."""
    found = [line for line in listed.splitlines() if line.startswith(task_id)]
    assert len(found) == 1, listed
    return found[0]


def test_tasks_that_can_never_start_are_listed_with_the_reason(short_dir: Path):
    """An agent and a project that are gone, a paused project, a provider that is nowhere, a folder
    that vanished, a dependency that failed: each counts as not done, and the good task is done."""
    with house(short_dir) as home:
        home.write(retry={"max_attempts": 1})
        agents = {"worker": {"provider": "rehearsal"}}
        projects = [
            {"id": "app", "path": str(home.repo)},
            {"id": "rested", "path": str(make_repo(home.root / "rested"))},
            {"id": "lost", "path": str(make_repo(home.root / "lost"))},
        ]
        gone = {"id": "gone", "path": str(make_repo(home.root / "gone"))}
        home.write(
            agents={**agents, "leaver": {"provider": "rehearsal"}}, projects=[*projects, gone]
        )
        server = home.ready("serve")
        home.run("agent", "add", "stray", "--provider", "nowhere", "--project", "app")
        good = home.add("Good", SUCCESS)["id"]
        failing = home.add("Fail", FAILURE)["id"]
        expected = {
            home.add("Nobody", SUCCESS, agent="leaver")["id"]: "agent leaver does not work in",
            home.add("Gone", SUCCESS, project="gone")["id"]: "is not in the configuration any more",
            home.add("Rest", SUCCESS, project="rested")["id"]: "project rested is paused",
            home.add("Stray", SUCCESS, agent="stray")["id"]: "there is no provider 'nowhere' here",
            home.add("Lost", SUCCESS, project="lost")["id"]: "workspace_invalid",
            home.add("After", SUCCESS, depends_on=failing)["id"]: f"dependency_failed: {failing}",
            failing: "attempts_exhausted",
        }
        home.run("project", "pause", "rested")
        home.run("stop")
        assert server.wait(PATIENCE_SECONDS) == 0
        shutil.rmtree(home.root / "lost")
        home.write(agents=agents, projects=projects)
        status, listed = worked_off(home)
        assert status == 1
        for task, reason in expected.items():
            assert reason in line_of(listed, task)
        assert good not in listed


def test_with_a_project_only_its_tasks_count(short_dir: Path):
    """What waits elsewhere is left; what it waits for elsewhere is waited for."""
    with house(short_dir) as home:
        other = {"id": "other", "path": str(make_repo(home.root / "other"))}
        home.write(projects=[{"id": "app", "path": str(home.repo)}, other])
        server = home.ready("serve")
        home.run("agent", "add", "stray", "--provider", "nowhere", "--project", "other")
        stuck = home.add("Stuck", SUCCESS, project="other", agent="stray")["id"]
        before = home.add("Before", SUCCESS, project="other")["id"]
        after = home.add("After", SUCCESS, depends_on=before)["id"]
        home.run("stop")
        assert server.wait(PATIENCE_SECONDS) == 0
        assert worked_off(home, "--project", "app")[0] == 0
        assert "Every task succeeded." in home.log_text()
        status, listed = worked_off(home, "--project", "other")
        assert status == 1
        assert "no provider 'nowhere'" in line_of(listed, stuck)
        assert before not in listed
        assert after not in listed


def test_a_project_that_is_none_is_told(short_dir: Path):
    with house(short_dir) as home:
        assert worked_off(home, "--project", "nothing")[0] == 5
        assert "there is no project 'nothing'" in home.log_text()
        alone = home.run("--project", "app", check=False)
        assert (alone.returncode, len(alone.stderr.splitlines())) == (2, 1)
        assert "--project needs --until-done" in alone.stderr
