"""The standard output of a run, read as it grows: what its program says of itself, while it runs.

Each run has one `Stream`, owned by whoever drives the run. It keeps nothing on the disk that it needs: a
later life of ours reads the output again from its beginning, and says the same.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from aiagent_coordinator.logs.blocks import open_raw, tick_of
from aiagent_coordinator.logs.record import TICK_ROW, Tick, TickReader
from aiagent_coordinator.pipeline.activity import Activity
from aiagent_coordinator.pipeline.steps import Steps
from aiagent_coordinator.providers.dialects import reader_of
from aiagent_coordinator.providers.digest import MAX_ACTIVITY_CHARS, Digest
from aiagent_coordinator.providers.events import PLAIN, Event, PassedOver
from aiagent_coordinator.redaction import Masker, printable
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Says in a run's folder what its output is written in, for who reads along.
DIALECT_FILE = "dialect"
#: Read at one look while the run goes on: a flood is caught up with step by step.
LOOK_BYTES = 4 * 1024 * 1024
#: Read at the end at most; what one that printed more says is between is left out.
END_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_TICKS_AT_ONCE = 2048


class Stream:
    """Follows one run's output. Reading blocks: it is done in a worker thread, one look at a time."""

    def __init__(
        self,
        folder: Path,
        dialect: str,
        masker: Masker,
        *,
        backend: str,
        end_bytes: int = END_BYTES,
    ) -> None:
        self.digest = Digest()
        #: Whether the output says anything that is read at all.
        self.is_telling = dialect != PLAIN
        self._folder = folder
        self._masker = masker
        self._end_bytes = end_bytes
        self._reader = reader_of(dialect)
        self._offset = 0
        self._ticks = TickReader()
        self._tick_offset = 0
        #: Moments that are not read up to yet, the oldest first.
        self._due: deque[Tick] = deque()
        self._last: Tick | None = None
        self._is_over = False
        self._steps = Steps(folder, masker) if self.is_telling else None
        self._activity = Activity(folder, masker, backend=backend) if self.is_telling else None

    def has_more(self) -> bool:
        """Whether something was printed that is not read yet. Asks for a size, and reads nothing."""
        return self.is_telling and not self._is_over and _size(self._folder / "out") > self._offset

    async def look(self) -> bool:
        """Read what is new, at most `LOOK_BYTES`; False where there was nothing to read."""
        if not self.has_more():
            return False
        return await anyio.to_thread.run_sync(partial(self._read, LOOK_BYTES, is_ended=False))

    def finish(self) -> Digest:
        """Read the rest: nothing is written any more. Blocks. Again, it changes nothing."""
        if self._is_over or not self.is_telling:
            return self.digest
        left = _size(self._folder / "out") - self._offset
        if left > self._end_bytes:
            self._skip(left - self._end_bytes)
        self._read(left, is_ended=True)
        self._take(self._reader.finish(), self._last or tick_of(self._folder))
        self._is_over = True
        self._write(at_end=True)
        return self.digest

    def stage(self, words: str, at_ns: int) -> None:
        """Note a stage of the run in its readable log."""
        if self._activity is not None:
            self._activity.stage(words, at_ns)

    def live(self) -> dict[str, Any]:
        """What is known by now, as it goes over the wire; masked, and harmless to a terminal."""
        digest = self.digest
        told: dict[str, Any] = {
            "activity": self.clean(digest.activity),
            "counts": {
                "tool_calls": digest.tool_calls,
                "tool_errors": digest.tool_errors,
                "turns": digest.turns,
                "retries": digest.retries,
            },
        }
        if digest.context is not None:
            told["context"] = {"used": digest.context.used, "limit": digest.context.limit}
        if digest.usage is not None:
            told["usage"] = digest.usage.as_json()
        if digest.compactions:
            told["compactions"] = digest.compactions
            told["compacted"] = [self.clean(text) for text in digest.last_compactions]
        if digest.limits:
            told["limits"] = [
                {
                    "window": limit.window,
                    "status": limit.status,
                    "used": limit.used,
                    "resets_at": limit.resets_at,
                }
                for limit in digest.limits.values()
            ]
        return told

    def mask(self, text: str) -> str:
        """A text of the program without secrets and terminal control."""
        return printable(self._masker.mask_text(text))

    def clean(self, text: str) -> str:
        """A text of the program in one short line that may be shown."""
        shown = " ".join(self.mask(text).split())
        return shown[:MAX_ACTIVITY_CHARS]

    def _read(self, most_bytes: int, *, is_ended: bool) -> bool:
        """Read up to the last moment that is known; at the end, everything."""
        file = open_raw(self._folder / "out")
        if file is None:
            return False
        begun = self._offset
        with file:
            size = os.fstat(file.fileno()).st_size
            self._offset = min(self._offset, size)
            file.seek(self._offset)
            self._more_ticks()
            while self._offset - begun < most_bytes:
                target, tick = self._next(size, is_ended=is_ended)
                if tick is None:
                    break
                room = min(_CHUNK_BYTES, target - self._offset, most_bytes - self._offset + begun)
                chunk = file.read(room)
                if not chunk:
                    break
                self._offset += len(chunk)
                self._take(self._reader.feed(chunk), tick)
        self._write(at_end=False)
        return self._offset > begun

    def _next(self, size: int, *, is_ended: bool) -> tuple[int, Tick | None]:
        """Up to where the next bytes have one time, and which."""
        while True:
            while self._due and min(self._due[0].out_bytes, size) <= self._offset:
                self._last = self._due.popleft()
            if self._due:
                return min(self._due[0].out_bytes, size), self._due[0]
            if not self._more_ticks():
                return size, (self._last or tick_of(self._folder)) if is_ended else None

    def _more_ticks(self) -> bool:
        """Take the next moments at which the shim looked; False when there are none yet."""
        try:
            with (self._folder / "ticks").open("rb") as file:
                file.seek(self._tick_offset)
                rows = file.read(TICK_ROW.size * _TICKS_AT_ONCE)
        except OSError:
            return False
        whole = len(rows) // TICK_ROW.size * TICK_ROW.size
        self._tick_offset += whole
        self._due += self._ticks.read(rows[:whole])
        return whole > 0

    def _skip(self, size_bytes: int) -> None:
        """Leave something out; the line that is cut by it is no JSON, or none that is complete."""
        tick = self._last or tick_of(self._folder)
        self._take([*self._reader.feed(b"\n"), PassedOver(size_bytes)], tick)
        self._offset += size_bytes

    def _take(self, events: Iterable[Event], tick: Tick) -> None:
        for event in events:
            self.digest.take(event)
            if self._steps is not None and self._activity is not None:
                self._steps.take(event, tick.wall_ns)
                self._activity.take(event, tick.wall_ns)

    def _write(self, *, at_end: bool) -> None:
        if self._steps is None or self._activity is None:
            return
        try:
            (self._steps.finish if at_end else self._steps.flush)()
            (self._activity.finish if at_end else self._activity.flush)()
        except OSError as error:
            # derived, and can be written again from the raw output: no run ends over it
            log_event(
                logger,
                logging.WARNING,
                "run.failed",
                "what the run does could not be written down",
                run_id=self._folder.name,
                error=str(error),
            )


def _size(path: Path) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size  # noqa: PTH116 - one call a second a run
    except OSError:
        return 0
