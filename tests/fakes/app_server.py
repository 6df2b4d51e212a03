"""A program that speaks Codex's app-server protocol, without a model. Threads lie in the folder THREADS.

    app_server.py THREADS app-server [-c KEY=VALUE …]

It finds our server in `-c mcp_servers.coord={…}`. A turn's text holds a plan in a block fenced with three
backticks and the word `plan`, a JSON list of steps: `{"tool": "report_completed", "arguments": {…}}` calls a tool
of that server; `{"command": "rm x", "into": "asked.txt"}` and `{"change": ["b.txt"], "into": …}` ask for leave and
write the decision down, for a command also with other members of such a request in `"as"`, in place of itself; `{"write": "a.txt", "text": "…"}`; `{"say": "…"}`; `{"wait": "go"}` works until that file
is there or the turn is interrupted; `{"fail": "unauthorized"}` ends the turn so; `{"retry": 1}` tells of an error
that is tried again; `{"exit": 3}` ends at once; `{"garbage": true}` writes what is no message. A turn without a
plan goes on with the steps that are left. What was said to a turn is taken up before its next step.
"""

from __future__ import annotations

import json
import os
import queue
import re
import sys
import threading
import time
import tomllib
import uuid
from pathlib import Path
from typing import Any

from aiagent_coordinator.rehearsal import Server

Json = dict[str, Any]
_PLAN = re.compile(r"^```plan[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LOCK = threading.Lock()


def send(message: Json) -> None:
    with _LOCK:
        print(json.dumps(message), flush=True)


class AppServer:
    def __init__(self, threads: Path, words: list[str]) -> None:
        self.threads = threads
        told = "\n".join(words[index + 1] for index, word in enumerate(words) if word == "-c")
        entry = tomllib.loads(told)["mcp_servers"]["coord"]
        self.server = Server(entry)
        self.thread = self.turn = ""
        self.how: Json = {}
        self.steps: list[Json] = []
        self.steered: queue.Queue[Json] = queue.Queue()
        self.interrupted = threading.Event()
        self.answers: queue.Queue[Json] = queue.Queue()
        self.heard: list[str] = []
        self.turns = 0

    def serve(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            params: Json = message.get("params") or {}
            match message.get("method"):
                case None:
                    self.answers.put(message)
                case "thread/start" | "thread/resume":
                    self.open(message, params)
                case "turn/start":
                    self.turn = str(uuid.uuid4())
                    self.interrupted.clear()
                    self.answer(
                        message, {"turn": {"id": self.turn, "items": [], "status": "inProgress"}}
                    )
                    threading.Thread(target=self.work, args=(params,), daemon=True).start()
                case "turn/steer":
                    self.steer(message, params)
                case "turn/interrupt":
                    self.interrupted.set()
                    self.answer(message, {})
                case "initialized":
                    pass
                case _:
                    self.answer(message, {"userAgent": "scripted"})

    def answer(self, message: Json, result: Json) -> None:
        send({"id": message["id"], "result": result})

    def open(self, message: Json, params: Json) -> None:
        self.how = params
        self.thread = str(params.get("threadId") or uuid.uuid4())
        file = self.threads / self.thread
        if message["method"] == "thread/resume" and not file.exists():
            self.thread = ""
            words = f"no rollout found for thread id {params['threadId']}"
            send({"id": message["id"], "error": {"code": -32600, "message": words}})
            return
        file.touch()
        self.server.open()
        self.server.call("authenticate")
        self.answer(message, {"thread": {"id": self.thread}, "model": params.get("model") or "own"})

    def steer(self, message: Json, params: Json) -> None:
        if not self.turn or params["expectedTurnId"] != self.turn:
            send({"id": message["id"], "error": {"code": -32600, "message": "no active turn"}})
            return
        self.steered.put(params)
        self.answer(message, {"turnId": self.turn})

    def tell(self, method: str, **params: Any) -> None:
        send({"method": method, "params": {"threadId": self.thread, "turnId": self.turn, **params}})

    def take_up(self) -> None:
        while not self.steered.empty():
            said = self.steered.get()
            self.heard.append(said["input"][0]["text"])
            item = {
                "type": "userMessage",
                "id": str(uuid.uuid4()),
                "clientId": said["clientUserMessageId"],
            }
            self.tell("item/started", item=item)
            self.tell("item/completed", item=item)
        Path("heard.json").write_text(json.dumps([self.turns, self.heard]), "utf-8")

    def work(self, params: Json) -> None:
        self.turns += 1
        text = params["input"][0]["text"]
        if self.turns > 1:
            self.heard.append(text)
        plan = _PLAN.search(text)
        if plan:
            self.steps = json.loads(plan[1])
        status, error = "completed", None
        while self.steps and not self.interrupted.is_set():
            self.take_up()
            step = self.steps.pop(0)
            if "fail" in step:
                status = "failed"
                error = {"message": f"it failed: {step['fail']}", "codexErrorInfo": step["fail"]}
                break
            self.step(step)
        self.take_up()
        if self.interrupted.is_set():
            status = "interrupted"
        total = {"inputTokens": 100 * self.turns, "cachedInputTokens": 40, "outputTokens": 11}
        last = {**total, "inputTokens": 100}
        self.tell(
            "thread/tokenUsage/updated",
            tokenUsage={"total": total, "last": last, "modelContextWindow": 1000},
        )
        turn: Json = {"id": self.turn, "items": [], "status": status, "error": error}
        self.turn = ""
        self.tell("turn/completed", turn=turn)

    def step(self, step: Json) -> None:
        if "tool" in step:
            call = {
                "type": "mcpToolCall",
                "id": str(uuid.uuid4()),
                "server": "coord",
                "tool": step["tool"],
            }
            call |= {"arguments": step.get("arguments", {})}
            self.tell("item/started", item={**call, "status": "inProgress"})
            self.server.call(step["tool"], **step.get("arguments", {}))
            content = [{"type": "text", "text": "answered"}]
            self.tell(
                "item/completed",
                item={**call, "status": "completed", "result": {"content": content}},
            )
        elif "into" in step:
            self.ask(step)
        elif "write" in step:
            Path(step["write"]).write_text(step["text"], "utf-8")
        elif "say" in step:
            self.tell(
                "item/completed", item={"type": "agentMessage", "id": "m", "text": step["say"]}
            )
        elif "wait" in step:
            while not Path(step["wait"]).exists() and not self.interrupted.is_set():
                time.sleep(0.05)
        elif "retry" in step:
            error = {"message": "Reconnecting... 2/5", "codexErrorInfo": "serverOverloaded"}
            self.tell("error", error=error, willRetry=True)
        elif "garbage" in step:
            print('a warning of nobody\n{"half": ', flush=True)
        else:
            os._exit(step["exit"])

    def ask(self, step: Json) -> None:
        ident = str(uuid.uuid4())
        if "command" in step:
            item: Json = {"type": "commandExecution", "id": ident, "command": step["command"]}
            more: Json = step.get("as", {"command": step["command"]})
            asked = "item/commandExecution/requestApproval"
        else:
            moved = {"type": "update", "move_path": step.get("to")}
            changes: list[Json] = [
                {"path": str(Path.cwd() / path), "diff": "", "kind": moved}
                for path in step["change"]
            ]
            item = {"type": "fileChange", "id": ident, "changes": changes}
            asked, more = "item/fileChange/requestApproval", {}
        self.tell("item/started", item={**item, "status": "inProgress"})
        params: Json = {
            "threadId": self.thread,
            "turnId": self.turn,
            "itemId": ident,
            "startedAtMs": 0,
            **more,
        }
        send({"id": f"ask-{ident}", "method": asked, "params": params})
        decision = self.answers.get()["result"]["decision"]
        Path(step["into"]).write_text(f"{self.how['approvalPolicy']} {decision}", "utf-8")
        status = "completed" if decision == "accept" else "declined"
        self.tell("item/completed", item={**item, "status": status})


if __name__ == "__main__":
    AppServer(Path(sys.argv[1]), sys.argv[2:]).serve()
