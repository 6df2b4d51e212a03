"""A socket between a command and its server: everything passes, and is counted."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Relay:
    """What passed."""

    path: Path
    #: Names of the tools that were called, in order.
    calls: list[str] = field(default_factory=list[str])
    #: What the server said.
    answer_bytes: int = 0


@contextmanager
def relay(path: Path, server: Path) -> Generator[Relay]:
    """Listen at `path`, and pass every connection on to `server`, one at a time."""
    seen = Relay(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, server, seen), daemon=True)
        thread.start()
        yield seen
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(30)


def _serve(listener: socket.socket, server: Path, seen: Relay) -> None:
    while True:
        try:
            near = listener.accept()[0]
        except OSError:
            return
        with near, socket.socket(socket.AF_UNIX) as far:
            far.connect(str(server))
            back = threading.Thread(target=_answers, args=(far, near, seen))
            back.start()
            with near.makefile("rb") as asked:
                for line in asked:
                    message = json.loads(line)
                    if message.get("method") == "tools/call":
                        seen.calls.append(message["params"]["name"])
                    far.sendall(line)
            far.shutdown(socket.SHUT_WR)
            back.join(30)


def _answers(far: socket.socket, near: socket.socket, seen: Relay) -> None:
    try:
        while data := far.recv(65536):
            seen.answer_bytes += len(data)
            near.sendall(data)
    except OSError:
        return  # the command has gone
