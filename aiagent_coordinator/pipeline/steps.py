"""The tool calls of a run, each with its result, one JSON object a line in the run's folder; masked.

They are derived: the raw output is the truth, and they can be written again from it. No run ends over them.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiagent_coordinator.providers.events import Event, ToolCall, ToolResult
from aiagent_coordinator.redaction import Masker, printable

#: The file, in a run's folder.
STEPS_FILE = "steps.jsonl"
#: Kept of the arguments of a call, and of its result.
MAX_ARGUMENTS_BYTES = 8 * 1024
MAX_RESULT_BYTES = 16 * 1024
#: Calls without a result that are remembered.
MAX_OPEN = 256
#: What each file may hold; then it says that it ends here.
MAX_FILE_BYTES = 64 * 1024 * 1024


def cut(text: str, most_bytes: int) -> tuple[str, bool]:
    """The beginning of a text that fits, and whether something is missing."""
    data = text.encode("utf-8", "replace")
    if len(data) <= most_bytes:
        return text, False
    return data[:most_bytes].decode("utf-8", "ignore"), True


@dataclass
class _Open:
    """A call that has no result yet."""

    number: int
    name: str
    arguments: str
    is_cut: bool
    at_ns: int


class Appended:
    """A file that only grows, up to a size. Failing to write it is no failure of the run."""

    def __init__(self, path: Path, end: str, most_bytes: int = MAX_FILE_BYTES) -> None:
        self._path = path
        self._most = most_bytes
        self._end = end
        self._size = 0
        self._lines: list[str] = []
        self._is_over = False
        path.unlink(missing_ok=True)

    def add(self, line: str) -> None:
        """Add a line; it is written with the others at `flush`."""
        if self._is_over:
            return
        self._size += len(line) + 1
        if self._size > self._most:
            self._is_over = True
            line = self._end
        self._lines.append(line)

    def flush(self) -> None:
        """Write what was added.

        Raises:
            OSError: it cannot be written.
        """
        if not self._lines:
            return
        data = ("\n".join(self._lines) + "\n").encode("utf-8", "replace")
        self._lines = []
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with os.fdopen(os.open(self._path, flags, 0o600), "ab") as file:
            file.write(data)


class Steps:
    """The tool calls of a run, each with its result, as `steps.jsonl`."""

    def __init__(self, folder: Path, masker: Masker) -> None:
        self._file = Appended(folder / STEPS_FILE, json.dumps({"cut": True}))
        self._masker = masker
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._number = 0

    def take(self, event: Event, at_ns: int) -> None:
        """Note a call, or write it with its result. The instant is ns since 1970."""
        if isinstance(event, ToolCall):
            self._number += 1
            given = event.arguments
            text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
            kept, is_cut = cut(self._clean(text), MAX_ARGUMENTS_BYTES)
            # a text was cut when it was read
            is_cut = is_cut or isinstance(given, str)
            self._open[event.id] = _Open(self._number, event.name, kept, is_cut, at_ns)
            if len(self._open) > MAX_OPEN:
                self._write(*self._open.popitem(last=False), None, None)
        elif isinstance(event, ToolResult):
            begun = self._open.pop(event.id, None)
            if begun is not None:
                self._write(event.id, begun, event, at_ns)

    def finish(self) -> None:
        """Write the calls that never got a result."""
        while self._open:
            self._write(*self._open.popitem(last=False), None, None)
        self.flush()

    def flush(self) -> None:
        """Write what there is.

        Raises:
            OSError: it cannot be written.
        """
        self._file.flush()

    def _write(self, call: str, begun: _Open, result: ToolResult | None, at_ns: int | None) -> None:
        text, is_cut = cut(self._clean(result.text), MAX_RESULT_BYTES) if result else (None, False)
        line: dict[str, Any] = {
            "number": begun.number,
            "id": call,
            "tool": begun.name,
            "at": stamp(begun.at_ns),
            "arguments": begun.arguments,
            "arguments_truncated": begun.is_cut,
            "result": text,
            "result_truncated": is_cut,
            "is_error": result.is_error if result else None,
            "duration_ms": _duration(begun, result, at_ns),
        }
        self._file.add(json.dumps(line, ensure_ascii=False))

    def _clean(self, text: str) -> str:
        return printable(self._masker.mask_text(text))


def _duration(begun: _Open, result: ToolResult | None, at_ns: int | None) -> int | None:
    """As the program tells, else as it was seen; milliseconds."""
    if result is None:
        return None
    if result.seconds is not None:
        return round(result.seconds * 1000)
    return None if at_ns is None else max(0, at_ns - begun.at_ns) // 1_000_000


def stamp(at_ns: int) -> str:
    """Nanoseconds since 1970 as ISO 8601 in UTC, to the millisecond."""
    instant = datetime.fromtimestamp(at_ns // 1_000_000 / 1000, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
