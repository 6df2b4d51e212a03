"""Audits and templates with the real programs: agents complete, rules fire, what is held is let go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from support.house import HOLD, House, house, script, until

DONE = {"report": {"result": "success", "summary": "all is well"}}
AGENTS: dict[str, Any] = {
    "ann": {"provider": "rehearsal"},
    "bob": {"provider": "rehearsal"},
    "boss": {"provider": "rehearsal", "hierarchy": "manager"},
}
AUDIT = """\
schema: 1
title: Results of ann are looked at
rules:
  - trigger: task_completed
    agents: [ann]
    lock: [agent]
    tasks:
      - order: 1
        title: Look at {{task_title}}
        agent: bob
        description: |
          {{summary}}

          ```rehearsal
          {"steps": [%s, {"report": {"result": "success", "summary": "seen"}}]}
          ```
"""
TEMPLATE = """\
schema: 1
title: A release
variables:
  version: {about: "Like 1.2"}
  extra: {default: ""}
tasks:
  - order: 2
    title: "Announce {{version}}"
    description: "{{extra}} {{{{as it is}}"
    agent: bob
    depends_on_orders: [1]
  - order: 1
    title: "Cut {{version}}"
    description: "{{extra}}"
    role: worker
"""


def staffed(home: House) -> None:
    project = {"id": "app", "path": str(home.repo), "agents": list(AGENTS)}
    home.write(agents=AGENTS, projects=[project])


def put(home: House, kind: str, name: str, text: str) -> Path:
    file = home.repo / ".aiagent" / kind / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file


def made(home: House) -> list[dict[str, Any]]:
    found = home.ask("list_tasks", limit=1000)["tasks"]
    return [one for one in found if one["audit_firing_id"]]


def test_an_agents_completion_fires_an_audit_that_holds_it_until_another_has_looked(
    short_dir: Path,
) -> None:
    """Upstream's audits never fire for what agents complete. A killed program loses and repeats nothing."""
    with house(short_dir) as home:
        staffed(home)
        file = put(home, "audits", "look", AUDIT % json.dumps(HOLD))
        process = home.ready()
        (line,) = (
            one
            for one in home.json("audit", "list", "--project", "app")["audits"]
            if one["name"] == "look"
        )
        assert (line["status"], line["origin"]) == ("inactive", "project")
        assert (
            "audit look is active"
            in home.run("audit", "activate", "look", "--project", "app").stdout
        )
        # what agents do to the file from now on counts for nothing
        file.write_text("rules: 3\n", "utf-8")
        task = home.add("Build it", script(DONE), agent="ann")
        assert home.finished(task["id"])["status"] == "succeeded"
        (look,) = made(home)
        assert (look["title"], look["agent_id"]) == ("Look at Build it [Audit: Build it]", "bob")
        assert "all is well" in home.task(look["id"])["description"]

        waits = home.add("Next", script(DONE), agent="ann")
        home.running(look["id"])
        (why,) = [
            one
            for one in home.json("explain", waits["id"])["reasons"]
            if one["code"] == "agent_locked"
        ]
        assert (
            f"locked by audit look because of {task['id']}, until these succeed: {look['id']}"
            in why["text"]
        )
        process.kill()
        process.wait(20)
        home.ready()
        assert home.runs(waits["id"]) == []
        home.go(look["id"])
        assert home.finished(waits["id"])["status"] == "succeeded"
        assert home.task(look["id"])["status"] == "succeeded"
        # its own completion fired nothing; that of ann's second task did
        until("the second fired", lambda: len(made(home)) == 2)
        shown = home.run("audit", "show", "look", "--project", "app").stdout
        assert "task_completed; makes: Look at {{task_title}}; locks: agent" in shown
        assert f"because of {task['id']}" in shown
        assert "holds agent ann" in shown
        listed = home.run("audit", "list", "--project", "app").stdout
        assert "look.yaml: schema: must be 1" in listed
        assert "ann is held by no audit" in home.run("agent", "unlock", "ann").stdout
        assert home.run("agent", "unlock", "ann", check=False).returncode == 6
        home.run("audit", "suspend", "look", "--project", "app")
        home.finished(home.add("Quiet", script(DONE), agent="ann")["id"])
        assert len(made(home)) == 2


def test_a_locked_task_waits_for_a_person_and_says_so(short_dir: Path) -> None:
    rules = "schema: 1\ntitle: Stop\nrules:\n  - {trigger: status_changed, to: [failed], lock: [task]}\n"
    with house(short_dir) as home:
        staffed(home)
        put(home, "audits", "stop", rules)
        home.write(retry={"max_attempts": 1, "backoff_seconds": [0.1]})
        home.ready()
        home.run("audit", "activate", "stop", "--project", "app")
        steps = ({"fail_report": {"summary": "no paint"}},)
        task = home.add("Paint", script(attempts=[steps, (DONE,)]), agent="ann")
        assert home.finished(task["id"])["status"] == "failed"
        assert "locked by audit stop" in home.run("explain", task["id"]).stdout
        assert "failed (locked)" in home.run("task", "list").stdout
        home.run("task", "retry", task["id"])
        shown = home.run("explain", task["id"]).stdout
        assert f"→ task unlock {task['id']}" in shown or f"task unlock {task['id']}" in shown
        other = home.finished(home.add("Other", script(DONE), agent="ann")["id"])
        assert other["status"] == "succeeded"
        assert home.task(task["id"])["status"] == "queued"
        assert "is held by no audit" in home.run("task", "unlock", task["id"]).stdout
        assert home.finished(task["id"])["status"] == "succeeded"


def test_a_template_makes_its_tasks_once_and_agents_do_them_in_order(short_dir: Path) -> None:
    with house(short_dir) as home:
        staffed(home)
        file = put(home, "templates", "release", TEMPLATE)
        home.ready()
        run = ("template", "run", "release", "--project", "app")
        for more, said in (
            ((), "variables missing: version"),
            (("--set", "version=1", "--set", "verzion=2"), "unknown: verzion"),
            (("--set", "version=a\nb"), "order 1: a title has"),
            (("--set", "version"), "'version' is no KEY=VALUE"),
        ):
            refused = home.run(*run, *more, check=False)
            assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
        say = ("--set", "version=1.2", "--set", f"extra={script(DONE)}")
        dry = home.json(*run, *say, "--dry-run")
        assert [(one["order"], one["title"], one["agent_id"]) for one in dry["tasks"]] == [
            (1, "Cut 1.2", "ann"),
            (2, "Announce 1.2", "bob"),
        ]
        assert home.ask("list_tasks")["tasks"] == []
        first = home.json(*run, *say, "--key", "r-1.2")
        again = home.json(*run, *say, "--key", "r-1.2")
        ids = [one["id"] for one in first["tasks"]]
        assert (again["already_made"], [one["id"] for one in again["tasks"]]) == (True, ids)
        assert "nothing was made now" in home.run(*run, *say, "--key", "r-1.2").stderr
        cut, announce = (home.finished(one) for one in ids)
        assert (cut["status"], announce["status"]) == ("succeeded", "succeeded")
        assert cut["ended_at"] < home.runs(announce["id"])[0]["created_at"]
        assert announce["description"].endswith(" {{as it is}}")
        assert len(home.ask("list_tasks")["tasks"]) == 2

        names = {
            one["name"]: one
            for one in home.json("template", "list", "--project", "app")["templates"]
        }
        assert (names["release"]["origin"], names["feature"]["origin"]) == ("project", "built-in")
        assert (
            "title: A release" in home.run("template", "show", "release", "--project", "app").stdout
        )
        file.write_text(TEMPLATE.replace("[1]", "[7]"), "utf-8")
        refused = home.run("template", "validate", check=False)
        assert refused.returncode == 3
        assert (
            "release.yaml:11: tasks[0].depends_on_orders[0]: there is no order 7" in refused.stderr
        )
        assert home.run(*run, *say, check=False).returncode == 3
        mine = home.root / "home" / "config" / "aiagent-coordinator" / "templates"
        mine.mkdir(parents=True)
        shutil.move(file, mine / "release.yaml")
        (mine / "release.yaml").write_text(TEMPLATE, "utf-8")
        assert home.json(*run, *say, "--dry-run")["dry_run"]
