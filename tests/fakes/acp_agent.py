"""An agent of the Agent Client Protocol without a model. It keeps its sessions in the folder SESSIONS.

    acp_agent.py SESSIONS [WORD…]

A prompt holds a plan in a block fenced with three backticks and the word `acp`, a JSON list of steps: `{"tool":
"report_completed", "arguments": {…}}` calls a tool of the server that the session was begun with; `{"ask":
"execute", "title": "rm x", "into": "asked.txt"}` asks for permission, for what is in `input` and `files`, and writes the kind of the answer down;
`{"write": "a.txt", "text": "…"}`; `{"say": "…"}`; `{"hang": true}` works until it is cancelled; `{"exit": 3}`
ends at once; `{"garbage": true}` writes what is no message; `{"fail": "rate limit"}` answers with an error;
`{"odd": true}` sends an update of a kind that nobody knows. A prompt without a plan goes on with the steps that
are left. Words: `load` and `resume` are what it says that it can; `deaf` makes it ignore the end of its input.
"""

from __future__ import annotations

import json
import os
import queue
import re
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from aiagent_coordinator.rehearsal import Server

Json = dict[str, Any]
_PLAN = re.compile(r"^```acp[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LOCK = threading.Lock()


def send(message: Json) -> None:
    with _LOCK:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


class AcpAgent:
    def __init__(self, sessions: Path, words: list[str]) -> None:
        self.sessions = sessions
        self.words = words
        self.session = ""
        self.server: Server | None = None
        self.steps: list[Json] = []
        self.cancelled = threading.Event()
        self.answers: queue.Queue[Json] = queue.Queue()
        self.turns = 0

    def serve(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            match message.get("method"):
                case None:
                    self.answers.put(message)
                case "session/new" | "session/load" | "session/resume":
                    self.open(message)
                case "session/prompt":
                    threading.Thread(target=self.prompt, args=(message,), daemon=True).start()
                case "session/cancel":
                    self.cancelled.set()
                case name:
                    self.answer(message, self.hello() if name == "initialize" else {})
        while "deaf" in self.words:
            time.sleep(60)

    def open(self, message: Json) -> None:
        if message["method"] == "session/new":
            self.session = str(uuid.uuid4())
            self.begin(message, {"sessionId": self.session})
            return
        self.session = message["params"]["sessionId"]
        if not (self.sessions / self.session).exists():
            error = {"code": -32002, "message": "there is no such session"}
            send({"id": message["id"], "error": error})
            return
        if message["method"] == "session/load":
            self.write("an old story")
        self.begin(message, {})

    def write(self, text: str) -> None:
        content = {"type": "text", "text": text}
        self.update({"sessionUpdate": "agent_message_chunk", "content": content})

    def hello(self) -> Json:
        can: Json = {"loadSession": "load" in self.words}
        if "resume" in self.words:
            can["sessionCapabilities"] = {"resume": {}}
        info = {"name": "scripted", "version": "1"}
        return {"protocolVersion": 1, "agentCapabilities": can, "agentInfo": info}

    def begin(self, message: Json, more: Json) -> None:
        (self.sessions / self.session).touch()
        (entry, *_) = message["params"]["mcpServers"]
        env = {one["name"]: one["value"] for one in entry["env"]}
        self.server = Server({**entry, "env": env})
        self.server.open()
        self.server.call("authenticate")
        self.answer(message, more)

    def answer(self, message: Json, result: Json) -> None:
        send({"id": message["id"], "result": result})

    def update(self, update: Json) -> None:
        params = {"sessionId": self.session, "update": update}
        send({"method": "session/update", "params": params})

    def prompt(self, message: Json) -> None:
        text = message["params"]["prompt"][0]["text"]
        self.turns += 1
        self.cancelled.clear()
        Path("heard.json").write_text(json.dumps([self.turns, text[-200:]]), "utf-8")
        plan = _PLAN.search(text)
        if plan:
            self.steps = json.loads(plan[1])
        while self.steps and not self.cancelled.is_set():
            step = self.steps.pop(0)
            if "fail" in step:
                error = {
                    "code": -32603,
                    "message": "Internal error",
                    "data": {"details": step["fail"]},
                }
                send({"id": message["id"], "error": error})
                return
            self.step(step)
        reason = "cancelled" if self.cancelled.is_set() else "end_turn"
        usage = {"inputTokens": 100, "outputTokens": 11, "totalTokens": 111, "cachedReadTokens": 40}
        self.answer(message, {"stopReason": reason, "usage": usage})

    def step(self, step: Json) -> None:
        if "tool" in step and self.server is not None:
            self.server.call(step["tool"], **step.get("arguments", {}))
        elif "ask" in step:
            self.ask(step)
        elif "write" in step:
            Path(step["write"]).write_text(step["text"], "utf-8")
        elif "say" in step:
            for word in step["say"].split(" "):
                self.write(f"{word} ")
        elif "hang" in step:
            self.cancelled.wait()
        elif "garbage" in step:
            print('Debugger listening on nothing\n{"half": ', flush=True)
        elif "odd" in step:
            self.update({"sessionUpdate": "mood_update", "mood": "fine"})
        else:
            os._exit(step["exit"])

    def ask(self, step: Json) -> None:
        offered = [
            {"optionId": "yes-7", "name": "Yes", "kind": "allow_once"},
            {"optionId": "for-ever-8", "name": "Always", "kind": "allow_always"},
            {"optionId": "no-9", "name": "No", "kind": "reject_once"},
        ]
        call = {
            "toolCallId": str(uuid.uuid4()),
            "title": step["title"],
            "kind": step["ask"],
            "status": "pending",
            "rawInput": step.get("input", {}),
            "locations": [{"path": path} for path in step.get("files", ())],
        }
        params = {"sessionId": self.session, "toolCall": call, "options": offered}
        send({"id": "ask-1", "method": "session/request_permission", "params": params})
        outcome = self.answers.get()["result"]["outcome"]
        kinds = {one["optionId"]: one["kind"] for one in offered}
        Path(step["into"]).write_text(
            str(kinds.get(outcome.get("optionId"), outcome["outcome"])), "utf-8"
        )
        over = {
            "sessionUpdate": "tool_call_update",
            "toolCallId": call["toolCallId"],
            "status": "completed",
            "title": step["title"],
        }
        self.update(over)


if __name__ == "__main__":
    AcpAgent(Path(sys.argv[1]), sys.argv[2:]).serve()
