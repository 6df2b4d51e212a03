"""What drivers hear and say: words on standard input, events on standard output. Standard library only.

A word is a line of JSON: `id`, `kind` (`message` or `interrupt`) and `text`. That its CLI took one up is
said by a line of its own, `{"event":"heard","id":…}`: what is not said there was not heard.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, cast

Json = dict[str, Any]
#: More than the board takes as one message.
MAX_WORD_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Word:
    """Something a person says to a running agent."""

    id: str
    text: str
    #: What it does now is to be broken off first.
    interrupts: bool = False


class Lines:
    """Whole lines of what arrives in pieces; one that grows beyond all measure is dropped."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._rest = bytearray()
        self._skips = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take a piece; give the lines that are complete now, without their ends."""
        *whole, rest = data.split(b"\n")
        found: list[bytes] = []
        for line in whole:
            if not self._skips and len(self._rest) + len(line) <= self._most:
                found.append(bytes(self._rest) + line)
            self._rest.clear()
            self._skips = False
        if self._skips or len(self._rest) + len(rest) > self._most:
            self._rest.clear()
            self._skips = True
        else:
            self._rest += rest
        return found


def read_object(line: bytes) -> Json | None:
    """The JSON object that a line holds; None when it holds none."""
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("Json", found) if isinstance(found, dict) else None


def read_word(line: bytes) -> Word | None:
    """The word that a line holds; None when it is none."""
    found = read_object(line)
    if found is None:
        return None
    ident, text = found.get("id"), found.get("text")
    if not isinstance(ident, str) or not isinstance(text, str):
        return None
    return Word(ident, text, found.get("kind") == "interrupt")


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything; a full disk or a closed pipe ends this program with its own words."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def say(event: Json) -> None:
    """Print one event."""
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    write_all(1, text.encode("utf-8", "replace") + b"\n")


def say_heard(ident: str) -> None:
    """Print that a word reached the CLI."""
    say({"event": "heard", "id": ident})
