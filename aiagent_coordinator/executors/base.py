"""What the rest of the program knows of executors: values, and one protocol.

A run is known by its directory. Nothing here is kept in memory: whoever has the directory can
ask, wait and stop, also after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from aiagent_coordinator.runs import ShimIdentity


@dataclass(frozen=True)
class ServerAddress:
    """Where the bridge in a run directory finds the server."""

    socket: str
    #: Whether it is a server of ours, which understands hello and resend.
    ours: bool = True
    #: How long the bridge keeps a call open while no server answers.
    hold_seconds: float = 45


@dataclass(frozen=True)
class Caps:
    """What the system itself holds a command's tree to, as far as it can; None: no cap."""

    #: Per process.
    open_files: int | None = None
    #: Where no group of the kernel's counts the tree: a backstop far above this number.
    processes: int | None = None
    #: Only where a group of the kernel's counts the tree.
    memory_bytes: int | None = None
    #: The same; per cent of one core.
    cpu_percent: float | None = None

    @property
    def need_group(self) -> bool:
        """Whether a group of the kernel's has something to hold from the command's first moment."""
        return (self.processes, self.memory_bytes, self.cpu_percent) != (None, None, None)


@dataclass(frozen=True)
class LaunchSpec:
    """What is to be started, and how it may end. No secret but in `env`, which is never written."""

    run_id: str
    #: The first is an absolute path.
    argv: tuple[str, ...]
    cwd: Path
    #: The whole environment of the command.
    env: Mapping[str, str]
    #: The file `prompt`, nothing, or what `answer` is given, as long as it lives.
    stdin: Literal["prompt", "null", "answers"] = "null"
    #: How long the shim waits for `go`; None starts at once.
    gate_seconds: float | None = None
    #: Between TERM and KILL when it is stopped.
    grace_seconds: float = 5.0
    #: Whether what the command leaves behind is ended with it.
    kill_leftovers: bool = True
    server: ServerAddress | None = None
    caps: Caps = Caps()


@dataclass(frozen=True)
class ExitRecord:
    """How the command ended, as its shim wrote it down."""

    #: Exactly one of the two is set when the command ran.
    exit_code: int | None
    signal: int | None
    #: None, spawn_failed, not_started, stopped, killed, or oom: the kernel's word, not ours.
    reason: str | None
    error: str | None
    started_at: datetime | None
    ended_at: datetime | None
    cpu_seconds: float | None
    peak_rss_kib: int | None
    #: T or K when it was stopped by us.
    stop: str | None


class HoldState(StrEnum):
    """What a directory says about its command; exactly one at any time."""

    #: Nothing was ever started here.
    ABSENT = "absent"
    #: Something of it is alive.
    HELD = "held"
    #: Everything is gone; the record says how the command ended.
    RECORDED = "recorded"
    #: Everything is gone without a record; the command may have run.
    LOST = "lost"
    #: A start was tried, but the command was not started.
    NEVER_STARTED = "never_started"
    #: Everything is gone; the record cannot be read.
    BAD_RECORD = "bad_record"
    #: Another version made the directory; it is left alone.
    FOREIGN_FORMAT = "foreign_format"


@dataclass(frozen=True)
class Hold:
    """What is known of a command from its directory."""

    state: HoldState
    #: Who holds the lock; None until the shim said so.
    shim: ShimIdentity | None
    #: Present with RECORDED, and with HELD while what the command left behind is swept.
    record: ExitRecord | None
    started: bool
    #: Commands of processes that outlived the command itself, as they showed themselves.
    leftovers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """What a command's tree is at one moment: it and everything it started."""

    #: Seconds of a clock that never goes back.
    at: float
    #: User and system time so far, of what has ended too.
    cpu_seconds: float
    #: Resident; shared pages count once for each process unless `memory_is_exact`.
    memory_bytes: int
    processes: int
    #: Start of the process that came last: it grows when the command starts something.
    newest_start: int
    memory_is_exact: bool = False


class Executor(Protocol):
    """Runs commands that outlive their coordinator."""

    def inspect(self, directory: Path) -> Hold:
        """Say what the directory says. Reads a few small files; raises for no content of theirs."""
        ...

    async def hold(self, directory: Path, spec: LaunchSpec, shim_file: Path) -> Hold:
        """Make sure that the command of this directory is or was started, once.

        Absent: starts it and returns HELD. Never started: returned as it is where there is a gate
        (the caller decides), started again where there is none. Otherwise what `inspect` says.

        Raises:
            SpawnError: it cannot be started; nothing runs.
        """
        ...

    async def go(self, directory: Path) -> None:
        """Open the gate and return when the shim is starting the command, or never will. Idempotent.

        Raises:
            SpawnError: nothing listens at the gate and no record says why.
        """
        ...

    async def signal(self, directory: Path, how: Literal["T", "K"]) -> bool:
        """Stop the command's tree: T asks, waits the grace, kills; K kills. False: nobody listens."""
        ...

    async def answer(self, directory: Path, name: str, text: str) -> bool:
        """Give a text to the command's standard input, once under each name. False: nobody listens.

        Only where the spec says `answers`. Again under the same name changes nothing.
        """
        ...

    async def wait(self, directory: Path) -> Hold:
        """Return when nothing of the command is left. Cancelling it changes nothing.

        Where its shim died first, what the command left is ended here.
        """
        ...

    async def sample(self, directory: Path, *, exact_above: int | None = None) -> Sample | None:
        """Say what the tree uses now; None when it cannot be seen.

        Args:
            directory: The command's.
            exact_above: When more memory than this is in use, shared pages are counted once,
                which takes longer.
        """
        ...
