"""What the trees of commands use: one look at all processes serves every command that asks.

psutil underneath. It counts for everybody, also for what the kernel's own groups would count better.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import psutil

from aiagent_coordinator.executors.base import Sample
from aiagent_coordinator.executors.processes import ticks_of
from aiagent_coordinator.runs import ShimIdentity

#: One look serves everybody who asks within this time.
FRESH_SECONDS = 0.5
#: One look at a time: it reads a file per process of the machine.
THREADS = 1

Key = tuple[int, int]


@dataclass(frozen=True)
class _Look:
    """Who was whose child at one moment."""

    at: float
    children: Mapping[int, list[psutil.Process]]


class Census:
    """Looks at the processes of this machine, seldom, and remembers who belonged to which command."""

    def __init__(self) -> None:
        self._look = _Look(float("-inf"), {})
        self._limiter = anyio.CapacityLimiter(THREADS)
        self._members: dict[Path, frozenset[Key]] = {}

    async def sample(
        self, directory: Path, shim: ShimIdentity, exact_above: int | None
    ) -> Sample | None:
        """What the tree below a shim uses now; None when the shim is gone."""
        return await anyio.to_thread.run_sync(
            self._sample, directory, shim, exact_above, limiter=self._limiter
        )

    def members(self, directory: Path) -> frozenset[Key]:
        """Processes that the last samples found in a command's tree, as (pid, start ticks)."""
        return self._members.get(directory, frozenset())

    def forget(self, directory: Path) -> None:
        """The command is over."""
        self._members.pop(directory, None)

    def _sample(
        self, directory: Path, shim: ShimIdentity, exact_above: int | None
    ) -> Sample | None:
        try:
            parent = psutil.Process(shim.pid)
            if ticks_of(parent) != shim.start_ticks:
                return None
            # What has ended and was waited for is counted by its parent, in the end by the shim.
            cpu_seconds = _cpu_seconds(parent)
        except (psutil.Error, OSError):
            return None
        memory_bytes, members = 0, set[Key]()
        tree = list(self._below(shim.pid))
        alive: list[psutil.Process] = []
        for one in tree:
            try:
                with one.oneshot():
                    cpu_seconds += _cpu_seconds(one)
                    memory_bytes += one.memory_info().rss
                    members.add((one.pid, ticks_of(one)))
                    alive.append(one)
            except (psutil.Error, OSError):
                continue
        is_exact = exact_above is not None and memory_bytes > exact_above
        if is_exact:
            memory_bytes = sum(_proportional(one) for one in alive)
        self._members[directory] = frozenset(members)
        return Sample(
            at=time.monotonic(),
            cpu_seconds=cpu_seconds,
            memory_bytes=memory_bytes,
            processes=len(alive),
            newest_start=max((started for _, started in members), default=0),
            memory_is_exact=is_exact,
        )

    def _below(self, pid: int) -> Iterator[psutil.Process]:
        if time.monotonic() - self._look.at > FRESH_SECONDS:
            self._look = _take()
        waiting = [pid]
        seen = {pid}
        while waiting:
            for child in self._look.children.get(waiting.pop(), ()):
                if child.pid not in seen:
                    seen.add(child.pid)
                    waiting.append(child.pid)
                    yield child


def _take() -> _Look:
    children: dict[int, list[psutil.Process]] = defaultdict(list)
    for one in psutil.process_iter():
        try:
            children[one.ppid()].append(one)
        except (psutil.Error, OSError):
            continue
    return _Look(time.monotonic(), children)


def _cpu_seconds(one: psutil.Process) -> float:
    times = one.cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def _proportional(one: psutil.Process) -> int:
    """Memory of one process with shared pages divided among those who share them, where told."""
    try:
        info = one.memory_full_info()
    except (psutil.Error, OSError):
        return 0
    return int(getattr(info, "pss", 0) or info.uss)
