"""A program that serves OpenCode's protocol, without a model. Sessions lie in the folder SESSIONS.

    opencode_server.py SESSIONS [open] serve --hostname 127.0.0.1 --port 0

It finds our server in OPENCODE_CONFIG_CONTENT, and wants the password of OPENCODE_SERVER_PASSWORD. A message
holds a plan in a block fenced with three backticks and the word `plan`, a JSON list of steps: `{"tool":
"report_completed", "arguments": {…}}` calls a tool of that server; `{"ask": "bash", "patterns": […], "metadata":
{…}, "into": "asked.txt"}` asks for leave and writes down what was said; `{"question": "asked.txt"}` asks its
user; `{"write": "a.txt", "text": "…"}`; `{"say": "…"}`; `{"wait": "go"}` works until that file is there or the
turn is aborted; `{"fail": 401, "name": "APIError"}` ends the turn so; `{"retry": 2}` tells that it tries again;
`{"exit": 3}` ends at once; `{"garbage": true}` tells what is no event. A message that comes while it works is
taken up with the next step. `open` has it say that it listens to everybody.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

from aiagent_coordinator.rehearsal import Server

Json = dict[str, Any]
_PLAN = re.compile(r"^```plan[ \t]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


class OpenCode:
    def __init__(self, sessions: Path) -> None:
        self.sessions = sessions
        entry = json.loads(os.environ["OPENCODE_CONFIG_CONTENT"])["mcp"]["coord"]
        program, *arguments = entry["command"]
        self.server = Server({"command": program, "args": arguments})
        self.listeners: list[queue.Queue[bytes]] = []
        self.numbers = count(1)
        self.session = ""
        self.body: Json = {}
        self.steps: list[Json] = []
        #: Messages of the user, by id, and the newest that an answer was begun for.
        self.messages: dict[str, str] = {}
        self.newest = ""
        self.turns = 0
        self.aborted = threading.Event()
        self.worker: threading.Thread | None = None
        self.lock = threading.Lock()
        self.replies: queue.Queue[Json] = queue.Queue()

    def ident(self, kind: str) -> str:
        return f"{kind}_{next(self.numbers):08}"

    def tell(self, kind: str, **told: Any) -> None:
        event = {"id": self.ident("evt"), "type": kind, "properties": told}
        self.emit(f"data: {json.dumps(event)}\n\n".encode())

    def emit(self, data: bytes) -> None:
        for listener in list(self.listeners):
            listener.put(data)

    def part(self, message: str, **part: Any) -> None:
        whole = {"id": self.ident("prt"), "messageID": message, "sessionID": self.session, **part}
        self.tell("message.part.updated", sessionID=self.session, part=whole, time=0)

    def status(self, **status: Any) -> None:
        self.tell("session.status", sessionID=self.session, status=status)
        if status["type"] == "idle":
            self.tell("session.idle", sessionID=self.session)

    def begin(self, session: str = "") -> Json:
        self.session = session or f"ses_{os.getpid()}x{time.time_ns()}"
        (self.sessions / self.session).touch()
        self.server.open()
        self.server.call("authenticate")
        return {"id": self.session}

    def heard(self, body: Json) -> None:
        self.body = body
        (part,) = body["parts"]
        with self.lock:
            ident = self.ident("msg")
            self.messages[ident] = part["text"]
            info = {"id": ident, "role": "user", "sessionID": self.session}
            self.tell("message.updated", sessionID=self.session, info=info)
            self.part(ident, **part)
            if self.worker is None:
                self.aborted.clear()
                self.worker = threading.Thread(target=self.work, daemon=True)
                self.worker.start()

    def work(self) -> None:
        self.turns += 1
        plan = _PLAN.search(next(iter(self.messages.values())))
        if self.turns == 1:
            self.steps = json.loads(plan[1]) if plan else []
        self.status(type="busy")
        while True:
            message = self.answer()
            step = self.steps.pop(0) if self.steps and not self.aborted.is_set() else {}
            fault = self.fault(step) if "fail" in step else None
            if fault is None and step:
                self.step(message, step)
            self.part(
                message,
                type="step-finish",
                cost=0.5,
                tokens={
                    "input": 60,
                    "output": 10,
                    "reasoning": 1,
                    "cache": {"read": 40, "write": 0},
                },
            )
            with self.lock:
                is_over = not self.steps and self.newest == max(self.messages)
                if self.aborted.is_set():
                    fault = {"name": "MessageAbortedError", "data": {"message": "Aborted"}}
                if is_over or fault:
                    self.finish(message, fault)
                    return

    def answer(self) -> str:
        """Begin an answer, to the newest message that there is."""
        with self.lock:
            ident, self.newest = self.ident("msg"), max(self.messages)
            heard = list(self.messages.values())[1:]
        Path("heard.json").write_text(json.dumps([self.turns, heard]), "utf-8")
        info = {"id": ident, "role": "assistant", "parentID": self.newest}
        self.tell("message.updated", sessionID=self.session, info=info)
        return ident

    def finish(self, message: str, fault: Json | None) -> None:
        info: Json = {"id": message, "role": "assistant", "parentID": self.newest}
        if fault:
            self.tell("session.error", sessionID=self.session, error=fault)
            info["error"] = fault
        else:
            info["finish"] = "stop"
        self.tell("message.updated", sessionID=self.session, info=info)
        self.worker = None
        self.status(type="idle")

    def fault(self, step: Json) -> Json:
        data: Json = {"message": "it failed", "isRetryable": False}
        if isinstance(step["fail"], int):
            data["statusCode"] = step["fail"]
        return {"name": step.get("name", "APIError"), "data": data}

    def step(self, message: str, step: Json) -> None:
        if "tool" in step:
            call = self.ident("call")
            tool: Json = {"type": "tool", "tool": f"coord_{step['tool']}", "callID": call}
            given = step.get("arguments", {})
            self.part(message, **tool, state={"status": "pending", "input": {}})
            self.part(message, **tool, state={"status": "running", "input": given})
            self.server.call(step["tool"], **given)
            state = {"status": "completed", "input": given, "output": "answered"}
            self.part(message, **tool, state=state)
        elif "ask" in step:
            told = {key: step[key] for key in ("patterns", "metadata") if key in step}
            asked = {"id": self.ident("per"), "permission": step["ask"], **told, "always": ["*"]}
            self.tell("permission.asked", sessionID=self.session, **asked)
            said = self.replies.get()
            agent = f"{self.body['agent']} " if "agent" in self.body else ""
            words = f"{agent}{said['reply']} {said.get('message', '')}"
            Path(step["into"]).write_text(words.strip(), "utf-8")
        elif "question" in step:
            self.tell("question.asked", sessionID=self.session, id="que_1", questions=[])
            Path(step["question"]).write_text(str(self.replies.get()), "utf-8")
        elif "write" in step:
            Path(step["write"]).write_text(step["text"], "utf-8")
        elif "say" in step:
            ident = self.ident("prt")
            self.part(message, id=ident, type="text", text=step["say"][:3], time={"start": 1})
            self.part(message, id=ident, type="text", text=step["say"], time={"start": 1, "end": 2})
        elif "wait" in step:
            while not Path(step["wait"]).exists() and not self.aborted.is_set():
                time.sleep(0.05)
        elif "retry" in step:
            self.status(type="retry", attempt=step["retry"], message="Overloaded", next=0)
        elif "garbage" in step:
            self.emit(b': a comment\n\ndata: {"half": \n\nevent: nobody\ndata: 7\n\n')
        else:
            os._exit(step["exit"])

    def abort(self) -> None:
        worker = self.worker
        self.aborted.set()
        if worker is not None:
            worker.join()
        self.status(type="idle")  # it says so twice


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    program: OpenCode
    password: str

    def log_message(self, *_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        pass

    def do_GET(self) -> None:
        self.route("GET")

    def do_POST(self) -> None:
        self.route("POST")

    def route(self, method: str) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body: Json = json.loads(self.rfile.read(size) or b"{}")
        wanted = base64.b64encode(f"opencode:{self.password}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {wanted}":
            self.reply(401, None)
            return
        names = self.path.strip("/").split("/")
        if method == "GET":
            self.look(names)
        else:
            self.do(names, body)

    def look(self, names: list[str]) -> None:
        program = self.program
        match names:
            case ["event"]:
                self.stream()
            case ["mcp"]:
                self.reply(200, {"coord": {"status": "connected"}})
            case ["config", "providers"]:
                models = {"m": {"limit": {"context": 1000}}}
                self.reply(200, {"providers": [{"id": "scripted", "models": models}]})
            case ["session", ident] if (program.sessions / ident).exists():
                self.reply(200, program.begin(ident))
            case _:
                self.reply(404, {"name": "NotFoundError", "data": {"message": "Session not found"}})

    def do(self, names: list[str], body: Json) -> None:
        program = self.program
        match names:
            case ["session"]:
                self.reply(200, program.begin())
            case ["session", _, "prompt_async"]:
                program.heard(body)
                self.reply(204, None)
            case ["session", _, "abort"]:
                program.abort()
                self.reply(200, True)
            case ["permission" | "question", _, "reply" | "reject"]:
                program.replies.put(body)
                self.reply(200, True)
            case ["global", "dispose"]:
                self.reply(200, True)
            case _:
                self.reply(404, None)

    def reply(self, status: int, told: object) -> None:
        data = b"" if told is None else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        events: queue.Queue[bytes] = queue.Queue()
        self.program.listeners.append(events)
        self.program.tell("server.connected")
        while True:
            self.wfile.write(events.get())
            self.wfile.flush()


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is nothing."""


def main() -> None:
    Handler.program = OpenCode(Path(sys.argv[1]))
    Handler.password = os.environ["OPENCODE_SERVER_PASSWORD"]
    served = Quiet(("127.0.0.1", 0), Handler)
    host = "0.0.0.0" if "open" in sys.argv else "127.0.0.1"
    print(f"opencode server listening on http://{host}:{served.server_address[1]}", flush=True)
    served.serve_forever()


if __name__ == "__main__":
    main()
