"""A stand-in for AI Agent PM, and our coordinator started with a file of its own coordinator."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from support.house import House, until

FAKES = Path(__file__).parents[1] / "fakes"
TOKEN = "tok-123"


@dataclass
class Foreign:
    """The stand-in server and the house of the coordinator that drives it."""

    home: House
    root: Path
    #: Over what its server is reached.
    over: str = "socket"

    @property
    def address(self) -> str:
        """Where its server is, as its file says it."""
        if self.over == "socket":
            return str(self.root / "pm.sock")
        return f"http://127.0.0.1:{self.port}/mcp"

    @cached_property
    def port(self) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def board(self, **board: Any) -> None:
        """Say what there is; read again at each call."""
        draft = self.root / "pm" / "board.tmp"
        draft.write_text(json.dumps({"token": TOKEN, "projects": [], **board}))
        draft.rename(self.root / "pm" / "board.json")

    def project(self, name: str, *agents: str) -> dict[str, Any]:
        folder = self.folder(name)
        return {
            "project_id": name,
            "project_name": name.title(),
            "working_directory": str(folder),
            "agents": list(agents),
        }

    def folder(self, name: str) -> Path:
        folder = self.root / "wd" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def calls(self, tool: str, **arguments: object) -> list[dict[str, Any]]:
        """Arguments of the calls of a tool that have these among theirs."""
        file = self.root / "pm" / "calls.jsonl"
        # the last line may be half written yet
        lines = file.read_text("utf-8").rpartition("\n")[0].splitlines() if file.exists() else []
        params = [json.loads(line)["params"] for line in lines]
        return [
            one["arguments"]
            for one in params
            if one["name"] == tool and arguments.items() <= one["arguments"].items()
        ]

    def write(self, *agents: str, **settings: Any) -> None:
        """Write the file of aiagent-runner."""
        told: dict[str, Any] = {
            "polling_interval": 1,
            "mcp_socket_path": self.address,
            "coordinator_token": TOKEN,
            "agents": {agent: {"passkey": f"key-of-{agent}"} for agent in agents},
            "ai_providers": {"claude": {"cli_command": str(FAKES / "pm_cli.py"), "cli_args": []}},
        }
        told |= settings
        self.home.config.write_text(
            yaml.safe_dump({k: v for k, v in told.items() if v is not None})
        )

    def passes(self, count: int) -> None:
        """Wait until the loop has looked so many times more."""
        tool = "list_active_projects_with_agents"
        before = len(self.calls(tool))
        until("the loop goes on", lambda: len(self.calls(tool)) >= before + count)

    @contextmanager
    def serving(self) -> Generator[subprocess.Popen[bytes]]:
        """One life of the stand-in."""
        command = [sys.executable, str(FAKES / "pm_server.py"), self.address]
        with (self.root / "pm.log").open("ab") as log:
            process = subprocess.Popen([*command, str(self.root / "pm")], stdout=log, stderr=log)
        up = self.root / "pm" / "up"
        until("the stand-in listens", up.exists)
        up.unlink()
        try:
            yield process
        finally:
            process.kill()
            process.wait(30)


@contextmanager
def foreign(root: Path, over: str = "socket") -> Generator[Foreign]:
    """A folder with a stand-in and a coordinator that is not started yet."""
    home = House(root)
    made = Foreign(home, root, over)
    (root / "pm").mkdir()
    (root / "home").mkdir()
    (root / "rt").mkdir(mode=0o700)
    home.env = {
        "HOME": str(root / "home"),
        "XDG_RUNTIME_DIR": str(root / "rt"),
        "XDG_STATE_HOME": str(root / "home" / "state"),
        "XDG_CONFIG_HOME": str(root / "home" / "config"),
        # nobody answers there: what is on this machine is asked without
        "http_proxy": "http://127.0.0.1:9",
    }
    made.board()
    try:
        yield made
    finally:
        home.close()
