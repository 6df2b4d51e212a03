"""The real CLIs as tests drive them: by the real program, each against a scripted model on this machine.

They are hundreds of megabytes from npm: `AIAGENT_REAL_CLIS` says which are wanted (`1`: all, or their
names with commas), `AIAGENT_CLI_CACHE` where they lie, or are to be installed. Without it they go into a
temporary folder each time.
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

from aiagent_coordinator.providers.catalog import load_catalog
from support.house import House, house, until
from support.repo import git

MODEL_SERVER = Path(__file__).parents[1] / "fakes" / "model_server.py"
STDIO_BOARD = Path(__file__).parents[1] / "fakes" / "stdio_board.py"
PACKAGES = {
    "claude": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
    "gemini": "@google/gemini-cli",
    "opencode": "opencode-ai",
    "qwen": "@qwen-code/qwen-code",
}
ASKED_FOR = os.environ.get("AIAGENT_REAL_CLIS", "")
#: The names of those that are to be driven.
WANTED = [name for name in PACKAGES if ASKED_FOR == "1" or name in ASKED_FOR.split(",")]
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


def programs() -> Iterator[Path]:
    """The folder with the programs, as long as it is wanted."""
    given = os.environ.get("AIAGENT_CLI_CACHE")
    if given:
        yield _installed(Path(given).expanduser().resolve())
        return
    with tempfile.TemporaryDirectory(prefix="aac-clis-") as name:
        yield _installed(Path(name))


def _installed(folder: Path) -> Path:
    programs = folder / "node_modules" / ".bin"
    missing = [PACKAGES[name] for name in WANTED if not (programs / name).exists()]
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
    """A house whose worker is the named CLI, and so is who is `also` named."""
    also: tuple[str, ...] = more.pop("also", ())
    settings, env = settings_of(name, served)
    both = (settings.get("ai_providers", {}), more.get("ai_providers", {}))
    entry = {key: value for each in both for key, value in each.get(name, {}).items()}
    providers = {"ai_providers": {name: entry}} if entry else {}
    settings = {"i_understand_unsandboxed": True, **settings, **more, **providers}
    with house(folder, **settings) as home:
        if name == "opencode":
            _configure_opencode(home, served)
        chosen = f"scripted/{MODEL}" if name == "opencode" else MODEL
        agent = {"provider": name, "model": chosen, "approval": approval}
        home.write(agents={each: dict(agent) for each in ("worker", *also)})
        if also:
            (project,) = home.settings["projects"]
            home.write(projects=[{**project, "agents": ["worker", *also]}])
        home.env |= env
        home.env["PATH"] = f"{clis}{os.pathsep}{os.environ['PATH']}"
        home.ready()
        yield home


def output_of(home: House, run: dict[str, Any]) -> str:
    files = [home.state / "run" / run["id"] / name for name in ("out", "err")]
    texts = [file.read_text("utf-8", "replace")[-6000:] if file.exists() else "" for file in files]
    return "\n--- stderr\n".join(texts) + "\n--- log\n" + home.log_text()


def ended(home: House, task_id: str, seconds: float = RUN_SECONDS) -> dict[str, Any]:
    """Wait until the first run of a task is over."""

    def over() -> dict[str, Any] | None:
        runs = home.runs(task_id)
        return runs[0] if runs and runs[0]["phase"] == "ended" else None

    return until("the run ends", over, seconds)


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


@dataclass(frozen=True)
class Bare:
    """How a user would start a CLI by hand."""

    argv: list[str]
    env: dict[str, str]
    folder: Path


def bare_command(name: str, root: Path, home: House, clis: Path) -> Bare:
    """The bare CLI, in a home and a checkout of its own below `root`, and with a server of tools.

    It asks the same model as the CLI of the house; its prompt goes to its standard input.
    """
    board = [sys.executable, str(STDIO_BOARD), str(root / "calls")]
    server = {"command": board[0], "args": board[1:]}
    entry = f"command={json.dumps(board[0])},args={json.dumps(board[1:])}"
    servers = ["--mcp-config", json.dumps({"mcpServers": {"mine": server}})]
    words = {
        "claude": ["-p", "--model", MODEL, "--output-format", "stream-json", "--verbose", *servers],
        "codex": ["exec", "--json", "-m", MODEL, "-c", f"mcp_servers.mine={{{entry}}}"],
        "gemini": ["-m", MODEL, "--skip-trust", "-o", "stream-json"],
        "opencode": ["run", "-m", f"scripted/{MODEL}", "--format", "json"],
        "qwen": ["-m", MODEL, "-o", "stream-json", *servers],
    }[name]
    settings: dict[str, Any] = home.settings.get("ai_providers", {}).get(name, {})
    theirs, mine = str(home.root / "home"), root / "home"
    env = {key: value.replace(theirs, str(mine), 1) for key, value in home.env.items()}
    (mine / "state").mkdir(parents=True)
    if name == "gemini":
        chosen = {"security": {"auth": {"selectedType": "gemini-api-key"}}}
        told = {**chosen, "mcpServers": {"mine": server}}
        (mine / ".gemini").mkdir()
        (mine / ".gemini" / "settings.json").write_text(json.dumps(told))
    if name == "opencode":
        file = Path(theirs) / "config" / "opencode" / "opencode.json"
        known = json.loads(file.read_text("utf-8"))
        told = {**known, "mcp": {"mine": {"type": "local", "command": board}}}
        (mine / "config" / "opencode").mkdir(parents=True)
        (mine / "config" / "opencode" / "opencode.json").write_text(json.dumps(told))
    repo = root / "repo"
    git(root, "clone", "-q", str(home.repo), str(repo))
    argv = [str(clis / name), *words[:1], *settings.get("cli_args", ()), *words[1:]]
    return Bare(argv, {"LANG": "C.UTF-8", **env}, repo)
