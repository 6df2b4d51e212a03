"""What a run directory says about its command: read only, by whoever may read it.

The lock says whether something is alive, never a process number. What the files contain is not
trusted: every content gives one state.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiagent_coordinator.executors.base import ExitRecord, Hold, HoldState
from aiagent_coordinator.runs import ShimIdentity

#: The layout of a run directory that this version reads and writes.
FORMAT = b"1"
#: The record has 4096 bytes; twice that is read to notice that there is more.
RECORD_BYTES = 8192
#: Room for the shim's identity, taken with the lock so that a full disk cannot refuse it later.
LOCK_BYTES = 256
REASONS = frozenset({None, "spawn_failed", "not_started", "stopped", "killed", "oom"})
SPEC_BYTES = 4 * 1024 * 1024
#: Of the list of leftovers; the shim writes less.
LEFTOVERS_BYTES = 64 * 1024


def inspect(directory: Path) -> Hold:
    """Say what the directory says; see `HoldState`. Microseconds, no exceptions for contents."""
    return classify(directory, held=is_held(directory))


def classify(directory: Path, *, held: bool) -> Hold:
    """Say what the files say to somebody who knows whether the lock is held.

    Asked in that order, the files of a free lock no longer change.
    """
    version = read_plain(directory / "format", 64)
    if version is not None and version.strip() != FORMAT:
        return Hold(HoldState.FOREIGN_FORMAT, None, None, started=False)
    lock = read_plain(directory / "lock", LOCK_BYTES)
    shim = _shim_identity(lock)
    started = _exists(directory / "started") or _exists(directory / "started.tmp")
    record, bad = _read_record(directory, free=not held)
    if held:
        state = HoldState.HELD
    elif record:
        state = HoldState.RECORDED
    elif bad:
        state = HoldState.BAD_RECORD
    elif started:
        state = HoldState.LOST
    else:
        state = HoldState.NEVER_STARTED if lock is not None else HoldState.ABSENT
    leftovers = () if held else read_leftovers(directory)
    return Hold(state, shim, record, started, leftovers)


def read_leftovers(directory: Path) -> tuple[str, ...]:
    """What outlived the command, by its command lines."""
    text = read_plain(directory / "leftovers", LEFTOVERS_BYTES) or b""
    lines = [_parse_object(line) for line in text.splitlines()]
    return tuple(str(line["command"]) for line in lines if line and "command" in line)


def started_ticks(directory: Path) -> int:
    """When the first process of the command started, in start ticks; 0 when nobody can say."""
    for name in ("started", "lock"):
        found = _shim_identity(read_plain(directory / name, LOCK_BYTES))
        if found is not None:
            return found.start_ticks
    return 0


def kills_leftovers(directory: Path) -> bool:
    """Whether what the command leaves is to be ended; False where nobody can say."""
    found = _parse_object(read_plain(directory / "spec.json", SPEC_BYTES) or b"")
    return found is not None and found.get("kill_leftovers") is True


def main_process(directory: Path) -> ShimIdentity | None:
    """The command's first process, as its shim wrote it down; it leads the command's group."""
    return _shim_identity(read_plain(directory / "started", LOCK_BYTES))


def is_held(directory: Path) -> bool:
    """Whether the lock is held.

    Probed with a shared lock: observers do not see each other, only the shim's exclusive lock.
    """
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # Not by closing alone: a fork in another thread may hold a copy for a moment.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except OSError:
        # Also where locks do not work at all: nothing is ever started twice on a guess.
        return True
    finally:
        os.close(descriptor)
    return False


def read_plain(path: Path, limit: int) -> bytes | None:
    """Read at most `limit` bytes of a plain file; empty for what is none, None when there is nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return os.read(descriptor, limit)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _read_record(directory: Path, *, free: bool) -> tuple[ExitRecord | None, bool]:
    """The record, and whether there is one that cannot be read.

    What a shim was still writing counts once nobody can be writing any more, if it is whole.
    """
    text = read_plain(directory / "exit", RECORD_BYTES + 1)
    if text is not None:
        record = _parse_record(text)
        return record, record is None
    if free:
        text = read_plain(directory / "exit.tmp", RECORD_BYTES + 1)
        return (_parse_record(text) if text else None), False
    return None, False


def _parse_object(text: bytes) -> dict[str, Any] | None:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType] - JSON keys are str


def _parse_record(text: bytes) -> ExitRecord | None:
    """Read a record; None for anything that no shim of this format wrote."""
    if len(text) > RECORD_BYTES or not text.endswith(b"\n"):
        return None
    value = _parse_object(text)
    if value is None or value.get("v") != 1:
        return None
    try:
        record = ExitRecord(
            exit_code=_integer(value["exit_code"], 0, 255),
            signal=_integer(value["signal"], 1, 127),
            reason=_text(value["reason"]),
            error=_text(value["error"]),
            started_at=_instant(value["started_at_ns"]),
            ended_at=_instant(value["ended_at_ns"]),
            cpu_seconds=_seconds(value["cpu_seconds"]),
            peak_rss_kib=_integer(value["max_rss_kib"], 0, 2**63),
            stop=_text(value["stop"]),
        )
    except (KeyError, ValueError, OverflowError, OSError):
        return None
    ran = record.reason not in {"spawn_failed", "not_started"}
    told = (record.exit_code is not None) + (record.signal is not None)
    return record if record.reason in REASONS and told == int(ran) else None


def _integer(value: object, low: int, high: int) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        raise ValueError(value)
    return value


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(value)
    return value


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _instant(value: object) -> datetime | None:
    nanoseconds = _integer(value, 0, 2**63)
    return None if nanoseconds is None else datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def _shim_identity(text: bytes | None) -> ShimIdentity | None:
    value = _parse_object(text.rstrip(b"\0")) if text and text.rstrip(b" \n\0") else None
    if value is None or value.get("v") != 1:
        return None
    pid, ticks, boot = value.get("pid"), value.get("start_ticks"), value.get("boot_id")
    if type(pid) is not int or type(ticks) is not int or not isinstance(boot, str) or pid <= 1:
        return None
    return ShimIdentity(pid, ticks, boot)
