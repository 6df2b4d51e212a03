"""A CLI that tells what it was given: arguments, standard input, environment, and our MCP server."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path


def server() -> object:
    """The entry of our server: in a file that is named, in one in its own home, a variable, or an argument."""
    named = [word.removeprefix("@") for word in sys.argv if word.endswith(".json")]
    named += filter(None, [os.environ.get("CLINE_MCP_SETTINGS_PATH")])
    own = Path(os.environ.get("GEMINI_CLI_HOME", "/nowhere"), ".gemini/settings.json")
    folder = Path(os.environ.get("CRUSH_GLOBAL_CONFIG", "/nowhere"), "crush.json")
    for file in (*named, *(one for one in (own, folder) if one.is_file())):
        told = json.loads(Path(file).read_text("utf-8"))
        key = next(one for one in ("mcpServers", "amp.mcpServers", "mcp") if one in told)
        return told[key]["coord"]
    inline = os.environ.get("OPENCODE_CONFIG_CONTENT")
    if inline:
        return {"args": json.loads(inline)["mcp"]["coord"]["command"]}
    listed = os.environ.get("VIBE_MCP_SERVERS")
    if listed:
        return next(one for one in json.loads(listed) if one["name"] == "coord")
    for word in sys.argv:
        if word.startswith("mcp_servers.coord="):
            return tomllib.loads(word)["mcp_servers"]["coord"]
    return None


print(
    json.dumps(
        {
            "args": sys.argv[1:],
            "stdin": sys.stdin.read(),
            "env": dict(os.environ),
            "server": server(),
        }
    )
)
