"""Managers: cut a task, have others do its parts, wait without being started, report. The real programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.house import HOLD, House, house, script, until

AGENTS: dict[str, Any] = {
    "boss": {"provider": "rehearsal", "hierarchy": "manager"},
    "ann": {"provider": "rehearsal", "parent": "boss"},
    "bob": {"provider": "rehearsal", "parent": "boss"},
    "stranger": {"provider": "rehearsal"},
}


def staffed(home: House, **settings: Any) -> None:
    """A house with a manager, two that work for it, and one that does not."""
    project = {"id": "app", "path": str(home.repo), "agents": list(AGENTS)}
    home.write(agents=AGENTS, projects=[project], **settings)


def part(local_id: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    title = more.pop("title", f"Part {local_id}")
    return {"local_id": local_id, "title": title, "description": script(*steps), **more}


def wrote(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        {"write": {"path": name, "text": f"{name}\n"}},
        {"report": {"result": "success", "summary": f"wrote {name}"}},
    )


def parts_of(home: House, task_id: str) -> dict[str, dict[str, Any]]:
    found = home.ask("list_tasks", limit=100)["tasks"]
    return {one["title"]: one for one in found if one["parent_id"] == task_id}


def test_a_manager_has_others_do_its_task_and_is_started_again_only_when_it_is_needed(
    short_dir: Path,
) -> None:
    """Create, assign, wait on an event, complete; upstream respawned a waiting manager every 10 s."""
    with house(short_dir) as home:
        staffed(home)
        home.ready()
        tasks = [
            part("a", HOLD, *wrote("a.txt"), assignee_id="ann"),
            part("b", *wrote("b.txt")),
            part("c", *wrote("c.txt"), assignee_id="ann", dependencies=["a"]),
        ]
        task = home.add("Build it", script({"delegate": {"tasks": tasks}}), agent="boss")
        until("the boss waits", lambda: home.task(task["id"])["wait_reason"] == "subtasks")
        first = home.last(task["id"])
        assert (first["outcome"], first["reason"]) == ("suspended", "delegated")
        below = parts_of(home, task["id"])
        assert below["Part b"]["agent_id"] in {"ann", "bob"}
        home.finished(below["Part b"]["id"])
        # it is not started for a part that only went well: polls go by until ann has hers
        home.running(below["Part a"]["id"])
        why = home.ask("explain_task", task_id=task["id"])["reasons"]
        assert why[0]["code"] == "subtasks"
        assert "1 of 3 are over" in why[0]["text"]
        assert len(home.runs(task["id"])) == 1
        home.go(below["Part a"]["id"])
        done = home.finished(task["id"])
        assert done["status"] == "succeeded", done
        assert done["attempt"] == 1
        _, second = home.runs(task["id"])
        assert second["outcome"] == "succeeded"
        assert {one["status"] for one in parts_of(home, task["id"]).values()} == {"succeeded"}


def test_only_subordinates_are_given_work_and_a_batch_is_made_once_and_within_bounds(
    short_dir: Path,
) -> None:
    """Upstream made the same sub-tasks twice; and who works for nobody else is not to be commanded."""
    with house(short_dir) as home:
        staffed(home, subtasks={"max_per_task": 3, "max_depth": 1})
        home.ready()
        batch = {
            "tasks": [part("a", *wrote("a.txt"), title="Write the parser")],
            "batch_key": "one",
        }
        more = [{"local_id": str(n), "title": f"Number {n}"} for n in range(3)]
        steps = (
            {"call": {"tool": "create_tasks_batch", "arguments": batch}},
            {"call": {"tool": "create_tasks_batch", "arguments": batch}},
            {"call": {"tool": "create_tasks_batch", "arguments": {"tasks": more}, "fails": True}},
            {"call": {"tool": "create_task", "arguments": {"title": "Write the parsers"}}},
            {"call": {"tool": "list_subordinates"}},
            {
                "call": {
                    "tool": "create_tasks_batch",
                    "arguments": {"tasks": [part("x", assignee_id="stranger")]},
                    "fails": True,
                }
            },
            {"call": {"tool": "report_completed", "arguments": {"result": "success"}}},
        )
        task = home.add("Build it", script(*steps), agent="boss")
        until("the boss waits", lambda: home.task(task["id"])["wait_reason"] == "subtasks")
        run = home.last(task["id"])
        said = Path(run["log_path"]).read_text("utf-8")
        assert '"already_existed": true' in said
        assert "SUBTASK_LIMIT" in said
        assert "is called much like 'Write the parser'" in said
        assert "agent stranger does not work for you" in said
        assert '"open_subtasks"' in said
        assert sorted(parts_of(home, task["id"])) == ["Write the parser", "Write the parsers"]
        assert home.finished(task["id"])["status"] == "succeeded"


def test_a_manager_hears_of_a_part_that_failed_and_goes_on_without_it(short_dir: Path) -> None:
    with house(short_dir) as home:
        staffed(home, retry={"max_attempts": 1, "backoff_seconds": [0.1]})
        home.ready()
        tasks = [
            part("good", *wrote("good.txt"), assignee_id="bob"),
            part("bad", {"fail_report": {"summary": "no paint"}}, assignee_id="ann"),
            part("after", *wrote("after.txt"), assignee_id="bob", dependencies=["bad"]),
        ]
        task = home.add("Paint it", script({"delegate": {"tasks": tasks}}), agent="boss")
        done = home.finished(task["id"])
        assert done["status"] == "succeeded"
        below = {title: one["status"] for title, one in parts_of(home, task["id"]).items()}
        assert below == {"Part good": "succeeded", "Part bad": "failed", "Part after": "cancelled"}


def test_a_broken_workflow_ends_its_task_after_one_run_and_stops_no_other(
    short_dir: Path,
) -> None:
    with house(short_dir) as home:
        staffed(home)
        folder = home.repo / ".aiagent" / "workflows"
        folder.mkdir(parents=True)
        bad = folder / "mine.yaml"
        bad.write_text("schema: 1\nrole: worker\ntitle: Bad\nstages: 3\n", "utf-8")
        home.ready()
        refused = home.run("workflow", "validate", check=False)
        assert refused.returncode == 3
        assert "mine.yaml:4: stages: must be a mapping" in refused.stderr
        names = {
            one["name"]: one
            for one in home.json("workflow", "list", "--project", "app")["workflows"]
        }
        assert (names["mine"]["origin"], names["worker"]["origin"]) == ("project", "built-in")
        unknown = home.run(
            *("task", "add", "--project", "app", "--agent", "ann", "--title", "x"),
            *("--workflow", "mnie"),
            check=False,
        )
        assert (
            "there is no workflow 'mnie'; there are: manager, mine, reviewer, worker"
            in unknown.stderr
        )
        broken = bad.read_text("utf-8")
        bad.write_text(SMALL, "utf-8")
        lost = home.add("Follows mine", script(HOLD), agent="stranger", workflow="mine")
        bad.write_text(broken, "utf-8")
        failed = home.finished(lost["id"])
        assert (failed["status"], failed["status_reason"]) == ("failed", "workflow_not_found")
        assert len(home.runs(lost["id"])) == 1
        (why,) = home.ask("explain_task", task_id=lost["id"])["reasons"]
        assert "mine.yaml:4: stages" in why["text"]
        # others of the project go on
        held = part("a", HOLD, *wrote("a.txt"), assignee_id="ann")
        task = home.add("Build", script({"delegate": {"tasks": [held]}}), agent="boss")
        until("the boss waits", lambda: home.task(task["id"])["wait_reason"] == "subtasks")
        (below,) = parts_of(home, task["id"]).values()
        home.last(task["id"])
        home.running(below["id"])
        home.run("task", "cancel", below["id"])
        assert home.finished(task["id"])["status"] == "succeeded"


#: A workflow of a project's own: it says one thing and reports.
SMALL = """\
schema: 1
role: worker
title: Small
stages:
  only:
    rules:
      - do: report_completion
        say: Report.
"""


def test_managers_below_managers_survive_a_killed_program_while_they_wait(short_dir: Path) -> None:
    """What a manager waits for is on the board: no life of the program has to remember it."""
    with house(short_dir) as home:
        agents: dict[str, Any] = {
            "boss": {"provider": "rehearsal", "hierarchy": "manager"},
            "lead": {"provider": "rehearsal", "hierarchy": "manager", "parent": "boss"},
            "ann": {"provider": "rehearsal", "parent": "lead"},
        }
        project = {"id": "app", "path": str(home.repo), "agents": list(agents)}
        home.write(agents=agents, projects=[project])
        process = home.ready()
        bottom = [part("bottom", HOLD, *wrote("deep.txt"), assignee_id="ann")]
        middle = [part("middle", {"delegate": {"tasks": bottom}}, assignee_id="lead")]
        task = home.add("Top", script({"delegate": {"tasks": middle}}), agent="boss")
        until("the boss waits", lambda: home.task(task["id"])["wait_reason"] == "subtasks")
        below = parts_of(home, task["id"])["Part middle"]
        until("the lead waits", lambda: home.task(below["id"])["wait_reason"] == "subtasks")
        home.last(below["id"])
        deep = parts_of(home, below["id"])["Part bottom"]
        home.running(deep["id"])
        process.kill()
        process.wait(20)
        home.ready()
        home.go(deep["id"])
        assert home.finished(task["id"])["status"] == "succeeded"
        assert home.task(below["id"])["status"] == "succeeded"
        assert [len(home.runs(one)) for one in (task["id"], below["id"], deep["id"])] == [2, 2, 1]
