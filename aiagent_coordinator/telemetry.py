"""Our own log: one line per change of state, for people or as JSON, masked, never in anybody's way.

The keys of a line are a published contract: `ts`, `level`, `event`, `message`, then the fields of the
event. What agents print is no part of it; see `logs`.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal, Self, TextIO, TypeAlias, cast

from aiagent_coordinator.characters import visible

LogFormat: TypeAlias = Literal["text", "json"]
Mask: TypeAlias = Callable[[str], str]

#: The parent of every logger of ours.
ROOT = "aiagent_coordinator"
#: Lines that may wait for a reader that does not read; later ones are counted and dropped.
MAX_WAITING = 10_000
#: How long `close` waits for the last lines to leave.
CLOSE_SECONDS = 1.0
LEVELS: dict[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
_LEVEL_NAMES = {
    logging.DEBUG: "DEBUG",
    logging.INFO: "INFO",
    logging.WARNING: "WARN",
    logging.ERROR: "ERROR",
    logging.CRITICAL: "ERROR",
}
_RESERVED = frozenset({"ts", "level", "event", "message", "exception"})


def log_event(
    logger: logging.Logger, level: int, event: str, message: str, **fields: object
) -> None:
    """Log something that happened.

    Args:
        logger: The caller's own.
        level: `logging.INFO` for a change that a person wants to see, and so on.
        event: A name that `events` publishes; a test reads the source for others.
        message: A constant sentence; what varies goes into the fields.
        **fields: Ids and facts. None is left out. Never secrets.
    """
    if logger.isEnabledFor(level):
        extra = {"event": event, "fields": fields}
        # an exception being handled belongs to a line that somebody must act on
        failing = sys.exc_info()[1] if level >= logging.ERROR else None
        logger.log(level, message, extra=extra, exc_info=failing)


class _Formatter(logging.Formatter):
    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def _facts(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = getattr(record, "fields", {})
        facts: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": _LEVEL_NAMES.get(record.levelno, record.levelname),
            "event": getattr(record, "event", record.name),
            "message": record.getMessage(),
        }
        for key, value in fields.items():
            if value is not None:
                facts[f"{key}_" if key in _RESERVED else key] = value
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return {key: self._masked(value) for key, value in facts.items()}

    def _masked(self, value: object) -> object:
        """Mask every text inside, before anything is quoted, which would hide a secret from the mask."""
        match value:
            case bool() | int() | float() | None:
                return value
            case dict():
                # isinstance cannot know what is inside
                pairs = cast("dict[object, object]", value)
                return {str(key): self._masked(item) for key, item in pairs.items()}
            case list() | tuple() | set() | frozenset():
                return [self._masked(item) for item in cast("Iterable[object]", value)]
            case _:
                return self._mask(str(value))


class JsonFormatter(_Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as one line."""
        return json.dumps(self._facts(record), ensure_ascii=False, separators=(",", ":"))


class TextFormatter(_Formatter):
    """One line for people: time, level unless INFO, what happened, facts. Tracebacks follow it."""

    def __init__(self, mask: Mask, zone: tzinfo = UTC) -> None:
        super().__init__(mask)
        self._zone = zone

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as one line."""
        facts = self._facts(record)
        level, event = facts.pop("level"), facts.pop("event")
        del facts["ts"]
        parts = [self._time(record.created)]
        if level != "INFO":
            parts.append(level)
        parts += [event, visible(facts.pop("message"))]
        traceback = facts.pop("exception", "")
        parts += [f"{key}={_word(value)}" for key, value in facts.items()]
        lines = [" ".join(parts), *(f"  {visible(line)}" for line in traceback.splitlines())]
        return "\n".join(lines)

    def _time(self, created: float) -> str:
        """The time of day, with what it differs from UTC."""
        at = datetime.fromtimestamp(created, self._zone)
        return f"{at:%H:%M:%S}Z" if self._zone is UTC else f"{at:%H:%M:%S%z}"


def _word(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and (not text or any(mark in text for mark in " \"'=")):
        text = json.dumps(text, ensure_ascii=False)
    return visible(text)


class _Waiting(logging.Handler):
    """Puts records aside without ever waiting; the writer formats them in its own thread."""

    def __init__(self, waiting: queue.Queue[logging.LogRecord | None]) -> None:
        super().__init__()
        self._queue = waiting
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class Telemetry:
    """The log that `configure` set up; close it last."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter, level: int) -> None:
        self._stream = stream
        self._formatter = formatter
        self._waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_WAITING)
        self._handler = _Waiting(self._waiting)
        self._logger = logging.getLogger(ROOT)
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.addHandler(self._handler)
        self._logger.setLevel(level)
        self._logger.propagate = False
        # a stream nobody reads blocks the write: only this thread may wait there, and not at exit
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    @property
    def dropped(self) -> int:
        """Lines that were lost because nobody read."""
        return self._handler.dropped

    def close(self) -> None:
        """Write what waits, for at most a second, and restore what was before. Once is enough."""
        self._logger.removeHandler(self._handler)
        self._logger.setLevel(self._before[0])
        self._logger.propagate = self._before[1]
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._writer.join(CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        while (record := self._waiting.get()) is not None:
            try:
                self._stream.write(self._formatter.format(record) + "\n")
                if self._waiting.empty():
                    self._stream.flush()
            except Exception:  # noqa: BLE001, S112 - a line that cannot be written stops nothing
                continue


def set_level(level: str) -> None:
    """Log from another level on, from now on.

    Args:
        level: A key of `LEVELS`.
    """
    logging.getLogger(ROOT).setLevel(LEVELS[level])


def configure(
    log_format: LogFormat = "text",
    level: str = "info",
    *,
    mask: Mask = str,
    stream: TextIO | None = None,
    zone: tzinfo = UTC,
) -> Telemetry:
    """Send the log of this process to a stream (stderr when None).

    Args:
        log_format: Lines for people, or JSON.
        level: A key of `LEVELS`.
        mask: Takes secrets out of a text; called in the writing thread.
        stream: Where to.
        zone: The time zone of lines for people; JSON is UTC.
    """
    formatter = JsonFormatter(mask) if log_format == "json" else TextFormatter(mask, zone)
    return Telemetry(stream or sys.stderr, formatter, LEVELS[level])
