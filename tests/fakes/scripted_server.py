"""A JSON-RPC server on a Unix socket that does what its callers and its command line tell it to.

Stand-alone. `scripted_server.py SOCKET [--record FILE] [--foreign] [--protocol N] [--do JSON]`

What happens to a `tools/call` is said by the argument `do` of the call, else by `--do '{"tool": "do"}'`,
else it is answered:

answer           an echo {"tool", "id", "arguments"} as structured content with its copy in the text
text             the same without structured content, pretty-printed as AI Agent PM does
delay:SECONDS    the echo, later
never            nothing
die              SIGKILL to itself instead of an answer
half             half the answer, then SIGKILL to itself
answer-and-die   the echo, then SIGKILL to itself
close            this connection is closed, the server stays
garbage          a line that is no JSON
huge             an echo with 15 MiB of text;   over: with 17 MiB
raw:JSON         this as `result`;   error:JSON  this as `error`
update:URI       a resources/updated notification, then the echo
progress:N       a progress notification of that value for the call's token, then nothing
ask              a request to the client (ping), then the echo

Frames are appended to the record as {"pid": N, "conn": N, "frame": …} before anything is done about them.
`--mute FILE` reads and records but answers nothing until FILE exists. A line "ready" on stdout says
that it listens.
"""

# ruff: noqa: ARG002 - all ways to treat a call are called the same way

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

CAPABILITY = "dev.aiagent-coordinator/1"
Json = dict[str, Any]


@dataclass
class Call:
    id: Any
    params: Json
    echo: Json
    value: str


class Connection:
    def __init__(self, options: argparse.Namespace, number: int, sock: socket.socket) -> None:
        self.options = options
        self.number = number
        self.sock = sock
        self.lock = threading.Lock()

    def serve(self) -> None:
        with self.sock, self.sock.makefile("rb") as lines:
            try:
                for line in lines:
                    self.on_line(line)
            except OSError:
                return

    def on_line(self, line: bytes) -> None:
        frame: Json = {"garbage": len(line)}
        try:
            value: Any = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            frame = cast("Json", value)
        self.record(frame)
        while self.options.mute and not Path(self.options.mute).exists():
            time.sleep(0.01)
        request_id, method = frame.get("id"), frame.get("method")
        if request_id is None or method is None:
            return
        if method == "initialize":
            self.answer(request_id, self.about())
        elif method == "tools/call":
            self.on_call(request_id, frame["params"])
        else:
            self.answer(request_id, {"method": method})

    def record(self, frame: Json) -> None:
        if self.options.record:
            entry = {"pid": os.getpid(), "conn": self.number, "frame": frame}
            line = json.dumps(entry).encode() + b"\n"
            with Path(self.options.record).open("ab", buffering=0) as file:
                file.write(line)

    def about(self) -> Json:
        server = {"name": "scripted", "version": "9.9"}
        result: Json = {"protocolVersion": "2025-11-25", "serverInfo": server, "capabilities": {}}
        if not self.options.foreign:
            ours = {"protocol": self.options.protocol, "features": ["runs"], "version": "0.1.0"}
            result["capabilities"] = {"experimental": {CAPABILITY: ours}}
        return result

    def on_call(self, request_id: Any, params: Json) -> None:
        arguments: Json = params.get("arguments") or {}
        do = str(arguments.get("do") or self.options.do.get(params["name"], "answer"))
        do, _, value = do.partition(":")
        echo = {"tool": params["name"], "id": request_id, "arguments": arguments}
        handler = getattr(self, "do_" + do.replace("-", "_"))
        handler(Call(request_id, params, echo, value))

    def do_answer(self, call: Call) -> None:
        text = {"type": "text", "text": json.dumps(call.echo)}
        self.answer(call.id, {"content": [text], "structuredContent": call.echo})

    def do_text(self, call: Call) -> None:
        text = json.dumps(call.echo, indent=2, separators=(",", " : "), sort_keys=True)
        self.answer(call.id, {"content": [{"type": "text", "text": text}]})

    def do_delay(self, call: Call) -> None:
        timer = threading.Timer(float(call.value), self.do_answer, (call,))
        timer.daemon = True
        timer.start()

    def do_never(self, call: Call) -> None:
        pass

    def do_die(self, call: Call) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def do_half(self, call: Call) -> None:
        frame = json.dumps({"jsonrpc": "2.0", "id": call.id, "result": call.echo}).encode()
        self.write(frame[: len(frame) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    def do_answer_and_die(self, call: Call) -> None:
        self.do_answer(call)
        os.kill(os.getpid(), signal.SIGKILL)

    def do_close(self, call: Call) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)

    def do_garbage(self, call: Call) -> None:
        self.write(b"this is no message\n")

    def do_huge(self, call: Call) -> None:
        self.answer(call.id, {"structuredContent": {**call.echo, "text": "x" * (15 << 20)}})

    def do_over(self, call: Call) -> None:
        self.answer(call.id, {"structuredContent": {**call.echo, "text": "x" * (17 << 20)}})

    def do_raw(self, call: Call) -> None:
        self.answer(call.id, json.loads(call.value))

    def do_error(self, call: Call) -> None:
        self.say({"jsonrpc": "2.0", "id": call.id, "error": json.loads(call.value)})

    def do_update(self, call: Call) -> None:
        self.say(
            {
                "jsonrpc": "2.0",
                "method": "notifications/resources/updated",
                "params": {"uri": call.value},
            }
        )
        self.do_answer(call)

    def do_progress(self, call: Call) -> None:
        progress = {
            "progressToken": call.params["_meta"]["progressToken"],
            "progress": json.loads(call.value),
        }
        self.say({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})

    def do_ask(self, call: Call) -> None:
        self.say({"jsonrpc": "2.0", "id": 77, "method": "ping"})
        self.do_answer(call)

    def answer(self, request_id: Any, result: Json) -> None:
        self.say({"jsonrpc": "2.0", "id": request_id, "result": result})

    def say(self, message: Json) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, data: bytes) -> None:
        with self.lock:
            try:
                self.sock.sendall(data)
            except OSError:
                pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    parser.add_argument("--record")
    parser.add_argument("--foreign", action="store_true")
    parser.add_argument("--protocol", type=int, default=1)
    parser.add_argument("--do", type=json.loads, default={})
    parser.add_argument("--mute")
    options = parser.parse_args()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    Path(options.socket).unlink(missing_ok=True)
    listener.bind(options.socket)
    listener.listen(128)
    print("ready", flush=True)
    for number in range(1, 1_000_000):
        sock, _ = listener.accept()
        threading.Thread(target=Connection(options, number, sock).serve, daemon=True).start()


if __name__ == "__main__":
    main()
