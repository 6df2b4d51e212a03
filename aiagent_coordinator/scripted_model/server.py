"""The server of a scripted model on loopback, and what may go wrong with it."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from aiagent_coordinator.scripted_model.faults import Fault
from aiagent_coordinator.scripted_model.protocols import PROTOCOLS, Protocol
from aiagent_coordinator.scripted_model.turns import Json, choose


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: ModelServer  # pyright: ignore[reportIncompatibleVariableOverride] - typeshed names the base

    def do_HEAD(self) -> None:
        """Say that somebody is here."""
        self._send(200, "text/plain", b"")

    def do_GET(self) -> None:
        """Name no models."""
        self.server.note({"get": self.path})
        self._json(200, {"data": [], "models": [], "object": "list", "has_more": False})

    def do_POST(self) -> None:
        """Take the next turn, or fail as told."""
        body: Json = json.loads(
            self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}"
        )
        path = self.path.partition("?")[0]
        self.server.keep({"path": path, "headers": self._headers(), "body": body})
        protocol = next((each for each in PROTOCOLS if each.serves(path)), None)
        if protocol is None:
            self.server.note({"post": path, "unknown": True})
            tokens = {"input_tokens": 1, "totalTokens": 1}
            self._json(200 if "count" in path.lower() else 404, tokens)
            return
        tools = protocol.tools(body)
        if tools and self.server.is_struck(made := protocol.made(body)):
            self.server.note({"post": path, "fault": self.server.fault.kind, "made": made})
            self._fail(protocol)
            return
        turn = choose(self.server.plan, protocol.made(body), tools, body)
        called = turn.tool.name if turn.tool else None
        self.server.note(
            {
                "post": path,
                "tools": len(tools),
                "call": called,
                "say": turn.text,
                "saw": [word for word in self.server.watched if word in json.dumps(body)],
            }
        )
        if protocol.is_streamed(path, body):
            events = b"".join(protocol.stream(turn, body))
            self._send(200, "text/event-stream", events, self.server.said)
        else:
            self._json(200, protocol.whole(turn, body), self.server.said)

    def _headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _fail(self, protocol: Protocol) -> None:
        fault = self.server.fault
        if fault.kind == "hang":
            self.server.ended.wait()
        elif fault.kind == "drop":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b": the answer begins\n\n")
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            answer = fault.filled_body() or protocol.refusal(fault.status)
            self._json(fault.status, answer, fault.filled_headers())

    def _json(self, status: int, answer: Json, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._send(status, "application/json", json.dumps(answer).encode(), headers)

    def _send(
        self, status: int, kind: str, content: bytes, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's own name
        """Say nothing."""
        del format, args


class ModelServer(ThreadingHTTPServer):
    """The server and what it was told to do."""

    daemon_threads = True

    #: Words whose appearance in a request is noted.
    watched: tuple[str, ...] = ()
    #: Headers of every answer that is no refusal.
    said: tuple[tuple[str, str], ...] = ()
    #: Where requests are written down whole.
    kept: Path | None = None

    def __init__(self, log: Path, plan: list[Json], fault: Fault) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan = plan
        self.fault = fault
        self.ended = threading.Event()
        self._log = log
        self._lock = threading.Lock()

    def is_struck(self, made: int) -> bool:
        """Whether this request is to fail."""
        with self._lock:
            return self.fault.strikes(made)

    def keep(self, request: Json) -> None:
        """Write down a request whole, where that is wanted."""
        if self.kept:
            with self._lock, self.kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(request) + "\n")

    def note(self, line: Json) -> None:
        """Write down a request."""
        with self._lock, self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "at": time.time()}) + "\n")
