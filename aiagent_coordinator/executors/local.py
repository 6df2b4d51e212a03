"""Runs commands on this machine, each under its own shim that outlives us.

We hold no pipe to anything and signal no process number: words go through the FIFO `ctl`,
liveness is the lock, the end is a file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import anyio
import anyio.to_thread

from aiagent_coordinator.errors import SpawnError
from aiagent_coordinator.executors import cgroup, children, inspection, leftovers, words
from aiagent_coordinator.executors.base import Hold, HoldState, LaunchSpec, Sample
from aiagent_coordinator.executors.programs import program_of, python
from aiagent_coordinator.executors.spec_file import write_spec
from aiagent_coordinator.executors.watch import Census
from aiagent_coordinator.runs import ShimIdentity
from aiagent_coordinator.wire import process

T = TypeVar("T")

#: How long a new shim may take to say who it is, and to listen: Python's start on a busy machine.
TAKE_OVER_SECONDS = 30.0
#: How long `go` waits for the command's exec; a hanging file system is the usual reason for more.
GO_SECONDS = 60.0
#: Steps of short waits for another process: quick at first, so that a start costs no extra step.
POLL_SECONDS = (0.002, 0.05)
#: Between the lock's freedom and the end of the process lies the kernel's tidying up alone.
GONE_SECONDS = 1.0
#: Where there is no pidfd, the lock is looked at this often.
LOCK_POLL_SECONDS = 0.1
#: Beside a pidfd the lock is looked at this often: a safety net, not a clock.
SAFETY_NET_SECONDS = 30.0
#: What the system says when it has no process or no memory to give just now.
PASSING = frozenset({errno.EAGAIN, errno.ENOMEM})
#: Seconds between tries of a start that the system refuses so.
SPAWN_PAUSES = (0.2, 0.5, 1.0, 2.0)
#: Threads for the few files of a start; they are cheap but may meet a slow disk.
THREADS = 8


class LocalExecutor:
    """Runs commands as processes of this machine and user."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(THREADS)
        self._census = Census()

    def inspect(self, directory: Path) -> Hold:
        """Say what the directory says; see `inspection.inspect`."""
        return inspection.inspect(directory)

    async def hold(self, directory: Path, spec: LaunchSpec, shim_file: Path) -> Hold:
        """Make sure that the command is or was started, once; see `Executor.hold`.

        Returns as soon as the shim exists and holds the lock; `go` and `wait` tell if it dies early.
        """
        pause = _Pause(TAKE_OVER_SECONDS)
        refusals = iter(SPAWN_PAUSES)
        anew = spec.gate_seconds is None
        while True:
            try:
                found = await self._in_thread(
                    partial(self._hold_now, directory, spec, shim_file, anew)
                )
            except SpawnError as error:
                rest = next(refusals, None) if _passes(error) else None
                if rest is None:
                    raise
                anew = True
                await anyio.sleep(rest)
                continue
            if found is not None:
                return found
            if not await pause.sleep():
                raise SpawnError(f"the lock of {directory.name} is held by something unknown")

    async def go(self, directory: Path) -> None:
        """Open the gate; see `Executor.go`."""
        gate = -1
        # The word waits for the shim; only our answer waits for the next look.
        pause = _Pause(GO_SECONDS, first=0.02)
        try:
            while True:
                found = await self._in_thread(lambda: self.inspect(directory))
                if found.started or found.record or found.state is HoldState.BAD_RECORD:
                    return
                if found.state is not HoldState.HELD:
                    name = directory.name
                    raise SpawnError(f"the shim of {name} ended before its command started")
                if gate < 0:
                    gate = await self._in_thread(lambda: words.open_gate(directory))
                if not await pause.sleep():
                    raise SpawnError(f"the shim of {directory.name} does not answer")
        finally:
            if gate >= 0:
                os.close(gate)

    async def signal(self, directory: Path, how: Literal["T", "K"]) -> bool:
        """Stop the tree; see `Executor.signal`."""
        pause = _Pause(TAKE_OVER_SECONDS)
        while True:
            if await self._in_thread(lambda: words.say(directory, how.encode())):
                return True
            # Nobody at the FIFO: over, or a shim that is about to listen.
            if not await self._in_thread(lambda: inspection.is_held(directory)):
                return False
            if not await pause.sleep():
                return False

    async def answer(self, directory: Path, name: str, text: str) -> bool:
        """Give a text to the command's standard input; see `Executor.answer`."""

        def put() -> bool:
            words.keep_answer(directory / "answers", name, text)
            return words.say(directory, b"A")

        return await self._in_thread(put)

    async def wait(self, directory: Path) -> Hold:
        """Return when nothing of the command is left; see `Executor.wait`."""
        while True:
            found = await self._in_thread(lambda: self.inspect(directory))
            if found.state is not HoldState.HELD:
                await _see_off(directory)
                return await self._in_thread(partial(self._clear, directory, found))
            handle = _open_process(found.shim)
            if handle is None:
                # A new shim says who it is within milliseconds; a short command ends soon after.
                await anyio.sleep(LOCK_POLL_SECONDS if found.shim else POLL_SECONDS[0])
                continue
            try:
                with anyio.move_on_after(SAFETY_NET_SECONDS) as scope:
                    await anyio.wait_readable(handle)
            finally:
                os.close(handle)
            children.reap()
            if not scope.cancelled_caught and await self._in_thread(
                lambda: inspection.is_held(directory)
            ):
                # The shim is gone but a copy of its lock is not: a fork of somebody that ends soon.
                await anyio.sleep(POLL_SECONDS[1])

    async def sample(self, directory: Path, *, exact_above: int | None = None) -> Sample | None:
        """Say what the tree uses; see `Executor.sample`."""
        found = await self._in_thread(lambda: self.inspect(directory))
        if found.state is not HoldState.HELD or found.shim is None:
            return None
        return await self._census.sample(directory, found.shim, exact_above)

    def _clear(self, directory: Path, found: Hold) -> Hold:
        """End what a shim could not: it was killed, or orphans escape it on this system."""
        known = self._census.members(directory)
        self._census.forget(directory)
        cgroup.remove(directory)
        if not found.started or (found.record is not None and not _escapes(directory)):
            return found
        leftovers.clear(directory, known)
        return self.inspect(directory)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        # Not abandoned on cancellation: what was spawned is always known to be.
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)

    def _hold_now(
        self, directory: Path, spec: LaunchSpec, shim_file: Path, anew: bool
    ) -> Hold | None:
        """One try; None: somebody holds the lock and has not said who.

        Anew: a start that left no trace but its lock may be repeated.
        """
        children.reap()
        found = self.inspect(directory)
        match found.state:
            case HoldState.HELD:
                return found if found.shim else None
            case HoldState.ABSENT:
                pass
            case HoldState.NEVER_STARTED if anew:
                pass
            case _:
                return self._clear(directory, found)
        try:
            return self._start(directory, spec, shim_file)
        except OSError as error:
            what = error.filename or directory
            raise SpawnError(f"{what}: {error.strerror}", run_id=spec.run_id) from error
        except ValueError as error:
            raise SpawnError(f"the environment: {error}", run_id=spec.run_id) from error

    def _start(self, directory: Path, spec: LaunchSpec, shim_file: Path) -> Hold | None:
        """Take the lock, write what the shim reads, start it. The lock passes to it with the fork."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        lock = os.open(directory / "lock", flags, 0o600)
        try:
            if not _is_taken(lock):
                return None
            found = inspection.classify(directory, held=False)
            if found.state is not HoldState.NEVER_STARTED:
                return found  # another start got further while we took the lock
            os.pwrite(lock, b" " * (inspection.LOCK_BYTES - 1) + b"\n", 0)
            write_spec(directory, spec)
            words.make_fifo(directory / "ctl")
            if spec.stdin == "answers":
                (directory / "answers").mkdir(mode=0o700, exist_ok=True)
            pid = self._spawn(directory, spec, shim_file, lock)
        except (OSError, ValueError):
            cgroup.remove(directory)
            raise
        finally:
            # Closed, never unlocked: the shim shares this lock.
            os.close(lock)
        ticks = process.start_ticks(pid)
        shim = ShimIdentity(pid, ticks or 0, process.boot_id())
        return Hold(HoldState.HELD, shim, None, started=False)

    def _spawn(self, directory: Path, spec: LaunchSpec, shim_file: Path, lock: int) -> int:
        child = subprocess.Popen(
            [python(), "-I", "-S", program_of(shim_file), os.fspath(directory), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=spec.env,
            pass_fds=(lock,),
            start_new_session=True,
        )
        children.add(child.pid, directory)
        # We reap it by its number: a Popen that goes away would complain that the shim lives on.
        child.returncode = 0
        return child.pid


async def _see_off(directory: Path) -> None:
    """Reap the shim of a directory: its lock is free a moment before it is gone."""
    pause = _Pause(GONE_SECONDS)
    children.reap()
    while children.has_any(directory) and await pause.sleep():
        children.reap()


class _Pause:
    """Growing pauses up to a deadline."""

    def __init__(self, seconds: float, first: float = POLL_SECONDS[0]) -> None:
        self._deadline = anyio.current_time() + seconds
        self._next = first

    async def sleep(self) -> bool:
        """Sleep a little; False when the time is over."""
        await anyio.sleep(self._next)
        self._next = min(self._next * 1.5, POLL_SECONDS[1])
        return anyio.current_time() < self._deadline


def _passes(error: SpawnError) -> bool:
    """Whether the system had just no process or no memory to give."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in PASSING


def _is_taken(lock: int) -> bool:
    """Take the lock; False when a shim has it, or for a moment somebody who looks at it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _escapes(directory: Path) -> bool:
    """Whether orphans of this command may live on although its shim saw it to its end."""
    return not sys.platform.startswith("linux") and inspection.kills_leftovers(directory)


def _open_process(shim: ShimIdentity | None) -> int | None:
    """A pidfd of that very process, or None where it cannot be had or is somebody else by now."""
    if shim is None or not hasattr(os, "pidfd_open"):
        return None
    try:
        handle = os.pidfd_open(shim.pid)
    except OSError:
        return None
    if shim.boot_id == process.boot_id() and process.start_ticks(shim.pid) == shim.start_ticks:
        return handle
    os.close(handle)
    return None
