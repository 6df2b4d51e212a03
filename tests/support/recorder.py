"""A socket between programs and their server: every line passes, and is kept with what answered it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Exchange:
    """A request and the line that answered it."""

    asked: dict[str, Any]
    answer: bytes
    #: The connection's number.
    connection: int

    @property
    def tool(self) -> str:
        return self.asked["params"]["name"]

    @property
    def value(self) -> Any:
        """What the text of the answer says."""
        return json.loads(json.loads(self.answer)["result"]["content"][0]["text"])


@dataclass
class Recorder:
    """What passed."""

    path: Path
    exchanges: list[Exchange] = field(default_factory=list[Exchange])

    def calls(self, tool: str, **arguments: object) -> list[Exchange]:
        """Answered calls of a tool with these arguments."""
        return [
            one
            for one in list(self.exchanges)
            if one.asked.get("method") == "tools/call"
            and one.tool == tool
            and arguments.items() <= one.asked["params"]["arguments"].items()
        ]


@contextmanager
def recorder(path: Path, server: Path) -> Generator[Recorder]:
    """Listen at `path`, and pass every connection on to `server`, all at once."""
    seen = Recorder(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(50)
        thread = threading.Thread(target=_accept, args=(listener, server, seen), daemon=True)
        thread.start()
        yield seen
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(30)


def _accept(listener: socket.socket, server: Path, seen: Recorder) -> None:
    number = 0
    while True:
        try:
            near = listener.accept()[0]
        except OSError:
            return
        number += 1
        threading.Thread(target=_pass, args=(near, server, seen, number), daemon=True).start()


def _pass(near: socket.socket, server: Path, seen: Recorder, number: int) -> None:
    asked: dict[object, dict[str, Any]] = {}
    with near, socket.socket(socket.AF_UNIX) as far:
        try:
            far.connect(str(server))
        except OSError:
            return
        args = (far, near, asked, seen, number)
        back = threading.Thread(target=_answers, args=args, daemon=True)
        back.start()
        with suppress(OSError), near.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "id" in message:
                    asked[message["id"]] = message
                far.sendall(line)
        with suppress(OSError):
            far.shutdown(socket.SHUT_WR)
        back.join(30)


def _answers(
    far: socket.socket,
    near: socket.socket,
    asked: dict[object, dict[str, Any]],
    seen: Recorder,
    number: int,
) -> None:
    with suppress(OSError), far.makefile("rb") as lines:
        for line in lines:
            request = asked.pop(json.loads(line).get("id"), None)
            if request is not None:
                seen.exchanges.append(Exchange(request, line, number))
            near.sendall(line)
