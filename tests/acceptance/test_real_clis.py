"""The real CLIs, offline, by the real program: each against a scripted model on this machine.

They are hundreds of megabytes from npm, so this runs only when asked for:

    AIAGENT_REAL_CLIS=1 AIAGENT_CLI_CACHE=~/.cache/aiagent-clis pytest tests/acceptance/test_real_clis.py -s

Without AIAGENT_CLI_CACHE they are installed into a temporary folder each time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aiagent_coordinator.providers.catalog import load_catalog
from support.house import House, house, until
from support.repo import git

# not even collected unless asked for: a skip would look like something that this machine lacks
__test__ = bool(os.environ.get("AIAGENT_REAL_CLIS"))
pytestmark = [pytest.mark.needs("node"), pytest.mark.timeout(600)]

MODEL_SERVER = Path(__file__).parent.parent / "fakes" / "model_server.py"
PACKAGES = {
    "claude": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
    "gemini": "@google/gemini-cli",
    "opencode": "opencode-ai",
    "qwen": "@qwen-code/qwen-code",
}
#: What qwen runs with, where the machine's own is older: a program from npm as well.
NODE = "node@22"
#: A name that no CLI knows: then none expects more of the model than plain tool calls.
MODEL = "scripted-model"
#: A CLI's start, its model's eight turns and its end, on two busy cores.
RUN_SECONDS = 120.0
TOOLS = [
    *("authenticate", "get_next_action", "get_my_task", "get_next_action"),
    *("get_next_action", "report_completed", "get_next_action"),
]


@dataclass
class Model:
    """The scripted model, as a CLI sees it."""

    url: str
    log: Path

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]

    def calls(self) -> list[str]:
        """The tools that the model called, by the ends of their names."""
        called = (request.get("call") for request in self.requests())
        last = (name.rpartition("__")[2] for name in called if name)
        return [name.removeprefix("mcp_").removeprefix("coord_") for name in last]


@contextmanager
def model(folder: Path, *arguments: str) -> Generator[Model]:
    log = folder / "model.jsonl"
    log.touch()
    command = [sys.executable, str(MODEL_SERVER), str(log), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Model(f"http://127.0.0.1:{int(process.stdout.readline())}", log)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def clis() -> Iterator[Path]:
    """The folder with the programs."""
    given = os.environ.get("AIAGENT_CLI_CACHE")
    if given:
        yield _installed(Path(given).expanduser().resolve())
        return
    with tempfile.TemporaryDirectory(prefix="aac-clis-") as name:
        yield _installed(Path(name))


def _installed(folder: Path) -> Path:
    programs = folder / "node_modules" / ".bin"
    missing = [package for name, package in PACKAGES.items() if not (programs / name).exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder)]
        # the newest: npm itself would take an older one whose `engines` fit this node
        wanted = [*(f"{package}@latest" for package in missing), NODE]
        subprocess.run([*command, *wanted], cwd=folder, timeout=500, check=True)
    return programs


def settings_of(name: str, served: Model) -> tuple[dict[str, Any], dict[str, str]]:
    """How a CLI is sent to the scripted model: by what its users would set, arguments or variables."""
    if name == "claude":
        env = {"ANTHROPIC_BASE_URL": served.url, "ANTHROPIC_API_KEY": "key-of-nobody"}
        return {}, {**env, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    if name == "gemini":
        return {}, {"GOOGLE_GEMINI_BASE_URL": served.url, "GEMINI_API_KEY": "key-of-nobody"}
    if name == "qwen":
        entry = {"cli_args": ["--auth-type", "openai"]}
        env = {"OPENAI_BASE_URL": f"{served.url}/v1", "OPENAI_API_KEY": "key-of-nobody"}
        return {"ai_providers": {"qwen": entry}}, env
    if name == "opencode":
        return {}, {}
    provider = (
        f'{{name="scripted",base_url="{served.url}/v1",env_key="OPENAI_API_KEY",'
        'wire_api="responses",request_max_retries=0,stream_max_retries=0}'
    )
    words = ["-c", f"model_providers.scripted={provider}", "-c", 'model_provider="scripted"']
    entry = {"cli_args": [*words, "-c", "analytics.enabled=false"]}
    return {"ai_providers": {"codex": entry}}, {"OPENAI_API_KEY": "key-of-nobody"}


def _configure_opencode(home: House, served: Model) -> None:
    """Write a file of the user's own that names a provider."""
    options = {"baseURL": f"{served.url}/v1", "apiKey": "key-of-nobody"}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "scripted",
        "options": options,
        "models": {MODEL: {"name": MODEL}},
    }
    file = Path(home.env["XDG_CONFIG_HOME"]) / "opencode" / "opencode.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"provider": {"scripted": provider}}), encoding="utf-8")


@contextmanager
def working(
    folder: Path, name: str, clis: Path, served: Model, approval: str = "edits", **more: Any
) -> Generator[House]:
    """A house whose worker is the named CLI."""
    settings, env = settings_of(name, served)
    with house(folder, **{"i_understand_unsandboxed": True, **settings, **more}) as home:
        if name == "opencode":
            _configure_opencode(home, served)
        chosen = f"scripted/{MODEL}" if name == "opencode" else MODEL
        agent = {"provider": name, "model": chosen, "approval": approval}
        home.write(agents={"worker": agent})
        home.env |= env
        home.env["PATH"] = f"{clis}{os.pathsep}{os.environ['PATH']}"
        home.ready()
        yield home


def output_of(home: House, run: dict[str, Any]) -> str:
    files = [home.state / "run" / run["id"] / name for name in ("out", "err")]
    texts = [file.read_text("utf-8", "replace")[-6000:] if file.exists() else "" for file in files]
    return "\n--- stderr\n".join(texts) + "\n--- log\n" + home.log_text()


def ended(home: House, task_id: str) -> dict[str, Any]:
    """Wait until the first run of a task is over."""

    def over() -> dict[str, Any] | None:
        runs = home.runs(task_id)
        return runs[0] if runs and runs[0]["phase"] == "ended" else None

    return until("the run ends", over, RUN_SECONDS)


def litter(home: House, name: str) -> list[str]:
    """What lies in the user's home that the bare CLI would not have left there."""
    root = home.root / "home"
    allowed = [
        root / path.removeprefix("~/") for path in load_catalog().get(name).limits.state_paths
    ]
    # where the house keeps what our own program writes about itself, and has settings kept
    allowed.append(root / "state")
    allowed += [root / "config" / path.name for path in allowed if path.parent.name == ".config"]
    files = [path for path in root.rglob("*") if not path.is_dir()]
    return sorted(
        str(file.relative_to(root))
        for file in files
        if not any(
            file.is_relative_to(path) or str(file).startswith(f"{path}.") for path in allowed
        )
    )


@pytest.mark.parametrize("name", PACKAGES)
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


@pytest.mark.parametrize("name", PACKAGES)
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


@pytest.mark.parametrize("name", PACKAGES)
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
@pytest.mark.parametrize("name", PACKAGES)
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


@pytest.mark.parametrize("name", PACKAGES)
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


@pytest.mark.parametrize(("name", "status", "reason"), REFUSED)
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
