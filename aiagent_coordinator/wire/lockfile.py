"""Who owns a state directory: an flock held for life, and beside it a note that names the holder.

The lock, never the pid, says whether somebody lives; the note tells people whom to ask.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import Any, cast

from aiagent_coordinator.errors import AlreadyRunningError

#: How long the holder of a lock may take from having it to saying so.
NOTE_SECONDS = 1.0


def take(path: str, *, role: str, **facts: object) -> int:
    """Take the lock and write who holds it; the returned descriptor holds it until it is closed.

    The file stays when the holder is gone: removing it would let two holders lock two files.

    Raises:
        AlreadyRunningError: somebody else holds it; the message names the pid.
        OSError: the file cannot be made.
    """
    # who only looks at a lock starts nothing
    from aiagent_coordinator.wire.process import boot_id, start_ticks  # noqa: PLC0415

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        pid = _holder(path)
        raise AlreadyRunningError(
            f"process {pid} already runs the {role} of {os.path.dirname(path)}",
            hint="stop it with: aiagent-coordinator stop",
            pid=pid,
        ) from None
    note = {
        "pid": os.getpid(),
        "start_ticks": start_ticks(os.getpid()),
        "boot_id": boot_id(),
        "role": role,
        **facts,
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(note).encode() + b"\n", 0)
    return descriptor


def _holder(path: str) -> object:
    """Whose lock it is. One that took it this moment says so in the next: it is waited for, briefly."""
    from aiagent_coordinator.wire.process import start_ticks  # noqa: PLC0415 - as in `take`

    deadline = time.monotonic() + NOTE_SECONDS
    while True:
        note = read(path) or {}
        pid = note.get("pid")
        if isinstance(pid, int) and start_ticks(pid) == note.get("start_ticks"):
            return pid
        if time.monotonic() > deadline:
            return "unknown" if pid is None else pid
        time.sleep(0.01)


def read(path: str) -> dict[str, Any] | None:
    """Who wrote the lock file last, alive or not; None when there is no readable note."""
    try:
        with open(path, encoding="utf-8") as file:
            note: object = json.load(file)
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", note) if isinstance(note, dict) else None


def is_held(path: str) -> bool:
    """Whether somebody holds the lock now. Never takes it from a starting process for good."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A shared probe: two probes at once do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
