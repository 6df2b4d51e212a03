"""Processes of this machine and user, as watch and sweep need them: listed, told apart, ended.

A process is its number and its start; a signal goes to exactly that one or to nobody. Blocking:
called in threads.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil

from aiagent_coordinator.wire import process

#: Every process of a run has it in its environment, unless it cleared that.
TAG = "AIAGENT_RUN_ID"
#: Between asking a leftover to end and killing it.
ASK_SECONDS = 0.5
#: Between two looks: what forked meanwhile is seen by the second.
LOOK_AGAIN_SECONDS = 0.05
#: What cannot be ended in this time is another's business: stuck in the kernel, or not ours to kill.
GIVE_UP_SECONDS = 10.0
_MANAGERS = frozenset({"systemd", "launchd"})
#: Looks for who forked meanwhile before a round of KILL goes ahead without.
FREEZE_LOOKS = 5
#: Looks in a row that find nothing before it is believed.
CLEAN_LOOKS = 2


@dataclass(frozen=True)
class Seen:
    """One process, as it was when it was looked at."""

    pid: int
    #: In the unit of `wire.process.start_ticks`.
    started: int
    parent: int
    #: The run that its environment names.
    tag: str | None
    cwd: str | None
    has_terminal: bool
    command: str


def look() -> Iterator[Seen]:
    """Every living process of this user but ourselves; what vanishes meanwhile is left out.

    The newest first, as numbers are given upwards: what lives for a moment is met while it lives.
    """
    ours = os.getuid()
    for pid in reversed(psutil.pids()):
        try:
            one = psutil.Process(pid)
            with one.oneshot():
                if one.uids().real != ours or one.pid == os.getpid():
                    continue
                if one.status() == psutil.STATUS_ZOMBIE:
                    continue
                yield Seen(
                    one.pid,
                    ticks_of(one),
                    one.ppid(),
                    _environment(one).get(TAG),
                    _cwd(one),
                    bool(one.terminal()),
                    " ".join(one.cmdline()) or one.name(),
                )
        except (psutil.Error, OSError):
            continue


def ticks_of(one: psutil.Process) -> int:
    """When it started, in the unit of `wire.process.start_ticks`."""
    if sys.platform.startswith("linux"):
        return process.start_ticks(one.pid) or 0
    return int(one.create_time())


def orphanages() -> frozenset[int]:
    """Processes that take in orphans of this user: init, and a session's service manager."""
    found = {1}
    for one in psutil.process_iter():
        try:
            if one.ppid() == 1 and one.name() in _MANAGERS:
                found.add(one.pid)
        except (psutil.Error, OSError):
            continue
    return frozenset(found)


def tasks_of_user() -> int:
    """How many threads this user's processes have now: what the kernel counts as processes."""
    ours, count = os.getuid(), 0
    for one in psutil.process_iter():
        try:
            with one.oneshot():
                count += one.num_threads() if one.uids().real == ours else 0
        except (psutil.Error, OSError):
            continue
    return count


def _environment(one: psutil.Process) -> dict[str, str]:
    try:
        return one.environ()
    except (psutil.Error, OSError):
        return {}


def _cwd(one: psutil.Process) -> str | None:
    try:
        return one.cwd()
    except (psutil.Error, OSError):
        return None


def send(one: Seen, number: signal.Signals) -> None:
    """Signal that very process, or nobody when its number belongs to another by now."""
    handle = -1
    try:
        handle = os.pidfd_open(one.pid)
    except (AttributeError, OSError) as error:
        if isinstance(error, ProcessLookupError):
            return
    try:
        if process.start_ticks(one.pid) != one.started:
            return
        if handle < 0:
            os.kill(one.pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except OSError:
        pass  # it ended by itself, or is not ours to signal
    finally:
        if handle >= 0:
            os.close(handle)


def end_group(leader: int, started: int, is_ours: Callable[[Seen], bool]) -> list[Seen]:
    """Kill a process group whole, whatever forks in it meanwhile; returns who was in it.

    The kernel signals all of a group in one step, and gives its number to nobody else while it has
    members. A group of that number in which nobody is ours is set going again.

    Args:
        leader: The process that made the group, which may be gone.
        started: When that one started, in the unit of `wire.process.start_ticks`.
        is_ours: Whether a member belongs to whom we mean.
    """
    now = process.start_ticks(leader)
    if leader <= 1 or leader == os.getpgrp() or now not in (None, started):
        return []
    try:
        os.killpg(leader, signal.SIGSTOP)
    except OSError:
        return []
    members: list[Seen] = []
    try:
        found = [one for one in look() if _group_of(one.pid) == leader]
        if any(is_ours(one) for one in found):
            members = found
    finally:
        # whatever went wrong: nobody stays stopped
        with suppress(OSError):
            os.killpg(leader, signal.SIGKILL if members else signal.SIGCONT)
    return members


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def end_all(find: Callable[[], Iterable[Seen]]) -> list[Seen]:
    """End what is found, and what is found again: ask, then kill, until looks find nothing.

    Bounded. Returns everything that was found, each once.
    """
    began = time.monotonic()
    ended: dict[tuple[int, int], Seen] = {}
    clean = 0
    while clean < CLEAN_LOOKS and time.monotonic() - began < GIVE_UP_SECONDS:
        found = list(find())
        clean = 0 if found else clean + 1
        is_asking = time.monotonic() - began < ASK_SECONDS
        if not is_asking:
            found = _frozen(find, found)
        for one in found:
            key = (one.pid, one.started)
            if not is_asking:
                send(one, signal.SIGKILL)
            elif key not in ended:
                send(one, signal.SIGTERM)
            ended[key] = one
        if clean < CLEAN_LOOKS:
            time.sleep(LOOK_AGAIN_SECONDS)
    return list(ended.values())


def _frozen(find: Callable[[], Iterable[Seen]], found: list[Seen]) -> list[Seen]:
    """Stop what is found, and what that forked meanwhile: stopped, nobody replaces who is killed."""
    stopped: dict[tuple[int, int], Seen] = {}
    for _ in range(FREEZE_LOOKS):
        new = [one for one in found if (one.pid, one.started) not in stopped]
        if not new:
            break
        for one in new:
            send(one, signal.SIGSTOP)
            stopped[one.pid, one.started] = one
        found = list(find())
    return list(stopped.values())
