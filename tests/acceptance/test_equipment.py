"""What an agent has beside our tools: servers and skills that a task switches off, and what is told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.house import House, house, script, until

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


#: The rehearsal agent as a CLI that keeps servers of its own, and cannot be told to leave them out.
STUBBORN = """\
schema = 1
name = "stubborn"
title = "Stubborn CLI"
[detect]
executable = "{python}"
[launch]
command = ["-I", "-m", "aiagent_coordinator.rehearsal"]
args = [["--mcp-config", "{mcp_config_file}"]]
[mcp]
style = "file"
stdio = { command = "{bridge_command}", args = "{bridge_args}" }
[options.own_servers]
default = "inherit"
values.inherit = {}
"""


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
        folder = Path(home.env["XDG_CONFIG_HOME"]) / "aiagent-coordinator" / "providers"
        folder.mkdir(parents=True)
        (folder / "stubborn.toml").write_text(STUBBORN)
        home.write(agents={"worker": worker, "other": {"provider": "stubborn"}})
        home.write(projects=[{"id": "app", "path": str(home.repo), "agents": ["worker", "other"]}])
        home.write(mcp_servers={"wiki": {"command": "true"}})
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

        words = ("--project", "app", "--agent", "other", "--title", "Bare, as far as can be")
        own = home.json(
            "task", "add", *words, "--description", looks(home, "own"), "--no-mcp-servers"
        )
        assert home.finished(own["id"])["status"] == "succeeded", home.log_text()
        assert servers(home, "own") == {"coord"}
        warned = home.shown(home.last(own["id"])["id"])["warnings"]
        assert "Stubborn CLI cannot be told to leave out" in warned["mcp_servers"]
        assert not home.shown(home.last(bare["id"])["id"])["warnings"]

        shown = home.run("task", "show", bare["id"]).stdout
        assert "mcp_servers: none; skills: none" in shown
        assert home.json("task", "show", some["id"])["options"] == {
            "mcp_servers": ["wiki"],
            "skills": ["plaster"],
        }

        # the configuration, and what the task says, together
        words = ("config", "explain", "mcp_servers", "--json", "--task")
        (told,) = json.loads(home.run(*words, some["id"]).stdout)["servers"]
        assert {one["name"]: (one["is_on"], one["off_by"]) for one in told["servers"]} == {
            "coord": (True, None),
            "mine": (False, f"task {some['id']}"),
            "wiki": (True, None),
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


def test_what_an_agent_requires_is_there_before_anything_is_started(short_dir: Path) -> None:
    with house(short_dir) as home:
        wants = {"mcp_servers": ["wiki"], "secrets": ["WIKI_KEY_OF_TEST"]}
        home.write(agents={"worker": {"provider": "rehearsal", "requires": wants}})
        first = home.ready()
        task = add(home, "late")
        reason = "agent worker has no MCP server wiki in project app and has no variable WIKI_KEY_OF_TEST here"
        until("it is said", lambda: reason in home.run("explain", task["id"]).stdout)
        assert (home.task(task["id"])["status"], home.runs(task["id"])) == ("queued", [])
        home.run("stop")
        until("it is down", lambda: first.poll() is not None)
        home.write(mcp_servers={"wiki": {"command": "true"}})
        home.env["WIKI_KEY_OF_TEST"] = "secret"
        home.ready()
        assert home.finished(task["id"])["status"] == "succeeded", home.log_text()
        (run,) = home.runs(task["id"])
        assert (run["attempt"], servers(home, "late")) == (1, {"coord", "wiki"})
        home.down()
