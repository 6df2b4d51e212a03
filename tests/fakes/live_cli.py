"""A CLI without a model that speaks Claude Code's stream of JSON in both directions.

    live_cli.py --mcp-config FILE [--session-id ID | --resume ID]

The first message is the prompt; it holds a plan in a block fenced with three backticks and the word `live`,
a JSON list of steps: `{"tool": "report_completed", "arguments": {…}}` calls a tool of the server;
`{"hear": 2}` works until so many messages were taken up in this turn; `{"hang": true}` works until it is
interrupted; `{"note": "x"}` appends what was heard so far to the file x; `{"exit": 3}` ends at once;
`{"deaf": 1}` takes up nothing more; `{"ask": "rm x", "into": "asked"}` asks whether it may run that, and
with `"leave": 1` goes when nobody answers. Messages are taken up between steps and while it waits, each is repeated
as the real program does it.
After the plan there is a `result`; another message begins another turn. It ends when its input ends.
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

from aiagent_coordinator.rehearsal import Server

Json = dict[str, Any]
_PLAN = re.compile(r"^```live[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def say(line: Json) -> None:
    print(json.dumps({**line, "session_id": "5e551015-0000-4000-8000-000000000001"}), flush=True)


class InterruptedByPersonError(Exception):
    """A person broke off what goes on."""


class Cli:
    def __init__(self, server: Server, permission_tool: str) -> None:
        self.server = server
        self.permission_tool = permission_tool
        self.inbox: queue.Queue[Json | None] = queue.Queue()
        self.heard: list[str] = []
        self.is_deaf = False
        self.is_over = False

    def read(self) -> None:
        for line in sys.stdin:
            self.inbox.put(json.loads(line))
        self.inbox.put(None)

    def take(self, seconds: float | None) -> bool:
        """Take up one message, if one comes in time."""
        if self.is_deaf:
            time.sleep(seconds or 3600)
            return False
        try:
            message = self.inbox.get(timeout=seconds)
        except queue.Empty:
            return False
        if message is None:
            self.is_over = True
            return False
        if message["type"] == "control_request":
            answer = {"subtype": "success", "request_id": message["request_id"]}
            say({"type": "control_response", "response": answer})
            raise InterruptedByPersonError
        text = message["message"]["content"][0]["text"]
        self.heard.append(text)
        say(
            {
                "type": "user",
                "message": message["message"],
                "uuid": message["uuid"],
                "isReplay": True,
            }
        )
        return True

    def step(self, step: Json) -> None:
        if "tool" in step:
            told = self.server.call(step["tool"], **step.get("arguments", {}))
            say(
                {"type": "assistant", "message": {"content": [{"type": "text", "text": str(told)}]}}
            )
        elif "ask" in step:
            self.ask(step)
        elif "hear" in step:
            while len(self.heard) <= step["hear"] and not self.is_over:
                self.take(0.05)
        elif "hang" in step:
            while not self.is_over:
                self.take(0.05)
        elif "note" in step:
            Path(step["note"]).write_text(json.dumps(self.heard[1:]), "utf-8")
        elif "deaf" in step:
            self.is_deaf = True
        else:
            sys.stdout.flush()
            sys.exit(step["exit"])

    def ask(self, step: Json) -> None:
        """As the real program asks the tool that it was told to ask; several at once, each by its own."""
        tool = self.permission_tool.rpartition("__")[2]
        asked = {"tool_name": "Bash", "input": {"command": step["ask"]}, "tool_use_id": "toolu_1"}
        call: Json = {"name": tool, "arguments": asked}
        whole = self.server._request("tools/call", call)  # pyright: ignore[reportPrivateUsage]
        assert "structuredContent" not in whole, "the real program refuses more than a text"
        (content,) = whole["content"]
        told = json.loads(content["text"])
        assert told["behavior"] == "deny" or told["updatedInput"] == asked["input"]
        with Path(step["into"]).open("a", encoding="utf-8") as file:
            file.write(f"{told['behavior']} {told.get('message', '')}".strip() + "\n")
        if told.get("message", "").startswith("Nobody") and step.get("leave"):
            sys.exit(0)

    def turn(self, steps: list[Json]) -> None:
        try:
            while steps and not self.is_over:
                self.step(steps.pop(0))
                while not self.inbox.empty() and self.take(0):
                    pass
        except InterruptedByPersonError:
            failed = {"subtype": "error_during_execution", "is_error": True}
            say({"type": "result", **failed, "terminal_reason": "aborted_tools"})
        else:
            usage = {"input_tokens": 10, "output_tokens": 5}
            say({"type": "result", "subtype": "success", "is_error": False, "usage": usage})

    def one_shot(self, prompt: str) -> None:
        plan = _PLAN.search(prompt)
        self.heard.append(prompt)
        self.turn(json.loads(plan[1]) if plan else [])

    def run(self) -> None:
        self.take(None)
        plan = _PLAN.search(self.heard[0])
        steps: list[Json] = json.loads(plan[1]) if plan else []
        say({"type": "system", "subtype": "init"})
        while not self.is_over:
            self.turn(steps)
            while not self.is_over and not self.take(None):
                pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mcp-config", required=True)
    parser.add_argument("--permission-prompt-tool", default="")
    parser.add_argument("--input-format", default="text")
    given, _ = parser.parse_known_args()
    entries: Json = json.loads(Path(given.mcp_config).read_text("utf-8"))["mcpServers"]
    server = Server(next(iter(entries.values())))
    server.open()
    server.call("authenticate")
    cli = Cli(server, given.permission_prompt_tool)
    if given.input_format == "text":
        cli.one_shot(sys.stdin.read())
    else:
        threading.Thread(target=cli.read, daemon=True).start()
        cli.run()
    server.close()


if __name__ == "__main__":
    main()
