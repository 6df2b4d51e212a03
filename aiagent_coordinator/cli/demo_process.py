"""Server and loop of the demo: the default command as an own program, ended whatever happens."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiagent_coordinator import paths
from aiagent_coordinator.cli.connect import Place, board
from aiagent_coordinator.errors import CoordinatorError, UnavailableError
from aiagent_coordinator.messages import text
from aiagent_coordinator.wire import lockfile

#: Importing everything takes a second or two, on a loaded machine more.
READY_SECONDS = 30.0
#: Ending takes a fraction of a second; with agents to kill, their grace.
STOP_SECONDS = 20.0
POLL_SECONDS = 0.05
#: Lines of the log that are shown when the server did not start.
TAIL_LINES = 5


@dataclass(frozen=True)
class Daemon:
    """A default command of ours: its pid, and the end of the pipe whose closing ends it."""

    pid: int
    lifeline: int


def start(config: Path, log: Path, more: Mapping[str, str] | None = None) -> Daemon:
    """Start the default command as its own program, in its own process group.

    However we end, it ends too, with its agents.

    Args:
        config: Its configuration.
        log: Where its output goes.
        more: Variables that it gets in addition.
    """
    words = [sys.executable, "-P", "-m", "aiagent_coordinator", "--config", str(config)]
    words += ["--until-stdin-closes"]
    # settings of the user's own coordinator are none of the demo's
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AIAGENT_COORDINATOR_")
    } | dict(more or {})
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    theirs, ours = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        words,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, theirs, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        # Ctrl-C is for the demo, which then stops this in order
        setpgroup=0,
    )
    os.close(theirs)
    return Daemon(pid, ours)


def wait_ready(daemon: Daemon, place: Place, log: Path) -> None:
    """Wait until the server answers.

    Raises:
        CoordinatorError: it ended, or did not answer in time; the hint is the end of its log.
    """
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            with board(place) as client:
                client.call("get_status", {})
        except UnavailableError:
            pass
        else:
            return
        ended, status = os.waitpid(daemon.pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            raise CoordinatorError(text("demo.ended", status=code), hint=_tail(log))
        if time.monotonic() > deadline:
            message = text("demo.not_ready", seconds=f"{READY_SECONDS:g}")
            raise CoordinatorError(message, hint=_tail(log))
        time.sleep(POLL_SECONDS)


def _tail(log: Path) -> str:
    try:
        return " | ".join(log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:])
    except OSError:
        return ""


def stop(daemon: Daemon, place: Place, *, kill: bool) -> None:
    """End server and loop, and every agent when it did not go well; bounded whatever happens."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _send(daemon.pid, signal.SIGUSR1 if kill else signal.SIGTERM)
        if not _reaped(daemon.pid, STOP_SECONDS):
            _send(daemon.pid, signal.SIGKILL)
            _reaped(daemon.pid, STOP_SECONDS)
        os.close(daemon.lifeline)
        _kill_runs(place.state_dir)
        door = paths.door_of(place.socket)
        for leftover in (*paths.pointer_files(place.config), place.socket, door):
            leftover.unlink(missing_ok=True)
        with suppress(OSError):
            door.parent.rmdir()
    finally:
        signal.signal(signal.SIGINT, before)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _reaped(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        time.sleep(POLL_SECONDS)
    return False


def _kill_runs(state: paths.StateDir) -> None:
    """Tell the shim of every run that still lives to kill its tree: for a loop that could not."""
    folders = list(state.runs.iterdir()) if state.runs.is_dir() else []
    deadline = time.monotonic() + STOP_SECONDS
    for folder in folders:
        while lockfile.is_held(str(folder / "lock")) and time.monotonic() < deadline:
            try:
                control = os.open(folder / "ctl", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                pass
            else:
                os.write(control, b"K")
                os.close(control)
            time.sleep(POLL_SECONDS)
