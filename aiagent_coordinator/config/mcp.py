"""MCP servers of the user's that agents have beside ours: everywhere, per project and per agent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import PlainValidator

from aiagent_coordinator.config import values
from aiagent_coordinator.config.fields import Expanded, Model, Program, Secret, setting

#: The name of our server, which no other may have.
OURS = "coord"
#: Every CLI makes names of tools of it.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}\Z")


def _own_name(value: object) -> str:
    if isinstance(value, str) and _NAME.match(value) and value.lower() != OURS:
        return value
    raise values.BadValueError(
        f"expected a name of a server of its own, got {values.describe(value)}"
    )


#: What becomes of the servers of a program's own settings.
OwnServers = Literal["inherit", "none"]
OWN_SERVERS_MEANING = (
    "Whether it has the MCP servers of its own settings in a run (`inherit`) or not (`none`), where it can be "
    "told; `provider show` says what it does without."
)
#: The name of a server that a program knows by itself.
OwnServer = Annotated[str, PlainValidator(_own_name)]


class McpServerSettings(Model):
    """One server: a program on standard input and output, or an address."""

    command: Program | None = setting(
        None,
        "The program: a name on PATH, or a path. `${VAR}` and `~` are expanded.",
        reload="next start",
    )
    args: tuple[Expanded, ...] = setting((), "Its arguments. `${VAR}` is expanded.")
    env: dict[str, Secret] = setting(
        {},
        "Variables of its own. They stand in a file of the run that only its owner may read, and in no "
        "argument. `${VAR}` is expanded.",
    )
    url: Expanded | None = setting(
        None, "Its address, in place of a program. `${VAR}` is expanded."
    )
    headers: dict[str, Secret] = setting(
        {}, "What goes with each request to it. `${VAR}` is expanded."
    )
    enabled: bool = setting(True, "`false` switches off the server of this name of an outer level.")


class RequiresSettings(Model):
    """What an agent needs before anything is started for it."""

    mcp_servers: tuple[str, ...] = setting(
        (), "Servers beside ours, by name: without one in a project, its tasks there wait."
    )
    secrets: tuple[str, ...] = setting(
        (),
        "Variables that must be set where the coordinator is started: without one, its tasks wait.",
    )


def layers(levels: Sequence[Mapping[str, McpServerSettings]]) -> dict[str, tuple[int, ...]]:
    """Which levels, counted from the outermost, say something of each server; the last one counts, as a whole."""
    names = sorted({name for level in levels for name in level})
    return {
        name: tuple(number for number, level in enumerate(levels) if name in level)
        for name in names
    }


def contradictions(
    levels: Iterable[tuple[tuple[str | int, ...], Mapping[str, McpServerSettings]]],
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What of these servers cannot be, with the key that says so."""
    for here, servers in levels:
        for name, server in servers.items():
            key = (*here, "mcp_servers", name)
            if name.lower() == OURS:
                yield key, f"{OURS} is the name of our own server; give it another"
            elif not _NAME.match(name):
                yield key, "is no name of a server: letters, digits, `_` and `-`, at most 32"
            if server.enabled and (server.command is None) == (server.url is None):
                yield key, "give command or url, one of them"
            if server.url is not None and (server.args or server.env):
                yield key, "args and env belong to a command"
            if server.command is not None and server.headers:
                yield key, "headers belong to a url"
