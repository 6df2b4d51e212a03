"""What a run did, line by line, for people, in the run's folder; masked.

It is derived: the raw output is the truth, and it can be written again from it. No run ends over it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

from aiagent_coordinator.logs.tail import read_tail
from aiagent_coordinator.pipeline.steps import MAX_OPEN, Appended, stamp
from aiagent_coordinator.providers.digest import describe, short_name, waiting
from aiagent_coordinator.providers.events import (
    Compaction,
    Event,
    Fault,
    Limit,
    PassedOver,
    Permission,
    Result,
    Retry,
    Started,
    Text,
    ToolCall,
    ToolResult,
    Used,
)
from aiagent_coordinator.redaction import Masker, printable

#: The file, in a run's folder.
ACTIVITY_FILE = "activity.log"
#: Shown of a text or a result.
PREVIEW_CHARS = 160


class Activity:
    """What a run did, line by line, for people, as `activity.log`."""

    def __init__(self, folder: Path, masker: Masker, *, backend: str) -> None:
        self._file = Appended(folder / ACTIVITY_FILE, "# cut here: it is too long")
        self._masker = masker
        self._backend = backend
        self._names: OrderedDict[str, str] = OrderedDict()
        self._text: list[str] = []
        self._text_at = 0
        self._text_chars = 0

    def take(self, event: Event, at_ns: int) -> None:
        """Say what happened. The instant is ns since 1970."""
        if isinstance(event, Text):
            # a program may tell its model's words piece by piece
            if self._text_chars < 4 * PREVIEW_CHARS:
                self._text.append(event.text)
            self._text_at = self._text_at or at_ns
            self._text_chars += len(event.text)
            return
        said = self._said(event)
        if said is None:
            return
        self._end_text()
        self._line(at_ns, said)

    def stage(self, words: str, at_ns: int) -> None:
        """Say that a stage of the run began or ended."""
        self._end_text()
        self._line(at_ns, words)

    def flush(self) -> None:
        """Write what there is.

        Raises:
            OSError: it cannot be written.
        """
        self._file.flush()

    def finish(self) -> None:
        """Write the rest.

        Raises:
            OSError: it cannot be written.
        """
        self._end_text()
        self.flush()

    def _end_text(self) -> None:
        if self._text_chars:
            words = self._preview("".join(self._text), self._text_chars)
            self._line(self._text_at, f"text    {words}")
        self._text, self._text_at, self._text_chars = [], 0, 0

    def _said(self, event: Event) -> str | None:
        if isinstance(event, ToolCall):
            self._names[event.id] = short_name(event.name)
            if len(self._names) > MAX_OPEN:
                self._names.popitem(last=False)
            return f"tool    {self._preview(describe(event.name, event.arguments))}"
        if isinstance(event, ToolResult):
            name = self._names.pop(event.id, "")
            how = "failed" if event.is_error else "ok"
            took = "" if event.seconds is None else f" in {event.seconds:.1f} s"
            return f"result  {name} {how}{took}: {self._preview(event.text)}"
        if isinstance(event, Started):
            return self._started(event)
        return _used(event) if isinstance(event, Used) else self._aside(event)

    def _aside(self, event: Event) -> str | None:
        match event:
            case Retry():
                return self._say("retry", waiting(event))
            case Limit():
                return self._say("limit", _limit(event))
            case Compaction():
                return self._say("context", f"shortened: {event.text or 'no details'}")
            case Fault():
                return self._say("error", event.text)
            case Permission():
                return self._say("leave", f"{event.decision}: {event.title}")
            case Result():
                words = "failed" if event.is_error else "done"
                return self._say("end", f"{words}: {event.text}" if event.text else words)
            case PassedOver():
                return self._say("skipped", f"{event.size_bytes} bytes are too much to be read")
            case _:
                return None

    def _started(self, event: Started) -> str:
        facts = [f"model {event.model}" if event.model else ""]
        facts += [f"{name} {status}" for name, status in (event.servers or {}).items()]
        return f"start   {self._preview(', '.join(fact for fact in facts if fact) or 'started')}"

    def _say(self, kind: str, words: str) -> str:
        return f"{kind:<7} {self._preview(words)}"

    def _preview(self, text: str, chars: int | None = None) -> str:
        whole = len(text) if chars is None else chars
        clean = " ".join(printable(self._masker.mask_text(text)).split())
        more = len(clean) > PREVIEW_CHARS or whole > len(text)
        return f"{clean[:PREVIEW_CHARS]}…" if more else clean

    def _line(self, at_ns: int, said: str) -> None:
        self._file.add(f"{stamp(at_ns)} [{self._backend}] {said}")


def add_activity(
    folder: Path, lines: list[str], masker: Masker, *, backend: str, at_ns: int
) -> None:
    """Add the last lines to a run's log for people; the same last line is added once.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / ACTIVITY_FILE
    if lines and lines[-1].encode() in read_tail(path, 1024):
        return
    data = "".join(
        f"{stamp(at_ns)} [{backend}] {printable(masker.mask_text(line))[: 4 * PREVIEW_CHARS]}\n"
        for line in lines
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "ab") as file:
        file.write(data.encode("utf-8", "replace"))


def _used(event: Used) -> str | None:
    if not (event.fresh or event.out or event.cache):
        return None
    kind = "total  " if event.is_total else "model  "
    cost = "" if event.cost is None else f", {event.cost:.4f} USD"
    return f"{kind} {event.fresh} in, {event.cache} cached, {event.out} out{cost}"


def _limit(event: Limit) -> str:
    used = "" if event.used is None else f", {event.used:.0%} used"
    until = f", until {event.resets_at}" if event.resets_at else ""
    return f"{event.window or 'limit'} {event.status}{used}{until}"
