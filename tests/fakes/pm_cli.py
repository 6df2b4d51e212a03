#!/usr/bin/env python3
"""A coding program that AI Agent PM drives: keeps its prompt and command line, authenticates, and ends.

What it does is the content of the file `behave` in its folder: ok (default), fail, quota, or hang.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

here = Path.cwd()
prompt = sys.stdin.read()
(here / "prompt.txt").write_text(prompt)
(here / "argv.json").write_text(json.dumps(sys.argv[1:]))
(here / "env.json").write_text(json.dumps(dict(os.environ)))
(here / "skills.txt").write_text(
    "\n".join(
        Path(line[2:]).read_text()
        for line in prompt.splitlines()
        if line.startswith("- ") and line.endswith("SKILL.md")
    )
)
config = json.loads(Path(sys.argv[sys.argv.index("--mcp-config") + 1]).read_text())
entry = next(iter(config["mcpServers"].values()))
with subprocess.Popen(
    [entry["command"], *entry["args"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
) as bridge:
    assert bridge.stdin is not None
    assert bridge.stdout is not None
    for number, (method, params) in enumerate(
        (
            (
                "initialize",
                {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {},
                    "clientInfo": {"name": "pm-cli", "version": "1"},
                },
            ),
            ("tools/call", {"name": "authenticate", "arguments": {"agent_id": "whoever"}}),
            ("tools/call", {"name": "get_next_action", "arguments": {"session_token": "s"}}),
        ),
        1,
    ):
        asked = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        bridge.stdin.write(json.dumps(asked).encode() + b"\n")
        bridge.stdin.flush()
        while True:
            answer = json.loads(bridge.stdout.readline())
            if answer.get("id") == number:
                break
        with (here / "answers.jsonl").open("a") as file:
            file.write(json.dumps(answer) + "\n")
    bridge.stdin.close()
behave = here / "behave"
what = behave.read_text().strip() if behave.exists() else "ok"
(here / "settled").touch()
match what:
    case "hang":
        time.sleep(600)
    case "fail":
        print("Error: the compiler is missing", file=sys.stderr)
        sys.exit(3)
    case "quota":
        print("Error: quota exhausted, please retry after 70 seconds", file=sys.stderr)
        sys.exit(1)
    case _:
        pass
