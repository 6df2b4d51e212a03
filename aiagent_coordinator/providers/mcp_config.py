"""How a CLI is told about our server: the entry of the bridge, in the words of that CLI."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from aiagent_coordinator.providers import mcp_servers, options
from aiagent_coordinator.providers.mcp_servers import Server
from aiagent_coordinator.providers.shape import Definition, Mcp, McpStyle
from aiagent_coordinator.providers.substitution import sole_name, substitute
from aiagent_coordinator.providers.values import SERVER_NAME, LaunchValues

if TYPE_CHECKING:
    from pydantic import JsonValue


#: The one placeholder that settings know, in keys too.
_SKILLS_DIR: Final = "{skills_dir}"


def config(definition: Definition, values: LaunchValues) -> dict[str, JsonValue]:
    """The whole configuration: our server and the definition's settings; empty without MCP.

    It names the bridge, which reads the token from the run's folder: there is no secret in it.
    """
    mcp = definition.mcp
    if mcp.style is McpStyle.NONE:
        return {}
    settings = _placed(dict(mcp.settings), values.skills_dir)
    if values.login_files:
        settings = options.merged(settings, definition.auth.settings)
    settings = options.merged(
        settings, options.settings_of(definition, values.options, values.model)
    )
    # options may say something of the CLI's own servers there; ours stand as they are
    return options.merged(settings, {mcp.root_key: servers(mcp, values)})


def servers(mcp: Mcp, values: LaunchValues) -> JsonValue:
    """All servers, in the shape in which this CLI knows them. Ours comes last: no other displaces it."""
    named = {one.name: entry_of(mcp, one, values) for one in values.servers}
    named[SERVER_NAME] = entry(mcp, values)
    if not mcp.listed:
        return cast("JsonValue", named)
    return [{"name": name, **cast("dict[str, JsonValue]", each)} for name, each in named.items()]


def servers_text(definition: Definition, values: LaunchValues) -> str:
    """Our server alone as JSON on one line, without what is around it; empty without MCP."""
    mcp = definition.mcp
    return "" if mcp.style is McpStyle.NONE else _json(servers(mcp, values))


def config_text(definition: Definition, values: LaunchValues) -> str:
    """The configuration as JSON on one line; empty for a CLI without MCP."""
    content = config(definition, values)
    return _json(cast("JsonValue", content)) if content else ""


def entry_toml(definition: Definition, values: LaunchValues) -> str:
    """The entry of our server as a TOML inline table; empty for a CLI without MCP."""
    mcp = definition.mcp
    return "" if mcp.style is McpStyle.NONE else _toml(entry(mcp, values))


def config_files(definition: Definition, values: LaunchValues) -> dict[str, bytes]:
    """The files to write under the run's `files/`: relative path → content."""
    more = {} if definition.mcp.style is McpStyle.NONE else mcp_servers.files_of(values.servers)
    if definition.mcp.style is not McpStyle.FILE:
        return more
    text = json.dumps(config(definition, values), ensure_ascii=False, indent=2)
    return {**more, definition.mcp.file: f"{text}\n".encode()}


def entry_of(mcp: Mcp, server: Server, values: LaunchValues) -> JsonValue:
    """What stands under the name of another server."""
    command, args = mcp_servers.command_of(server, values.files_dir, values.python)
    known: dict[str, JsonValue] = {
        **_entry_values(mcp, values),
        "server": server.name,
        "bridge_command": command,
        "bridge_args": list(args),
        "url": server.url,
        "headers": {name: one.get_secret_value() for name, one in server.headers.items()},
    }
    template = mcp.http if server.url else mcp.stdio
    return _fill({key: each for key, each in template.items() if key not in mcp.ours_only}, known)


def rules(mcp: Mcp, values: LaunchValues) -> tuple[str, ...]:
    """The names of all servers as this CLI allows them."""
    names = (SERVER_NAME, *(one.name for one in values.servers))
    return tuple(substitute(mcp.rule, {"server": name}) for name in names)


def more_args(mcp: Mcp, values: LaunchValues) -> tuple[str, ...]:
    """The words that name other servers, for a CLI that takes them as arguments."""
    return tuple(
        substitute(word, {"name": one.name, "entry_toml": _toml(entry_of(mcp, one, values))})
        for one in values.servers
        for word in mcp.more_args
    )


def tool_names(mcp: Mcp, tools: tuple[str, ...]) -> tuple[str, ...]:
    """The names of our tools as this CLI's model sees them."""
    return tuple(substitute(mcp.tool_name, {"server": SERVER_NAME, "tool": tool}) for tool in tools)


def entry(mcp: Mcp, values: LaunchValues) -> JsonValue:
    """What stands under our server's name."""
    template = mcp.http if values.url and mcp.http else mcp.stdio
    return _fill(dict(template), _entry_values(mcp, values))


def _entry_values(mcp: Mcp, values: LaunchValues) -> dict[str, JsonValue]:
    return {
        "tool_timeout_ms": round(mcp.tool_timeout_seconds * 1000),
        "tool_timeout_seconds": math.ceil(mcp.tool_timeout_seconds),
        "bridge_command": values.python,
        "bridge_args": ["-I", "-S", str(values.run_dir / "bridge.py")],
        "server": SERVER_NAME,
        "socket": values.socket,
        "url": values.url,
        "headers": dict(values.headers),
    }


def _fill(template: JsonValue, values: Mapping[str, JsonValue]) -> JsonValue:
    if isinstance(template, dict):
        return {key: _fill(inner, values) for key, inner in template.items()}
    if isinstance(template, list):
        return _fill_list(template, values)
    if not isinstance(template, str):
        return template
    name = sole_name(template)
    if name:
        return values[name]
    texts = {key: str(value) for key, value in values.items() if isinstance(value, str | int)}
    return substitute(template, texts)


def _placed(settings: dict[str, JsonValue], skills_dir: str) -> dict[str, JsonValue]:
    """The settings with the folder of the run's skills; what names it vanishes without one."""
    placed: dict[str, JsonValue] = {}
    for key, value in settings.items():
        if _SKILLS_DIR in f"{key}{value if isinstance(value, str) else ''}" and not skills_dir:
            continue
        if isinstance(value, dict):
            value = _placed(value, skills_dir)  # noqa: PLW2901 - the same, filled
        elif isinstance(value, str):
            value = value.replace(_SKILLS_DIR, skills_dir)  # noqa: PLW2901 - the same
        placed[key.replace(_SKILLS_DIR, skills_dir)] = value
    return placed


def _json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _toml(value: JsonValue) -> str:
    """Write a value as TOML on one line. JSON writes all but tables and a control character the same."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_toml(key)}={_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _fill_list(template: list[JsonValue], values: Mapping[str, JsonValue]) -> list[JsonValue]:
    filled: list[JsonValue] = []
    for inner in template:
        value = _fill(inner, values)
        is_spliced = isinstance(inner, str) and isinstance(value, list)
        filled += value if is_spliced and isinstance(value, list) else [value]
    return filled
