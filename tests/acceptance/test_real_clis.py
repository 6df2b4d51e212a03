"""The real CLIs, offline, by the real program: each against a scripted model on this machine.

They are hundreds of megabytes from npm, so this runs only when asked for:

    AIAGENT_REAL_CLIS=1 AIAGENT_CLI_CACHE=~/.cache/aiagent-clis pytest tests/acceptance/test_real_clis.py -s
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clis import (
    RUN_SECONDS,
    TOOLS,
    WANTED,
    ended,
    litter,
    model,
    output_of,
    programs,
    working,
)
from support.house import until
from support.repo import git

# not even collected unless asked for: a skip would look like something that this machine lacks
__test__ = bool(WANTED)
pytestmark = [pytest.mark.needs("node"), pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def clis() -> Iterator[Path]:
    """The folder with the programs."""
    yield from programs()


@pytest.mark.parametrize("name", WANTED)
def test_a_real_cli_takes_a_task_to_a_sealed_commit(name: str, short_dir: Path, clis: Path):
    with model(short_dir) as served, working(short_dir, name, clis, served) as home:
        before = (git(home.repo, "rev-parse", "HEAD"), git(home.repo, "rev-parse", "main"))
        task = home.add("Write a file", "Write model.txt.", check="grep -q model model.txt")
        done = home.finished(task["id"], RUN_SECONDS)
        runs = home.runs(task["id"])
        told = output_of(home, runs[-1])
        assert done["status"] == "succeeded", told
        (run,) = runs
        assert (run["outcome"], run["exit_code"], run["attempt"]) == ("succeeded", 0, 1), told
        called = served.calls()
        assert [call for call in called if call in TOOLS] == TOOLS, told
        assert git(home.repo, "show", f"{run['commit']}:model.txt") == "written by a model"
        # the user's own checkout and home are as they were
        assert (git(home.repo, "rev-parse", "HEAD"), git(home.repo, "rev-parse", "main")) == before
        assert git(home.repo, "status", "--porcelain", "--ignored") == ""
        assert git(home.repo, "diff", "--name-only", "main", run["commit"]) == "model.txt"
        assert litter(home, name) == []
        version = subprocess.run(
            [str(clis / name), "--version"],
            env={"PATH": os.environ["PATH"], "HOME": str(short_dir / "home")},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        print(f"\n{name} {version.stdout.strip()}: {' '.join(called)} -> {run['commit']}")


#: A plan in which the model reads the guide of the first skill that it was told of.
READING = [
    *({"tool": "authenticate"}, {"tool": "get_next_action"}, {"tool": "get_my_task"}),
    {"tool": "get_next_action"},
    {"read": "/painting-walls/SKILL.md"},
    {"write": "model.txt", "text": "written by a model\n"},
    {"tool": "get_next_action"},
    {"tool": "report_completed", "arguments": {"result": "success", "summary": "read it"}},
    {"tool": "get_next_action"},
]


@pytest.mark.parametrize("name", WANTED)
def test_a_real_cli_reads_the_skill_of_its_agent_and_nothing_of_it_stays(
    name: str, short_dir: Path, clis: Path
):
    plan, skill = short_dir / "plan.json", short_dir / "painting"
    plan.write_text(json.dumps(READING))
    skill.mkdir()
    head = "name: painting-walls\ndescription: How zebra walls are painted."
    (skill / "SKILL.md").write_text(f"---\n{head}\n---\nUse the xylophone brush.\n")
    watched = [part for word in ("xylophone", "a quokka") for part in ("--watch", word)]
    told = {"xylophone", "a quokka"}
    with (
        model(short_dir, "--plan", str(plan), *watched) as served,
        working(short_dir, name, clis, served) as home,
    ):
        home.run("skill", "add", str(skill))
        home.run("skill", "assign", "painting-walls", "worker")
        worker = {**home.settings["agents"]["worker"], "role": "You are a quokka."}
        home.write(agents={"worker": worker})
        until("it is taken up", lambda: home.logged("config.changed"))
        task = home.add("Write a file", "Write model.txt.")
        run = ended(home, task["id"])
        assert run["outcome"] == "succeeded", output_of(home, run)
        saw = {word for request in served.requests() for word in request.get("saw", ())}
        assert saw == told, output_of(home, run)
        assert litter(home, name) == []
        assert git(home.repo, "status", "--porcelain", "--ignored") == ""
        files = home.state / "run" / run["id"] / "files"
        until("its files are put away", lambda: not files.exists())


@pytest.mark.parametrize("name", WANTED)
@pytest.mark.parametrize(("approval", "may_write"), [("ask", False), ("bypass", True)])
def test_the_approval_decides_whether_a_real_cli_may_write(
    name: str,
    approval: str,
    may_write: bool,
    short_dir: Path,
    clis: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Our tools work all the same. Gemini does not even offer its model what it would refuse."""
    monkeypatch.setenv("IS_SANDBOX", "1")  # or claude refuses `bypass` to root
    with (
        model(short_dir) as served,
        working(short_dir, name, clis, served, approval) as home,
    ):
        check = "grep -q model model.txt"
        task = home.add("Write a file", "Write model.txt.", check=check, max_attempts="1")
        run = ended(home, task["id"])
        assert (run["outcome"] == "succeeded") == may_write, output_of(home, run)
        assert [call for call in served.calls() if call in TOOLS][:4] == TOOLS[:4]
        print(f"\n{name} {approval}: {run['outcome']}")


@pytest.mark.needs("bwrap", "landlock")
@pytest.mark.parametrize("name", WANTED)
@pytest.mark.parametrize("approval", ["edits", "bypass"])
@pytest.mark.parametrize("sandbox", ["landlock", "bwrap"])
def test_a_real_cli_works_in_a_sandbox(
    name: str,
    approval: str,
    sandbox: str,
    short_dir: Path,
    clis: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """It finds its own files, writes, and calls our tools; and needs no `i_understand_unsandboxed`."""
    # in bwrap nobody is root; elsewhere claude refuses `bypass` to root without it
    monkeypatch.setenv("IS_SANDBOX", "1" if sandbox == "landlock" else "")
    shut = {"sandbox": sandbox, "i_understand_unsandboxed": False}
    with (
        model(short_dir) as served,
        working(short_dir, name, clis, served, approval, **shut) as home,
    ):
        check = "grep -q model model.txt"
        task = home.add("Write a file", "Write model.txt.", check=check, max_attempts="1")
        run = ended(home, task["id"])
        told = output_of(home, run)
        assert (run["outcome"], run["exit_code"]) == ("succeeded", 0), told
        assert run["verification"] == "verified"
        assert litter(home, name) == []
        print(f"\n{name} {approval} in {sandbox}: {run['outcome']}")


@pytest.mark.parametrize("name", WANTED)
def test_nothing_that_a_project_holds_is_started(name: str, short_dir: Path, clis: Path):
    """Hooks and MCP servers that are checked in would run without anybody having been asked."""
    with model(short_dir) as served, working(short_dir, name, clis, served) as home:
        mark = home.root / "started"
        touch = {"type": "command", "command": f"touch {mark}"}
        server = {"command": "touch", "args": [str(mark)], "trust": True}
        codex = f'[mcp_servers.evil]\ncommand = "touch"\nargs = ["{mark}"]\n'
        local = {"type": "local", "command": ["touch", str(mark)], "enabled": True}
        hooks = {"SessionStart": [{"hooks": [touch]}]}
        held = {
            ".mcp.json": json.dumps({"mcpServers": {"evil": server}}),
            ".claude/settings.json": json.dumps(
                {"hooks": hooks, "enableAllProjectMcpServers": True}
            ),
            ".gemini/settings.json": json.dumps({"hooks": hooks, "mcpServers": {"evil": server}}),
            ".codex/config.toml": codex,
            ".qwen/settings.json": json.dumps({"hooks": hooks, "mcpServers": {"evil": server}}),
            "opencode.json": json.dumps({"mcp": {"evil": local}}),
        }
        for path, text in held.items():
            (home.repo / path).parent.mkdir(parents=True, exist_ok=True)
            (home.repo / path).write_text(text, encoding="utf-8")
        git(home.repo, "add", "-A")
        git(home.repo, "commit", "-q", "-m", "hooks and servers")
        task = home.add("Write a file", "Write model.txt.", max_attempts="1")
        run = ended(home, task["id"])
        assert run["outcome"] == "succeeded", output_of(home, run)
        assert not mark.exists()


REFUSED = [
    ("claude", 401, "auth"),
    ("claude", 429, "rate_limited"),
    ("claude", 529, "overloaded"),
    ("codex", 401, "auth"),
    ("codex", 429, "rate_limited"),
    ("codex", 500, "overloaded"),
    ("gemini", 401, "auth"),
    ("opencode", 401, "auth"),
    ("opencode", 429, "rate_limited"),
    ("opencode", 500, "overloaded"),
    ("qwen", 401, "auth"),
]


@pytest.mark.parametrize(("name", "status", "reason"), [one for one in REFUSED if one[0] in WANTED])
def test_a_refusal_of_the_models_server_has_its_reason(
    name: str, status: int, reason: str, short_dir: Path, clis: Path
):
    with (
        model(short_dir, "--fault", "status", "--status", str(status)) as served,
        working(short_dir, name, clis, served) as home,
    ):
        task = home.add("Write a file", "Write model.txt.", max_attempts="1")
        run = ended(home, task["id"])
        assert (run["outcome"], run["reason"]) == ("failed", reason), output_of(home, run)
        print(f"\n{name} {status}: exit code {run['exit_code']} -> {run['reason']}")
