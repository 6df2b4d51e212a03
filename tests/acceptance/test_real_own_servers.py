"""MCP servers of a real CLI's own settings: offered to its model in a run, or not, as the configuration says.

AIAGENT_REAL_CLIS=1 AIAGENT_CLI_CACHE=~/.cache/aiagent-clis pytest tests/acceptance/test_real_own_servers.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clis import WANTED, ended, model, output_of, programs, working
from support.house import House

__test__ = bool(WANTED)
pytestmark = [pytest.mark.needs("node"), pytest.mark.timeout(600)]

ONE_TOOL = Path(__file__).parents[1] / "fakes" / "one_tool.py"
INHERIT, NONE = {"own_servers": "inherit"}, {"own_servers": "none"}
DENIED = {"own_servers_denied": ["zebra"]}
#: What is set, what its task says, and whether the model is offered the tool of the CLI's own server.
CASES: dict[str, list[tuple[dict[str, Any], tuple[str, ...], bool]]] = {
    "claude": [
        ({}, (), False),
        (INHERIT, (), True),
        ({**INHERIT, **DENIED}, (), False),
        (INHERIT, ("--no-mcp-servers",), False),
    ],
    "codex": [({}, (), True), (DENIED, (), False)],
    "gemini": [({}, (), False), (NONE, (), False)],
    "opencode": [({}, (), True), (DENIED, (), False)],
    "qwen": [
        ({}, (), False),
        ({"project_config": True}, (), True),
        ({"project_config": True, **NONE}, (), False),
        ({"project_config": True}, ("--no-mcp-servers",), False),
    ],
}
EVERY = [(name, *case) for name in WANTED for case in CASES[name]]


@pytest.fixture(scope="session")
def clis() -> Iterator[Path]:
    """The folder with the programs."""
    yield from programs()


def add_own_server(name: str, home: House) -> Path:
    """Write a server into the CLI's own settings, as its user would; returns what it touches."""
    user, mark = home.root / "home", home.root / "started"
    words = [sys.executable, str(ONE_TOOL), str(mark)]
    entry = {"mcpServers": {"zebra": {"command": words[0], "args": words[1:]}}}
    if name == "codex":
        text = f"[mcp_servers.zebra]\ncommand = {json.dumps(words[0])}\nargs = {json.dumps(words[1:])}\n"
        (user / ".codex").mkdir(exist_ok=True)
        (user / ".codex" / "config.toml").write_text(text)
    elif name == "opencode":
        file = Path(home.env["XDG_CONFIG_HOME"]) / "opencode" / "opencode.json"
        told = json.loads(file.read_text())
        file.write_text(json.dumps({**told, "mcp": {"zebra": {"type": "local", "command": words}}}))
    elif name == "claude":
        (user / ".claude.json").write_text(json.dumps(entry))
    else:
        (user / f".{name}").mkdir(exist_ok=True)
        (user / f".{name}" / "settings.json").write_text(json.dumps(entry))
    return mark


@pytest.mark.parametrize(("name", "entry", "said", "is_offered"), EVERY)
def test_servers_of_its_own_settings_are_in_a_run_as_the_configuration_says(
    name: str,
    entry: dict[str, Any],
    said: tuple[str, ...],
    is_offered: bool,
    short_dir: Path,
    clis: Path,
):
    more: dict[str, Any] = {"ai_providers": {name: entry}} if entry else {}
    with (
        model(short_dir, "--watch", "quagga") as served,
        working(short_dir, name, clis, served, **more) as home,
    ):
        mark = add_own_server(name, home)
        words = ("--project", "app", "--agent", "worker", "--title", "Write a file")
        task = home.json("task", "add", *words, "--max-attempts", "1", *said)
        run = ended(home, task["id"])
        assert run["outcome"] == "succeeded", output_of(home, run)
        saw = {word for request in served.requests() for word in request.get("saw", ())}
        assert ("quagga" in saw) == is_offered, output_of(home, run)
        # what is only denied, some CLIs start all the same
        assert mark.exists() or not is_offered
        assert (
            not mark.exists()
            or is_offered
            or (name, "own_servers_denied" in entry) == ("claude", True)
        )
