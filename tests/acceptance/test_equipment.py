"""What an agent has beside our tools: servers and skills that a task switches off, and what is told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.house import House, house, script

GUIDE = "---\nname: paint\ndescription: How walls are painted here.\n---\nUse the wide brush.\n"
#: What its program was told of servers, and its prompt, to where the test finds them.
LOOK = (
    'run="{root}/state/run/$AIAGENT_RUN_ID"; cp "$run/files/mcp.json" "{root}/$1.json"; '
    'cp "$run/prompt" "{root}/$1.prompt"; ls "$run/files" > "{root}/$1.files"'
)


def looks(home: House, name: str) -> str:
    words = LOOK.replace("{root}", str(home.root))
    return script({"run": {"argv": ["sh", "-c", words, "sh", name]}})


def servers(home: House, name: str) -> set[str]:
    told: dict[str, Any] = json.loads((home.root / f"{name}.json").read_text())
    return set(told["mcpServers"])


def add(home: House, name: str, *options: str) -> dict[str, Any]:
    words = ("--project", "app", "--agent", "worker", "--title", name)
    return home.json("task", "add", *words, "--description", looks(home, name), *options)


def test_a_task_switches_off_servers_and_skills_of_its_agent(short_dir: Path) -> None:
    with house(short_dir) as home:
        for name in ("paint", "plaster"):
            (short_dir / name).mkdir()
            (short_dir / name / "SKILL.md").write_text(GUIDE.replace("paint", name))
        worker = {
            "provider": "rehearsal",
            "skills": [str(short_dir / "paint"), str(short_dir / "plaster")],
            "mcp_servers": {"mine": {"command": "true", "env": {"MINE": "x"}}},
        }
        home.write(agents={"worker": worker}, mcp_servers={"wiki": {"command": "true"}})
        home.ready()

        whole = add(home, "whole")
        bare = add(home, "bare", "--no-mcp-servers", "--no-skills")
        some = add(home, "some", "--mcp-servers", "wiki", "--skills", "plaster")
        wrong = add(home, "wrong", "--mcp-servers", "wiki,wikki")
        for made in (whole, bare, some):
            assert home.finished(made["id"])["status"] == "succeeded", home.log_text()

        assert servers(home, "whole") == {"coord", "mine", "wiki"}
        assert "paint" in (home.root / "whole.prompt").read_text()
        assert servers(home, "bare") == {"coord"}
        assert "# Skills" not in (home.root / "bare.prompt").read_text()
        assert (home.root / "bare.files").read_text().split() == ["mcp.json"]
        assert servers(home, "some") == {"coord", "wiki"}
        prompt = (home.root / "some.prompt").read_text()
        assert ("plaster" in prompt, "paint" in prompt) == (True, False)

        shown = home.run("task", "show", bare["id"]).stdout
        assert "mcp_servers: none; skills: none" in shown
        assert home.json("task", "show", some["id"])["options"] == {
            "mcp_servers": ["wiki"],
            "skills": ["plaster"],
        }

        # what is not there is no silent nothing: the task fails at once, and nothing was started for it
        failed = home.finished(wrong["id"])
        assert (failed["status"], failed["status_reason"]) == ("failed", "options_invalid")
        (run,) = failed["runs"]
        assert (run["outcome"], run["started_at"]) == ("not_started", None)
        told = home.shown(run["id"])["error"]
        assert "does not have in project app: wikki; it has: mine, wiki" in told
        assert told in home.run("explain", wrong["id"]).stdout

        words = ("task", "add", "--project", "app", "--title", "x")
        for said in (
            ("--skills", "nothing-of-that-name"),
            ("--mcp-servers", "a", "--no-mcp-servers"),
            ("--mcp-servers", "a,,b"),
        ):
            assert home.run(*words, *said, check=False).returncode != 0, said
        home.down()


TEMPLATE = """\
schema: 1
title: Bare and whole
variables: {}
tasks:
  - order: 1
    title: Bare
    needs_approval: true
    mcp_servers: []
    skills: []
  - order: 2
    title: One
    needs_approval: true
    mcp_servers: [wiki]
"""


def test_a_template_says_what_its_tasks_are_given(short_dir: Path) -> None:
    with house(short_dir) as home:
        folder = home.repo / ".aiagent" / "templates"
        folder.mkdir(parents=True)
        (folder / "both.yaml").write_text(TEMPLATE)
        home.ready()
        home.run("template", "run", "both", "--project", "app")
        given = {one["title"]: one["options"] for one in home.json("task", "list")["tasks"]}
        assert given == {
            "Bare": {"mcp_servers": [], "skills": []},
            "One": {"mcp_servers": ["wiki"]},
        }
        (folder / "both.yaml").write_text(TEMPLATE.replace("[wiki]", "wiki"))
        refused = home.run("template", "list", "--project", "app", check=False)
        assert "mcp_servers: must be a list of words" in refused.stdout + refused.stderr
        home.down()
