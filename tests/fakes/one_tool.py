"""A stdio MCP server with one tool, `quagga`; it touches the file that its argument names when it is started."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TOOL = {"name": "quagga", "description": "Nothing.", "inputSchema": {"type": "object"}}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "one_tool", "version": "1"},
        }
    return {"tools": [TOOL]} if method == "tools/list" else {}


Path(sys.argv[1]).touch()
for line in sys.stdin:
    message: dict[str, Any] = json.loads(line)
    if "id" in message:
        result = answer(message["method"], message.get("params") or {})
        told = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        print(json.dumps(told), flush=True)
