"""What the program of a run says while it works, as frames for who reads along.

Frames are made only of runs that somebody follows or reads, from the end of their output on. Short ones:
the steps in the run's folder have more, and the output has all.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiagent_coordinator.logs.blocks import open_raw
from aiagent_coordinator.pipeline.steps import cut
from aiagent_coordinator.pipeline.stream import DIALECT_FILE
from aiagent_coordinator.providers.dialects import reader_of
from aiagent_coordinator.providers.events import (
    PLAIN,
    Event,
    Result,
    Text,
    ToolCall,
    ToolDelta,
    ToolResult,
    Used,
)
from aiagent_coordinator.redaction import printable

if TYPE_CHECKING:
    from aiagent_coordinator.paths import StateDir

#: Of each text.
MAX_TEXT_BYTES = 2 * 1024
#: Frames of one run that are kept for who asks.
KEPT = 200
#: Where who comes later begins: so much before the end.
TAIL_BYTES = 64 * 1024
#: Read at one look; of a flood only the end is shown.
LOOK_BYTES = 1024 * 1024


class Frames:
    """The frames of those runs that somebody follows. Blocks; may be used from several threads."""

    def __init__(self, state: StateDir | None, mask: Callable[[str], str]) -> None:
        self._state = state
        self._mask = mask
        self._followed: dict[str, _Followed] = {}
        self._lock = threading.Lock()
        #: How many were ever made.
        self.built = 0

    def follow(self, runs: Iterable[str]) -> list[str]:
        """Look at these runs, and forget all others; gives those that have new frames."""
        if self._state is None:
            return []
        with self._lock:
            before = self._followed
            self._followed = {run: before.get(run) or self._begin(run) for run in runs}
            return [run for run, one in self._followed.items() if self._look(one)]

    def read(self, run: str) -> list[dict[str, Any]]:
        """The last frames of a run, the oldest first."""
        if self._state is None:
            return []
        with self._lock:
            one = self._followed.get(run) or self._begin(run)
            self._look(one)
            return list(one.frames)

    def _begin(self, run: str) -> _Followed:
        state = self._state
        return _Followed(state.run(run) if state else Path("/nonexistent"))

    def _look(self, one: _Followed) -> bool:
        made = [frame for event in one.read() if (frame := self._frame(event)) is not None]
        for frame in made:
            one.seq += 1
            one.frames.append({"seq": one.seq, **frame})
        self.built += len(made)
        return bool(made)

    def _frame(self, event: Event) -> dict[str, Any] | None:
        match event:
            case ToolCall():
                given = event.arguments
                text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
                told = self._text("arguments", text)
                return {"kind": "tool_use", "id": event.id, "name": event.name, **told}
            case ToolDelta():
                return {"kind": "tool_use_delta", "id": event.id, **self._text("text", event.text)}
            case Text():
                return {"kind": "text", **self._text("text", event.text)}
            case ToolResult():
                told = self._text("text", event.text)
                return {"kind": "tool_result", "id": event.id, "is_error": event.is_error, **told}
            case Used() if not event.is_total and event.fresh + event.cache > 0:
                read = event.fresh + event.cache
                return {"kind": "prompt_progress", "processed": read, "cache": event.cache}
            case Result():
                told = self._text("text", event.text or "")
                return {"kind": "done", "is_error": event.is_error, **told}
            case _:
                return None

    def _text(self, key: str, text: str) -> dict[str, Any]:
        shown, is_cut = cut(printable(self._mask(text)), MAX_TEXT_BYTES)
        return {key: shown, "truncated": is_cut}


class _Followed:
    """One run's output, from near its end on."""

    def __init__(self, folder: Path) -> None:
        self._out = folder / "out"
        try:
            dialect = (folder / DIALECT_FILE).read_text("ascii").strip()
        except (OSError, ValueError):
            dialect = PLAIN
        self._reader = reader_of(dialect)
        self._is_plain = dialect == PLAIN
        self._offset: int | None = None
        self.frames: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.seq = 0

    def read(self) -> list[Event]:
        """The events since the last look."""
        file = None if self._is_plain else open_raw(self._out)
        if file is None:
            return []
        events: list[Event] = []
        with file:
            size = os.fstat(file.fileno()).st_size
            if self._offset is None:
                self._offset = max(0, size - TAIL_BYTES)
            if size - self._offset > LOOK_BYTES:
                # the line that is cut by this is no JSON any more
                events += self._reader.feed(b"\n")
                self._offset = size - LOOK_BYTES
            file.seek(self._offset)
            data = file.read(size - self._offset) if size > self._offset else b""
        self._offset += len(data)
        return [*events, *self._reader.feed(data)]
