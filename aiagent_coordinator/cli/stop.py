"""`stop`: end the processes that hold a state directory, told by their locks."""

from __future__ import annotations

import math
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import click

from aiagent_coordinator.cli import options, output
from aiagent_coordinator.cli.connect import Place, locate
from aiagent_coordinator.errors import (
    ConflictError,
    CoordinatorError,
    ForbiddenError,
    StopTimeoutError,
    UnavailableError,
    ValidationError,
)
from aiagent_coordinator.messages import text
from aiagent_coordinator.wire import lockfile
from aiagent_coordinator.wire.process import boot_id, start_ticks

#: How long to wait when nobody says; ending takes a fraction of a second.
TIMEOUT_SECONDS = 30.0
#: How often locks are looked at; ending takes a fraction of a second.
POLL_SECONDS = 0.05
#: A process that has just taken its lock writes its note within this.
NOTE_SECONDS = 2.0


@dataclass(frozen=True)
class Holder:
    """A live process and the lock it holds."""

    pid: int
    lock: Path


@click.command(help=text("help.stop"))
@click.option("--kill", is_flag=True, help=text("help.option.kill"))
@click.option("--drain", is_flag=True, help=text("help.option.drain"))
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help=text("help.option.stop_timeout"),
)
@click.option("--then", type=click.Choice(("leave", "kill")), help=text("help.option.stop_then"))
@options.common
def stop(kill: bool, drain: bool, timeout: float | None, then: str | None) -> None:
    """Stop what runs for this configuration."""
    if kill and drain:
        raise ValidationError(text("stop.both"))
    if then and not (drain and timeout):
        raise ValidationError(text("stop.then"))
    place = locate(options.current())
    if drain and timeout:
        count = drain_until(place, timeout, kill=then == "kill")
    else:
        # agents take as long as they take
        seconds = timeout or (math.inf if drain else TIMEOUT_SECONDS)
        count = stop_holders(place, kill=kill, drain=drain, timeout_seconds=seconds)
    if not count:
        raise UnavailableError(text("stop.none", origin=place.origin))
    left = len(live_runs(place))
    if left == 1:
        output.result(text("stop.left_one"))
    else:
        output.result(text("stop.left" if left else "stop.left_none", count=left))


def drain_until(place: Place, seconds: float, *, kill: bool) -> int:
    """Let running agents end, at most so long; then name those that are left and stop all the same.

    Args:
        place: Whose.
        seconds: The limit.
        kill: End them at the limit; else they keep running.

    Raises:
        CoordinatorError: as `stop_holders`.
    """
    try:
        return stop_holders(place, kill=False, drain=True, timeout_seconds=seconds)
    except StopTimeoutError:
        left = live_runs(place)
    seconds_text = f"{seconds:g}"
    output.result(
        text("stop.limit" if left else "stop.limit_none", seconds=seconds_text, count=len(left))
    )
    for folder in left:
        output.result("  " + _told(folder))
    return stop_holders(place, kill=kill, timeout_seconds=TIMEOUT_SECONDS)


def _told(folder: Path) -> str:
    """Whose run this is, as far as its folder says."""
    from aiagent_coordinator.pipeline.copies import read_copy

    record = read_copy(folder)
    if record is None:
        return folder.name
    return text(
        "stop.limit_run",
        run=record.run_id,
        agent=record.agent_id,
        project=record.project_id,
        task=record.claim.get("task", {}).get("id", ""),
    )


def stop_holders(place: Place, *, kill: bool, timeout_seconds: float, drain: bool = False) -> int:
    """Stop the loop, then the server, and wait until their locks are free; count the processes.

    Args:
        place: Whose.
        kill: End the runs too.
        timeout_seconds: How long to wait.
        drain: Let the loop start nothing more and end when its last run is over.

    Raises:
        CoordinatorError: one cannot be told, signalled, or does not end in time.
    """
    deadline = time.monotonic() + timeout_seconds
    stopped: set[int] = set()
    # the loop first: its last reports still find the server
    for lock in (place.state_dir.coordinator_lock, place.state_dir.server_lock):
        holder = find_holder(lock)
        if holder is None:
            continue
        if holder.pid not in stopped:
            # only a loop has agents whose processes it can end
            loop = lock == place.state_dir.coordinator_lock
            number = signal.SIGTERM
            if loop and (kill or drain):
                number = signal.SIGUSR1 if kill else signal.SIGUSR2
            _signal(holder, number)
            stopped.add(holder.pid)
        _wait(holder, deadline, timeout_seconds, kill=kill)
    return len(stopped)


def find_holder(lock: Path) -> Holder | None:
    """The process that holds a lock, None when it is free.

    Raises:
        ConflictError: it is held, and its note names no process that can be the holder.
    """
    deadline = time.monotonic() + NOTE_SECONDS
    error: CoordinatorError | None = None
    while lockfile.is_held(str(lock)):
        try:
            return _read_holder(lock)
        except ConflictError as unclear:
            error = unclear
        if time.monotonic() > deadline:
            raise error
        time.sleep(POLL_SECONDS)
    return None


def live_runs(place: Place) -> list[Path]:
    """The folders of runs that have a process, oldest first: each holds the lock of its folder."""
    try:
        folders = sorted(place.state_dir.runs.iterdir())
    except OSError:
        return []
    return [folder for folder in folders if lockfile.is_held(str(folder / "lock"))]


def _read_holder(lock: Path) -> Holder:
    note = lockfile.read(str(lock)) or {}
    pid = note.get("pid")
    if not isinstance(pid, int) or pid <= 1:
        raise ConflictError(
            text("stop.unclear", path=lock), hint=text("stop.unclear_hint", path=lock)
        )
    # after a crash the note may be older than the process that now has its number
    if (note.get("start_ticks"), note.get("boot_id")) != (start_ticks(pid), boot_id()):
        raise ConflictError(text("stop.gone", pid=pid, path=lock))
    return Holder(pid, lock)


def _signal(holder: Holder, number: signal.Signals) -> None:
    try:
        os.kill(holder.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise ForbiddenError(text("stop.foreign", pid=holder.pid)) from error


def _wait(holder: Holder, deadline: float, seconds: float, *, kill: bool) -> None:
    while lockfile.is_held(str(holder.lock)):
        if time.monotonic() > deadline:
            raise StopTimeoutError(
                text("stop.timeout", pid=holder.pid, seconds=f"{seconds:g}"),
                hint=text("stop.timeout_hint_kill" if kill else "stop.timeout_hint"),
            )
        time.sleep(POLL_SECONDS)
