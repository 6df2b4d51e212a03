"""The stdio MCP server of an agent's CLI: carries its messages to our server and outlives that server.

Runs as `<python> -I -S bridge.py` from a copy in the run's directory, where it finds `spec.json` (where
the server is) and `token` (who calls); both are read again at each connect. Imports nothing of ours:
the package may be upgraded or gone while an agent runs.

While the server is away the CLI's stdio stays open. On the next connection the bridge says hello, naming
the requests that it sends a second time, replays the CLI's `initialize` (and swallows the answer), then
sends what has no answer yet. What waited too long for a server is answered by the bridge itself. To a
server that is not ours nothing is ever sent twice: it could not know a repetition from a second wish.

One thread, one `poll` loop; nothing blocks, and neither direction can fill memory.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import sys
import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

HELLO = "notifications/dev.aiagent-coordinator/hello"
#: What one line may hold, newline included; what may wait in each direction before its source is paused.
MAX_FRAME_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 256 * 1024
#: The pipe to a CLI takes 64 KiB at a time.
STDOUT_BYTES = 64 * 1024
#: Redial at once-ish, since a restart takes under a second; later rarely, since an outage may be long.
BACK_OFF_SECONDS = (0.05, 2.0)
BACK_OFF_FACTOR = 1.5
#: Shorter than the shortest limit that a CLI sets for one call (60 s).
HOLD_SECONDS = 45.0
#: Shorter than the shortest idle limit that progress extends (60 s), with room for two losses.
KEEPALIVE_SECONDS = 20.0
#: Progress has to grow; small steps leave room below what the server itself says later.
KEEPALIVE_STEP = 0.001
#: A CLI that closes our stdin is done; an answer on its way may still be wanted.
DRAIN_SECONDS = 1.0

RESTARTING = "the coordinator is restarting, call again"
LOST = "the server went away during this call; look whether it took effect before calling again"
TOO_LARGE = "the answer is larger than 16 MiB"

_ANSWER_ID = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(-?\d+|"[^"\\]*")')


class Call:
    """A request of the CLI that has no answer yet."""

    def __init__(self, message: Json, line: bytes, now: float) -> None:
        self.id: int | str = message["id"]
        self.method: object = message["method"]
        self.line = line
        self.arrived = now
        #: Whether any byte of it ever went out on any connection.
        self.sent = False
        params: Any = message.get("params")
        meta: Any = params.get("_meta") if is_object(params) else None
        token: Any = meta.get("progressToken") if is_object(meta) else None
        self.token = token if is_id(token) and self.method == "tools/call" else None
        self.progress = 0.0
        self.last_progress = now


class Lines:
    """Cuts a stream into lines; a line that is too large is dropped and its beginning kept apart."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        #: Beginnings of lines that were dropped since the caller last looked.
        self.dropped: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived and give the lines that are complete now, without newlines or blanks."""
        pieces = data.split(b"\n")
        lines: list[bytes] = []
        for piece in pieces[:-1]:
            self._keep(piece)
            line = self.take()
            if line.strip():
                lines.append(line)
        self._keep(pieces[-1])
        return lines

    def take(self) -> bytes:
        """Give the line as far as it came and start the next; empty when it was too large."""
        line, size = b"".join(self.parts), self.size
        self.parts, self.size = [], 0
        if size >= MAX_FRAME_BYTES:
            self.dropped.append(line)
            return b""
        return line

    def _keep(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size >= MAX_FRAME_BYTES:
            self.parts = [(b"".join(self.parts) + piece[:200])[:200]]
        elif piece:
            self.parts.append(piece)


class Bridge:
    """All state of one bridge; see the module's text for what it does."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.nonce = os.urandom(8).hex()
        self.hold_seconds = HOLD_SECONDS
        self.keepalive_seconds = KEEPALIVE_SECONDS
        self.ours = True
        # the CLI
        self.stdin_open = True
        self.from_client = Lines()
        self.to_client = bytearray()
        self.drain_until = 0.0
        self.initialize: Json | None = None
        self.is_initialized = False
        self.calls: dict[int | str, Call] = {}
        # the server
        self.sock: socket.socket | None = None
        self.redial_at = 0.0
        self.back_off = BACK_OFF_SECONDS[0]
        self.connections = 0
        self.replay_id = ""
        self.from_server = Lines()
        self.to_server: deque[tuple[bytes, Call | None]] = deque()
        self.offset = 0
        self.queued_bytes = 0
        self.can_send = False
        self.asked: set[int | str] = set()
        #: Answered here while the request was already out: the server's answer comes too late.
        self.too_late: set[int | str] = set()
        #: Whether the handshake with this server is done, and whether it said anything at all.
        self.is_ready = False
        self.has_spoken = False

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Carry messages until the CLI is gone."""
        self.dial()
        while not self.is_done():
            self.wait()
            now = time.monotonic()
            if self.sock is None and now >= self.redial_at:
                self.dial()
            self.expire(now)
            self.keep_alive(now)

    def is_done(self) -> bool:
        """Whether the CLI closed our stdin and has what it can still get."""
        if self.stdin_open:
            return False
        idle = not self.calls and not self.to_server and not self.to_client
        return idle or time.monotonic() >= self.drain_until

    def wait(self) -> None:
        """Wait for the next event or deadline and move bytes."""
        poll = select.poll()
        held = sum(len(call.line) for call in self.calls.values())
        if self.stdin_open and max(held, self.queued_bytes) < MAX_FRAME_BYTES:
            poll.register(0, select.POLLIN)
        # Registered even with nothing to write: that is how a CLI that is gone shows.
        poll.register(1, select.POLLOUT if self.to_client else 0)
        sock = self.sock
        if sock is not None:
            wanted = select.POLLIN if len(self.to_client) < MAX_FRAME_BYTES else 0
            poll.register(
                sock, wanted | (select.POLLOUT if self.to_server and self.can_send else 0)
            )
        timeout = max(0.0, self.next_deadline() - time.monotonic())
        for fd, event in poll.poll(min(int(timeout * 1000) + 1, 60_000)):
            if fd == 0:
                self.read_client()
            elif fd == 1:
                self.write_client(event)
            elif sock is self.sock:
                self.move_server(event)

    def next_deadline(self) -> float:
        """When something is to be done even if nothing happens."""
        deadlines = [time.monotonic() + 60.0]
        if self.sock is None:
            deadlines.append(self.redial_at)
        if not self.stdin_open:
            deadlines.append(self.drain_until)
        for call in self.calls.values():
            if not self.is_settled():
                deadlines.append(call.arrived + self.hold_seconds)
            if call.token is not None:
                deadlines.append(call.last_progress + self.keepalive_seconds)
        return min(deadlines)

    def is_settled(self) -> bool:
        """Whether the server is there: a bound socket takes connections before anybody listens."""
        return self.is_ready and self.has_spoken

    def expire(self, now: float) -> None:
        """Answer what waited too long for a server."""
        if self.is_settled():
            return
        for call in list(self.calls.values()):
            if now >= call.arrived + self.hold_seconds:
                if self.is_ready and not self.unqueue(call):
                    self.too_late.add(call.id)
                self.fail(call, RESTARTING)

    def keep_alive(self, now: float) -> None:
        """Say of long calls that they go on: several CLIs give up on silence only."""
        for call in self.calls.values():
            if call.token is not None and now >= call.last_progress + self.keepalive_seconds:
                call.progress = round(call.progress + KEEPALIVE_STEP, 6)
                call.last_progress = now
                params = {"progressToken": call.token, "progress": call.progress}
                self.tell_client(notification("notifications/progress", params))

    # -- the CLI's side ----------------------------------------------------------------------------

    def read_client(self) -> None:
        """Take what the CLI wrote."""
        try:
            data = os.read(0, CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        for line in self.from_client.feed(data or b"\n"):
            self.on_client_line(line)
        for _ in self.from_client.dropped:
            self.tell_client(failure(None, -32600, "the message is larger than 16 MiB"))
        self.from_client.dropped.clear()
        if not data:
            self.stdin_open = False
            self.drain_until = time.monotonic() + DRAIN_SECONDS

    def on_client_line(self, line: bytes) -> None:
        """Sort one message of the CLI."""
        message = parse(line)
        method, is_request = message.get("method"), is_id(message.get("id"))
        if method is not None and is_request:
            self.on_request(message, line)
        elif method == "notifications/initialized":
            self.is_initialized = True
            self.send_if_ready(line)
        elif method == "notifications/cancelled":
            self.on_cancelled(message, line)
        elif is_request and ("result" in message or "error" in message):
            # An answer to a server that is gone would be taken for an answer to its successor.
            if message["id"] in self.asked:
                self.asked.discard(message["id"])
                self.send_if_ready(line)
        elif method is not None:
            self.send_if_ready(line)
        else:
            # Said here and not by the server: while it is away nobody else would say anything.
            request_id: Any = message["id"] if is_request else None
            self.tell_client(
                failure(request_id, -32600, "no message: not a JSON-RPC object on one line")
            )

    def on_request(self, message: Json, line: bytes) -> None:
        """Remember a request until it is answered, and send it as soon as there is a server."""
        call = Call(message, line, time.monotonic())
        if not self.ours and call.method == "tools/call":
            call.line = line = self.with_credentials(message, line)
        self.calls[call.id] = call
        self.too_late.discard(call.id)
        if call.method == "initialize":
            self.initialize, self.is_initialized = None, False
        if self.is_ready:
            self.send(line, call)

    def with_credentials(self, message: Json, line: bytes) -> bytes:
        """Show a foreign server who calls: the agent itself never sees its passkey."""
        params: Any = message.get("params")
        if not is_object(params) or params.get("name") != "authenticate":
            return line
        try:
            with open(os.path.join(self.directory, "credentials"), encoding="utf-8") as file:
                shown = json.load(file)
        except (OSError, ValueError):
            return line
        return encode({**message, "params": {**params, "arguments": shown}})

    def on_cancelled(self, message: Json, line: bytes) -> None:
        """Forget a request that nobody waits for; a server that never saw it is told nothing."""
        params: Any = message.get("params")
        request_id: Any = params.get("requestId") if is_object(params) else None
        call = self.calls.pop(request_id, None) if is_id(request_id) else None
        if call is None or not self.unqueue(call):
            self.send_if_ready(line)

    def tell_client(self, message: Json) -> None:
        """Say something of our own to the CLI."""
        self.to_client += json.dumps(message, separators=(",", ":")).encode() + b"\n"

    def fail(self, call: Call, text: str) -> None:
        """Answer a request ourselves; a tool's failure is something that the model can read."""
        del self.calls[call.id]
        if call.method != "tools/call":
            self.tell_client(failure(call.id, -32000, text))
            return
        result = {"content": [{"type": "text", "text": text}], "isError": True}
        self.tell_client({"jsonrpc": "2.0", "id": call.id, "result": result})

    def write_client(self, event: int) -> None:
        """Give the CLI what it takes; one that reads no more ends the bridge."""
        if not self.to_client:
            if event & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                raise SystemExit
            return
        try:
            written = os.write(1, self.to_client[:STDOUT_BYTES])
        except BlockingIOError:
            return
        except OSError:
            raise SystemExit from None
        del self.to_client[:written]
        self.drain_until = time.monotonic() + DRAIN_SECONDS

    # -- the server's side -------------------------------------------------------------------------

    def dial(self) -> None:
        """Try to connect once and say what comes first."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A full backlog would block a connect for as long as the server hangs.
        sock.setblocking(False)
        try:
            greeting = self.read_directory(sock)
        except (OSError, ValueError, LookupError, TypeError):
            sock.close()
            self.redial_later()
            return
        self.sock, self.can_send, self.has_spoken = sock, True, False
        self.connections += 1
        self.from_server = Lines()
        self.to_server.clear()
        self.offset = self.queued_bytes = 0
        if greeting:
            self.send(greeting)
        if self.initialize is None:
            self.become_ready()
        else:
            self.replay_id = f"bridge-{self.nonce}-{self.connections}"
            self.send(encode({**self.initialize, "id": self.replay_id}))

    def redial_later(self) -> None:
        """Wait longer after each attempt; only a server that speaks starts the row anew."""
        self.redial_at = time.monotonic() + self.back_off
        self.back_off = min(BACK_OFF_FACTOR * self.back_off, BACK_OFF_SECONDS[1])

    def read_directory(self, sock: socket.socket) -> bytes:
        """Connect to where `spec.json` points now; give the hello, empty for a foreign server."""
        with open(os.path.join(self.directory, "spec.json"), encoding="utf-8") as file:
            spec = json.load(file)
        server = spec["server"]
        ours = bool(server.get("ours", True))
        hold = float(server.get("hold_seconds", HOLD_SECONDS))
        keepalive = float(server.get("keepalive_seconds", KEEPALIVE_SECONDS))
        greeting = self.hello(spec["run_id"]) if ours else b""
        self.ours, self.hold_seconds, self.keepalive_seconds = ours, hold, keepalive
        sock.connect(server["socket"])
        return greeting

    def hello(self, run_id: str) -> bytes:
        """The line that says whose connection this is and which requests come a second time."""
        with open(os.path.join(self.directory, "token"), encoding="utf-8") as file:
            token = file.read().strip()
        again = [
            call.id for call in self.calls.values() if call.sent and call.method != "initialize"
        ]
        params = {"v": 1, "run": run_id, "token": token, "nonce": self.nonce, "resend": again}
        return encode(notification(HELLO, params))

    def become_ready(self) -> None:
        """The handshake is done: say what is still unanswered, oldest first."""
        self.is_ready = True
        if self.initialize is not None and self.is_initialized:
            self.send(encode(notification("notifications/initialized")))
        for call in self.calls.values():
            self.send(call.line, call)
        if self.connections > 1 and self.is_initialized:
            self.tell_client(notification("notifications/tools/list_changed"))

    def send_if_ready(self, line: bytes) -> None:
        """Pass on what only this connection's server would understand."""
        if self.is_ready:
            self.send(line)

    def send(self, line: bytes, call: Call | None = None) -> None:
        """Queue a line for the server."""
        data = line if line.endswith(b"\n") else line + b"\n"
        self.to_server.append((data, call))
        self.queued_bytes += len(data)

    def unqueue(self, call: Call) -> bool:
        """Take back a request of which this connection saw nothing yet; False when it did."""
        for index, (data, queued) in enumerate(self.to_server):
            if queued is call and (index or not self.offset):
                del self.to_server[index]
                self.queued_bytes -= len(data)
                return True
        return not self.is_ready

    def move_server(self, event: int) -> None:
        """Write, then read what the server allows."""
        if event & select.POLLOUT:
            self.write_server()
        if event & ~select.POLLOUT:
            self.read_server()

    def write_server(self) -> None:
        """Send queued lines until the socket takes no more."""
        assert self.sock is not None  # noqa: S101 - for the type checker; only called with one
        while self.to_server:
            data, call = self.to_server[0]
            try:
                count = self.sock.send(memoryview(data)[self.offset :])
            except BlockingIOError:
                return
            except OSError:
                # It went away, but answers may still lie in the socket: reading finds its end.
                self.can_send = False
                return
            if call is not None:
                call.sent = True
            self.offset += count
            if self.offset == len(data):
                self.to_server.popleft()
                self.queued_bytes -= len(data)
                self.offset = 0

    def read_server(self) -> None:
        """Take what the server said, or note that it is gone."""
        assert self.sock is not None  # noqa: S101 - for the type checker; only called with one
        try:
            data = self.sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lose_server()
            return
        self.has_spoken = True
        self.back_off = BACK_OFF_SECONDS[0]
        for line in self.from_server.feed(data):
            self.on_server_line(line)
        for start in self.from_server.dropped:
            match = _ANSWER_ID.match(start)
            call = self.calls.get(json.loads(match[1])) if match else None
            if call is not None:
                self.fail(call, TOO_LARGE)
        self.from_server.dropped.clear()

    def on_server_line(self, line: bytes) -> None:
        """Sort one message of the server."""
        message = parse(line)
        request_id: Any = message.get("id")
        if "method" in message:
            if is_id(request_id):
                self.asked.add(request_id)
            self.note_progress(message)
        elif is_id(request_id):
            if request_id == self.replay_id:
                self.replay_id = ""
                self.become_ready()
                return
            if request_id in self.too_late:
                self.too_late.discard(request_id)
                return
            call = self.calls.pop(request_id, None)
            if call is not None and call.method == "initialize" and "result" in message:
                self.initialize = parse(call.line)
        elif not message:
            return
        self.to_client += line + b"\n"

    def note_progress(self, message: Json) -> None:
        """The server's own progress puts ours off, and ours continues from it."""
        params: Any = message.get("params")
        if message["method"] != "notifications/progress" or not is_object(params):
            return
        for call in self.calls.values():
            if call.token is not None and call.token == params.get("progressToken"):
                call.last_progress = time.monotonic()
                progress: Any = params.get("progress")
                if isinstance(progress, (int, float)):
                    call.progress = max(call.progress, progress)

    def lose_server(self) -> None:
        """Forget the connection; what it leaves open waits for the next, or is answered here."""
        assert self.sock is not None  # noqa: S101 - for the type checker; only called with one
        self.sock.close()
        self.sock, self.is_ready, self.has_spoken = None, False, False
        self.replay_id = ""
        self.asked.clear()
        self.too_late.clear()
        self.to_server.clear()
        self.queued_bytes = 0
        self.redial_later()
        if not self.ours:
            for call in list(self.calls.values()):
                # A handshake belongs to its connection: it is not repeated, it is made anew.
                if call.sent and call.method != "initialize":
                    self.fail(call, LOST)


def is_object(value: object) -> bool:
    """Whether a value is a JSON object."""
    return isinstance(value, dict)


def is_id(value: object) -> bool:
    """Whether a value can be a request's id; True and 1.0 would pass for 1."""
    return type(value) is int or type(value) is str


def parse(line: bytes) -> Json:
    """Read a message; an empty one stands for what is none."""
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if is_object(value) else {}


def encode(message: Json) -> bytes:
    """Write a message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def notification(method: str, params: Json | None = None) -> Json:
    """A message without an answer."""
    message: Json = {"jsonrpc": "2.0", "method": method}
    return message if params is None else {**message, "params": params}


def failure(request_id: int | str | None, code: int, text: str) -> Json:
    """A JSON-RPC error."""
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": text}}


def main() -> None:
    """Run as a program."""
    os.set_blocking(1, False)
    try:
        Bridge(os.path.dirname(os.path.abspath(__file__))).run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
