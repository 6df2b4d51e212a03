"""Which folders of runs go: those that are over, by age and by size. Nothing else, ever.

A folder says by itself whether its run is over: its record's last copy is written when every report was
taken. So `gc` decides the same with and without a coordinator beside it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR

import anyio

from aiagent_coordinator.clock import Clock
from aiagent_coordinator.executors import inspection
from aiagent_coordinator.pipeline.copies import LIVE, OVER
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: The first look comes when the start is over; then now and then.
FIRST_SECONDS = 60.0
AGAIN_SECONDS = 3600.0
#: A start that was killed before its intent was journaled leaves a folder with a token; so long it stays.
UNBORN_SECONDS = 86400.0
#: Folders that are removed at a stretch.
BATCH = 20
#: A folder that is being removed carries this: what a kill leaves of it is nobody's run.
REMOVING = ".removing"
DAY = 86400.0


@dataclass(frozen=True)
class Retention:
    """What is kept of runs that are over."""

    age_seconds: float = 30 * DAY
    #: Of all of them together.
    size_bytes: int = 10_000_000_000


@dataclass(frozen=True)
class Ended:
    """The folder of a run that is over: when it was, in seconds since 1970, and what it takes."""

    name: str
    ended_at: float
    size_bytes: int


def choose(ended: Iterable[Ended], retention: Retention, now: float) -> list[Ended]:
    """Which of the folders go, oldest first. Pure."""
    oldest = sorted(ended, key=lambda one: (one.ended_at, one.name))
    excess = sum(one.size_bytes for one in oldest) - retention.size_bytes
    going: list[Ended] = []
    for one in oldest:
        if now - one.ended_at <= retention.age_seconds and excess <= 0:
            break  # what is younger is kept too
        going.append(one)
        excess -= one.size_bytes
    return going


def ended_runs(runs: Path, now: float) -> list[Ended]:
    """Every folder here of a run that is over: told, taken, and with nothing left of it alive. Blocking."""
    found: list[Ended] = []
    try:
        names = os.listdir(runs)  # noqa: PTH208 - names, not paths
    except OSError:
        return found
    for name in names:
        folder = runs / name
        ended_at = _ended_at(folder, now)
        if ended_at is not None and not inspection.is_held(folder):
            found.append(Ended(name, ended_at, _size(folder)))
    return found


def _ended_at(folder: Path, now: float) -> float | None:
    """When the run of a folder was over; None while it is not, or where nothing of ours says so."""
    if folder.name.endswith(REMOVING):
        return 0.0
    version = inspection.read_plain(folder / "format", 64)
    if version is not None and version.strip() != inspection.FORMAT:
        return None
    over = _time(folder / OVER)
    if over is not None:
        return over
    if _time(folder / LIVE) is not None:
        return None
    token, lock = _time(folder / "token"), _time(folder / "lock")
    if token is None and version is not None:
        # An older version kept no record; the token went when everything was told.
        return _time(folder / "exit") or _time(folder)
    if token is not None and lock is None and now - token > UNBORN_SECONDS:
        return token
    return None


def _time(path: Path) -> float | None:
    try:
        return path.lstat().st_mtime
    except OSError:
        return None


def _size(folder: Path) -> int:
    """What a folder takes on the disk; sparse files count for what they take."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                info = os.lstat(os.path.join(place, name))  # noqa: PTH118 - a hundred thousand files
            except OSError:
                continue
            total += 0 if S_ISDIR(info.st_mode) else info.st_blocks * 512
    return total


def remove(runs: Path, ended: Iterable[Ended]) -> list[Ended]:
    """Remove the folders; returns those that are gone. A kill in between costs nothing. Blocking."""
    gone: list[Ended] = []
    for one in ended:
        folder = runs / one.name
        doomed = folder if one.name.endswith(REMOVING) else folder.with_name(one.name + REMOVING)
        try:
            if doomed != folder:
                folder.rename(doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            log_event(
                logger,
                logging.WARNING,
                "gc.failed",
                "a run's folder could not be removed",
                run_id=one.name,
                error=str(error),
            )
            continue
        gone.append(one)
    return gone


async def collect(runs: Path, retention: Retention, now: float) -> list[Ended]:
    """Remove what is too old or too much, a little at a time; returns what is gone."""
    ended = await anyio.to_thread.run_sync(ended_runs, runs, now)
    going = choose(ended, retention, now)
    gone: list[Ended] = []
    for first in range(0, len(going), BATCH):
        # A thread cannot be cancelled: whoever stops us waits for one batch, not for all.
        batch = going[first : first + BATCH]
        gone += await anyio.to_thread.run_sync(remove, runs, batch)
    return gone


async def keep_tidy(runs: Path, retention: Retention, clock: Clock) -> None:
    """Collect now and then until cancelled."""
    await anyio.sleep(FIRST_SECONDS)
    while True:
        gone = await collect(runs, retention, clock.now().timestamp())
        if gone:
            log_event(
                logger,
                logging.INFO,
                "gc.done",
                "folders of ended runs were removed",
                count=len(gone),
                bytes=sum(one.size_bytes for one in gone),
            )
        await anyio.sleep(AGAIN_SECONDS)
