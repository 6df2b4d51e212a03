"""Stands between a coordinator and its server and spoils what passes, as a list of orders says.

Stand-alone. `meddler.py LISTEN SERVER ORDERS` passes frames both ways. ORDERS is a file of JSON lines,
read when it starts; each order is used up by the first call it fits:

{"tool": NAME, "do": "lose"}            the server does it; the answer is lost with the connection
{"tool": NAME, "do": "swallow"}         the server never sees it; the connection ends
{"tool": NAME, "do": "silence"}         the server does it; the answer is kept back, the line stays
{"tool": NAME, "do": "line", "with": T} the answer's line is replaced by the text T (ID is the call's id)
{"tool": NAME, "do": "result", "with": J} the tool's answer is replaced by the JSON J
{"tool": NAME, "do": "merge", "with": J}  the keys of J are put into the tool's answer

Each order that was used is written to ORDERS + ".used", one line each. A line "ready" on stdout says
that it listens.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any

LISTEN, SERVER, ORDERS = sys.argv[1], sys.argv[2], Path(sys.argv[3])
lock = threading.Lock()
orders: list[dict[str, Any]] = [
    json.loads(line) for line in ORDERS.read_text(encoding="utf-8").splitlines() if line
]


def order_for(tool: str) -> dict[str, Any] | None:
    with lock:
        for order in orders:
            if order["tool"] == tool:
                orders.remove(order)
                with Path(f"{ORDERS}.used").open("a", encoding="utf-8") as used:
                    used.write(json.dumps(order) + "\n")
                return order
    return None


def end(*sockets: socket.socket) -> None:
    for sock in sockets:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Line:
    """One connection: two threads, and what is to be done to which answers."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server = socket.socket(socket.AF_UNIX)
        self.server.connect(SERVER)
        self.wanted: dict[Any, dict[str, Any]] = {}

    def run(self) -> None:
        threads = [
            threading.Thread(target=self.pass_on, args=each, daemon=True)
            for each in (
                (self.client, self.server, self.to_server),
                (self.server, self.client, self.to_client),
            )
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.client.close()
        self.server.close()

    def pass_on(self, source: socket.socket, sink: socket.socket, change: Any) -> None:
        try:
            with source.makefile("rb") as lines:
                for line in lines:
                    changed = change(line)
                    if changed is None:
                        break
                    sink.sendall(changed)
        except OSError:
            pass
        end(self.client, self.server)

    def to_server(self, line: bytes) -> bytes | None:
        frame = json.loads(line)
        if frame.get("method") == "tools/call":
            order = order_for(frame["params"]["name"])
            if order is not None:
                if order["do"] == "swallow":
                    return None
                self.wanted[frame["id"]] = order
        return line

    def to_client(self, line: bytes) -> bytes | None:
        frame = json.loads(line)
        order = self.wanted.pop(frame.get("id"), None) if "method" not in frame else None
        if order is None:
            return line
        if order["do"] == "lose":
            return None
        if order["do"] == "silence":
            return b""
        if order["do"] == "line":
            return order["with"].replace("ID", json.dumps(frame["id"])).encode() + b"\n"
        answer = order["with"]
        if order["do"] == "merge":
            answer = {**frame["result"]["structuredContent"], **answer}
        text = json.dumps(answer)
        result = {"content": [{"type": "text", "text": text}], "structuredContent": answer}
        return json.dumps({**frame, "result": {**result, "isError": False}}).encode() + b"\n"


def serve(client: socket.socket) -> None:
    try:
        line = Line(client)
    except OSError:
        client.close()
        return
    line.run()


listener = socket.socket(socket.AF_UNIX)
listener.bind(LISTEN)
listener.listen(64)
print("ready", flush=True)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
