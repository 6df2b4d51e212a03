"""Takes up what nobody looks after: at every start, and again at every pass.

What becomes of a run is decided by its stages, as for any other: its lock is held → it is watched
again; there is a record of its exit → that is told; it never began → its task is queued again; neither
→ it is lost. Here only the runs themselves are found: in the journal, and in the run directories where
the journal was lost, is older than they are, or was made anew.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from aiagent_coordinator.clock import iso
from aiagent_coordinator.coordinator import entries
from aiagent_coordinator.coordinator.journal import Journal
from aiagent_coordinator.coordinator.keeping import keep
from aiagent_coordinator.coordinator.supervisor import Supervisor
from aiagent_coordinator.executors import inspection
from aiagent_coordinator.executors.base import HoldState
from aiagent_coordinator.pipeline.copies import LIVE, is_over, read_copy, write_copy
from aiagent_coordinator.pipeline.run import RunRecord, Stage
from aiagent_coordinator.telemetry import log_event

logger = logging.getLogger(__name__)

#: Passes follow each other closely while much happens; what this finds can wait so long.
AGAIN_SECONDS = 2.0
_ORDER = {stage: place for place, stage in enumerate(Stage)}


@dataclass
class Found:
    """What a look at the run directories brought to light."""

    #: Records that the journal does not have, or has as they were at an earlier stage.
    newer: list[RunRecord] = field(default_factory=list[RunRecord])
    #: Runs to be driven on, as the journal has them.
    left: list[RunRecord] = field(default_factory=list[RunRecord])
    #: Folders of another version's making: neither read nor touched.
    foreign: list[str] = field(default_factory=list[str])
    #: Folders that need no second look.
    settled: set[str] = field(default_factory=set[str])


class Recovery:
    """Finds runs without a driver. Belongs to the task that makes the passes."""

    def __init__(self, journal: Journal, supervisor: Supervisor) -> None:
        self._journal = journal
        self._supervisor = supervisor
        self._settled: set[str] = set()
        self._looked_at: float | None = None
        self._foreign: set[str] = set()

    async def look(self, tasks: TaskGroup) -> None:
        """Find every run that is not over and that nobody drives, and drive it on.

        Raises:
            StoreError: the journal cannot be read or written.
        """
        now = self._supervisor.context.clock.monotonic()
        if self._looked_at is not None and now - self._looked_at < AGAIN_SECONDS:
            return
        self._looked_at = now
        driven = set(self._supervisor.runs) | self._foreign
        undriven = [
            record
            for record in await self._journal.read(entries.live_records)
            if record.run_id not in driven
        ]
        known = await self._journal.read(entries.known_runs)
        folder = self._supervisor.context.state.runs
        found = await anyio.to_thread.run_sync(look, folder, undriven, known, self._settled)
        self._settled = found.settled
        for name in found.foreign:
            self._leave(name)
        for record in [*await self._restore(found.newer), *found.left]:
            if record.run_id not in self._foreign:
                await self._adopt(record, tasks)

    def _leave(self, name: str) -> None:
        if name in self._foreign:
            return
        self._foreign.add(name)
        log_event(
            logger,
            logging.ERROR,
            "run.foreign",
            "a run directory of another version's making: it is left as it is",
            run_id=name,
        )

    async def _restore(self, records: Sequence[RunRecord]) -> list[RunRecord]:
        """Journal what only the run directories know; returns what is to be driven on."""
        restored: list[RunRecord] = []
        context = self._supervisor.context
        now = iso(context.clock.now()) or ""
        for record in records:
            try:
                await keep(self._journal, context.state.runs, [record], now)
            except sqlite3.IntegrityError as error:
                # Two runs of one slot: the journal's own stands, the server says what the other is.
                log_event(
                    logger,
                    logging.ERROR,
                    "run.failed",
                    "a run's record does not fit to the journal",
                    run_id=record.run_id,
                    error=str(error),
                )
                continue
            log_event(
                logger,
                logging.WARNING,
                "run.restored",
                "the journal did not know how far this run is; its folder does",
                run_id=record.run_id,
                stage=record.stage.value,
            )
            if record.stage is not Stage.DONE:
                restored.append(record)
        return restored

    async def _adopt(self, record: RunRecord, tasks: TaskGroup) -> None:
        context = self._supervisor.context
        folder = context.state.run(record.run_id)
        held = await anyio.to_thread.run_sync(context.executor.inspect, folder)
        if held.state is HoldState.FOREIGN_FORMAT:
            self._leave(record.run_id)
            return
        if record.stage in {Stage.LAUNCH, Stage.WATCH} and held.state is HoldState.HELD:
            log_event(
                logger,
                logging.INFO,
                "run.adopted",
                "adopted, it was still running",
                run_id=record.run_id,
                task_id=record.task["id"],
            )
        self._supervisor.adopt(record, tasks)


def look(
    runs: Path, undriven: Sequence[RunRecord], known: Collection[str], settled: Collection[str]
) -> Found:
    """Compare the journal with the run directories. Blocking; reads little of what is over.

    Args:
        runs: The folder of the run directories.
        undriven: What the journal has of runs that are not over and have no driver.
        known: Every run that the journal knows.
        settled: Folders that were looked at before and need no second look.
    """
    found = Found()
    for record in undriven:
        _compare(record, runs / record.run_id, found)
    names = set(_names(runs))
    found.settled = names & set(settled)
    for name in sorted(names - found.settled):
        folder = runs / name
        found.settled.add(name)
        if _is_foreign(folder):
            found.foreign.append(name)
        elif name not in known and os.path.lexists(folder / LIVE):
            record = read_copy(folder)
            if record is not None and record.stage is not Stage.DONE:
                found.newer.append(record)
    return found


def _compare(record: RunRecord, folder: Path, found: Found) -> None:
    """Take the later of what journal and folder say of one run."""
    if is_over(folder):
        found.newer.append(record.at(Stage.DONE))
        return
    copy = read_copy(folder)
    if copy is not None and _ORDER[copy.stage] > _ORDER[record.stage]:
        found.newer.append(copy)
        return
    if copy is None and folder.is_dir():
        write_copy(folder, record)
    found.left.append(record)


def _is_foreign(folder: Path) -> bool:
    version = inspection.read_plain(folder / "format", 64)
    return version is not None and version.strip() != inspection.FORMAT


def _names(runs: Path) -> list[str]:
    try:
        return os.listdir(runs)  # noqa: PTH208 - ten thousand names, no paths wanted
    except OSError:
        return []
