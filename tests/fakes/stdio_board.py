"""A stdio MCP server that plays the coordinator for one agent and writes down every call.

Arguments: the file to write calls to, then `fail=TOOL` (answers with an error), `hang=TOOL` (never
answers), `die=TOOL` (ends instead of answering), `attempt=N`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

calls_file, *words = sys.argv[1:]
options = dict(word.split("=", 1) for word in words)
stage = "begin"


def note(name: str, arguments: object) -> None:
    with open(calls_file, "a", encoding="utf-8") as file:  # noqa: PTH123 - a few lines, once
        file.write(json.dumps([name, arguments]) + "\n")


def act(name: str) -> dict[str, Any]:
    global stage  # noqa: PLW0603 - one agent, one state
    match name:
        case "get_next_action":
            actions = {"begin": "get_task", "read": "work", "work": "report_completion"}
            action = actions.get(stage, "exit")
            stage = "work" if stage == "read" else stage
            return {"action": action}
        case "get_my_task":
            stage = "read"
            return {"task": {"task_id": "tsk_1", "attempt": int(options.get("attempt", "1"))}}
        case "report_completed":
            stage = "done"
        case _:
            pass
    return {"success": True}


def answer(message: dict[str, Any]) -> dict[str, Any] | None:
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        server = {"name": "stdio_board", "version": "1"}
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {},
            "serverInfo": server,
        }
    if method == "tools/list":
        return {"tools": [{"name": "authenticate", "inputSchema": {"type": "object"}}]}
    name = params["name"]
    note(name, params.get("arguments"))
    if options.get("die") == name:
        sys.exit(1)
    if options.get("hang") == name:
        return None
    if options.get("fail") == name:
        return {"isError": True, "content": [{"type": "text", "text": "FORBIDDEN: not yours"}]}
    text = json.dumps(act(name))
    return {"content": [{"type": "text", "text": text}], "structuredContent": json.loads(text)}


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    # what a server may say at any time; a client must not take it for its answer
    print(json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}))
    result = answer(request)
    if result is not None:
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
    sys.stdout.flush()
