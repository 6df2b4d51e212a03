"""One command, run to its end within bounds; and how a process is told from a later one with its number.

Blocking: async code calls it in a thread. For git, detection and doctor, not for agents: those have a shim.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

#: Output kept per stream unless told otherwise; what comes after it is read and dropped.
MAX_OUTPUT_BYTES = 16 * 1024 * 1024
#: Between TERM and KILL of a command that took too long: git removes its lock files on TERM.
TERM_SECONDS = 1.0
#: How long a killed process may take to be reaped before we leave it to the system.
REAP_SECONDS = 5.0
#: How long the pipes are still read after the end; what it wrote is there at once.
DRAIN_SECONDS = 0.5
_CHUNK = 65536
#: Without pidfd the end is looked for this often.
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Completed:
    """How a bounded command ended. A negative return code is the signal that killed it."""

    returncode: int
    stdout: bytes
    stderr: bytes
    #: Whether output beyond the limit was dropped.
    truncated: bool = False


class TimedOut(Exception):  # noqa: N818 - reads as what happened: except process.TimedOut
    """The command took too long and was ended with its process group."""

    def __init__(self, argv: Sequence[str], timeout_seconds: float, so_far: Completed) -> None:
        super().__init__(f"{argv[0]} took longer than {timeout_seconds:g} s")
        self.argv = tuple(argv)
        self.timeout_seconds = timeout_seconds
        self.so_far = so_far


def run_bounded(
    argv: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    timeout_seconds: float,
    stdin: bytes = b"",
    max_output_bytes: int = MAX_OUTPUT_BYTES,
) -> Completed:
    """Run a command in its own session and return when the command itself has ended.

    Descendants that keep its pipes open do not delay the answer and are left alone,
    except on a time-out, which ends the whole process group: TERM, a second, KILL.

    Args:
        argv: The command; never passed to a shell.
        cwd: Its working directory; ours by default.
        env: Its whole environment; ours by default.
        timeout_seconds: Wall time it may take.
        stdin: What it reads.
        max_output_bytes: Bytes kept per stream; the rest is dropped and noted.

    Raises:
        OSError: it cannot be started.
        TimedOut: it took too long.
    """
    deadline = time.monotonic() + timeout_seconds
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with _Talk(process, stdin, max_output_bytes) as talk:
        try:
            if not talk.until_ended(deadline):
                _end_group(process)
                talk.drain()
                raise TimedOut(argv, timeout_seconds, talk.completed())
            talk.drain()
            return talk.completed()
        finally:
            if process.returncode is None:
                _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """TERM the group, wait, KILL it. The group's number is safe while its leader is not reaped."""
    _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + TERM_SECONDS
    while time.monotonic() < deadline and not _has_ended(process):
        time.sleep(_POLL_SECONDS)
    _signal_group(process, signal.SIGKILL)
    try:
        process.wait(REAP_SECONDS)
    except subprocess.TimeoutExpired:
        # Stuck in the kernel; its end is the system's business now.
        process.returncode = -signal.SIGKILL


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended, without reaping it where the system can tell."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


class _Talk:
    """Feeds and reads one process without ever blocking on a pipe."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, limit: int) -> None:
        self._process = process
        self._unsent = memoryview(stdin)
        self._limit = limit
        self._kept = {"out": bytearray(), "err": bytearray()}
        self._truncated = False
        self._selector = selectors.DefaultSelector()
        pipes = {"in": process.stdin, "out": process.stdout, "err": process.stderr}
        self._pipes = {name: pipe for name, pipe in pipes.items() if pipe is not None}
        for name, pipe in self._pipes.items():
            os.set_blocking(pipe.fileno(), False)
            events = selectors.EVENT_WRITE if name == "in" else selectors.EVENT_READ
            self._selector.register(pipe, events, name)
        self._pidfd: int | None = None
        try:
            self._pidfd = os.pidfd_open(process.pid)
            self._selector.register(self._pidfd, selectors.EVENT_READ, "end")
        except (AttributeError, OSError):
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        for name in tuple(self._pipes):
            self._close(name)

    def until_ended(self, deadline: float) -> bool:
        """Talk until the process itself ends; False when the time is over first."""
        while self._process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            wait = left if self._pidfd is not None else min(left, _POLL_SECONDS)
            for key, _ in self._selector.select(wait):
                self._serve(key.data)
        return True

    def drain(self) -> None:
        """Read what is in the pipes already; a descendant may keep them open for ever."""
        deadline = time.monotonic() + DRAIN_SECONDS
        for name in ("out", "err"):
            while name in self._pipes and time.monotonic() < deadline and self._read(name):
                pass

    def completed(self) -> Completed:
        """What is known of the process now."""
        out, err = (bytes(self._kept[name]) for name in ("out", "err"))
        return Completed(self._process.returncode, out, err, self._truncated)

    def _serve(self, name: str) -> None:
        if name == "in":
            self._write()
        elif name != "end" and self._read(name) == b"":
            self._selector.unregister(self._pipes[name])
            self._close(name)

    def _write(self) -> None:
        pipe = self._pipes["in"]
        try:
            self._unsent = self._unsent[os.write(pipe.fileno(), self._unsent[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent = memoryview(b"")
        if not self._unsent:
            self._selector.unregister(pipe)
            self._close("in")

    def _read(self, name: str) -> bytes | None:
        """Read a piece: empty at the end, None when nothing is there now."""
        try:
            piece = os.read(self._pipes[name].fileno(), _CHUNK)
        except BlockingIOError:
            return None
        room = max(0, self._limit - len(self._kept[name]))
        self._kept[name] += piece[:room]
        self._truncated = self._truncated or len(piece) > room
        return piece

    def _close(self, name: str) -> None:
        try:
            self._pipes.pop(name).close()
        except OSError:
            pass  # unsent input of a process that is gone


def start_ticks(pid: int) -> int | None:
    """When a process started, in the system's own unit; None when there is none of that number.

    With the pid and `boot_id` it names a process for good. Linux: clock ticks since boot, field 22
    of /proc/PID/stat. Elsewhere: seconds since 1970, from ps.
    """
    if sys.platform.startswith("linux"):
        fields = _stat_fields(pid)
        return int(fields[19]) if fields else None
    text = _ps(pid, "lstart=")
    if not text:
        return None
    return int(time.mktime(time.strptime(text, "%a %b %d %H:%M:%S %Y")))


def parent_pid(pid: int) -> int | None:
    """The parent of a process; None when there is none of that number."""
    if sys.platform.startswith("linux"):
        fields = _stat_fields(pid)
        return int(fields[1]) if fields else None
    text = _ps(pid, "ppid=")
    return int(text) if text else None


@cache
def boot_id() -> str:
    """What changes when the machine starts anew."""
    if sys.platform.startswith("linux"):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    done = run_bounded(["sysctl", "-n", "kern.boottime"], timeout_seconds=5.0)
    return done.stdout.decode("ascii", "replace").strip()


def _stat_fields(pid: int) -> list[bytes]:
    """What follows the name in /proc/PID/stat: the state, the parent, …; start ticks are at 19."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return []


def _ps(pid: int, column: str) -> str:
    env = {"LC_ALL": "C", "PATH": "/bin:/usr/bin"}
    done = run_bounded(["ps", "-o", column, "-p", str(pid)], env=env, timeout_seconds=5.0)
    return done.stdout.decode("ascii", "replace").strip()
