"""Servers that agents have beside ours: merged from the outermost level to the innermost. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from aiagent_coordinator.config.mcp import McpServerSettings, layers
from aiagent_coordinator.wire import with_env

#: Below a run's `files/`: the program that gives a server its variables.
WITH_ENV = "with_env.py"


@dataclass(frozen=True, eq=False)
class Server:
    """A server of the user's. Its secrets are shown nowhere."""

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, SecretStr] = field(default_factory=dict[str, SecretStr], repr=False)
    url: str = ""
    headers: Mapping[str, SecretStr] = field(default_factory=dict[str, SecretStr], repr=False)

    @property
    def env_file(self) -> str:
        """Where its variables lie, below the run's `files/`."""
        return f"mcp-{self.name}.json"


def merged(levels: Sequence[Mapping[str, McpServerSettings]]) -> tuple[Server, ...]:
    """The servers of all levels, outermost first: of one name the innermost counts, as a whole."""
    whole = {name: levels[numbers[-1]][name] for name, numbers in layers(levels).items()}
    return tuple(_server(name, one) for name, one in whole.items() if one.enabled)


def _server(name: str, one: McpServerSettings) -> Server:
    return Server(name, one.command or "", one.args, one.env, one.url or "", one.headers)


def command_of(server: Server, files_dir: Path, python: str) -> tuple[str, tuple[str, ...]]:
    """Program and arguments that start a server with its variables."""
    if not server.env:
        return server.command, server.args
    script, values = files_dir / WITH_ENV, files_dir / server.env_file
    words = ("-I", "-S", str(script), str(values), server.command, *server.args)
    return python, words


def files_of(servers: Iterable[Server]) -> dict[str, bytes]:
    """The files that starting them needs, below the run's `files/`."""
    files: dict[str, bytes] = {}
    for server in servers:
        if server.env:
            env = {name: value.get_secret_value() for name, value in server.env.items()}
            files[server.env_file] = json.dumps(env, ensure_ascii=False).encode()
            files[WITH_ENV] = Path(with_env.__file__).read_bytes()
    return files
