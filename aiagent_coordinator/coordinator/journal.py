"""The coordinator's own memory: every observation is here before it is acted on or sent.

A small SQLite file of its own, fully synchronous: what `write` has returned survives kill -9 and a
power cut. It is not the board: the server keeps that, and the two meet only over the wire.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup

from aiagent_coordinator.clock import Clock, SystemClock
from aiagent_coordinator.coordinator.entries import next_epoch
from aiagent_coordinator.coordinator.journal_file import open_or_set_aside
from aiagent_coordinator.errors import CoordinatorError, OvertakenError, StoreError

T = TypeVar("T")

#: After a failed fsync the system may have dropped what it was given: success later means nothing.
LOST_BY_THE_DISK = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


@dataclass
class _Unit:
    """One write waiting for its turn, and where its result goes."""

    work: Callable[[sqlite3.Connection], Any]
    done: anyio.Event = field(default_factory=anyio.Event)
    result: Any = None
    error: BaseException | None = None


class Journal:
    """The open journal. One writer; writes that wait together share one commit."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: list[_Unit] = []
        self._wake = anyio.Event()
        self._thread = anyio.CapacityLimiter(1)
        self._fence: _Fence | None = None
        #: Why nothing may be written any more, if so.
        self._broken: CoordinatorError | None = None

    async def begin_life(self, epoch_file: Path, floor: int = 0) -> int:
        """Count up and return the number of this life. From then on a higher one fences us.

        The number stands in a file of its own too: a journal that was lost or put back from a copy
        must not repeat one. The server refuses what comes with a number lower than it knows.

        Args:
            epoch_file: Where the number stands beside the journal.
            floor: No lower number may be given, whatever the two say.

        Raises:
            StoreError: it cannot be written.
        """
        known = await anyio.to_thread.run_sync(_read_number, epoch_file)
        floor = max(floor, (known or 0) + 1)
        epoch = await self.write(lambda connection: next_epoch(connection, floor))
        await anyio.to_thread.run_sync(_write_number, epoch_file, epoch)
        self._fence = _Fence(epoch_file, epoch)
        return epoch

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once it is on the disk.

        Units that wait at the same time are committed together; one that raises is undone alone.

        Raises:
            StoreError: the disk refused it; nothing of the unit is kept.
            OvertakenError: a later life writes here now; nothing of the unit is kept.
        """
        if self._broken is not None:
            raise self._broken
        unit = _Unit(work)
        self._waiting.append(unit)
        self._wake.set()
        await unit.done.wait()
        if unit.error is not None:
            raise unit.error
        return unit.result

    async def run_writer(self) -> None:
        """Commit what waits, for as long as the journal is open.

        Raises:
            OvertakenError: a later life writes here now.
            StoreError: the disk lost what it was given: what it says from now on proves nothing.
        """
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            units, self._waiting = self._waiting, []
            # A commit that began is waited for: cancelling us must not lose its answer.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._commit, units, limiter=self._thread)
            for unit in units:
                unit.done.set()
            if self._broken is not None:
                raise self._broken

    def _commit(self, units: Sequence[_Unit]) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            if self._fence is not None:
                self._fence.check(connection)
            for unit in units:
                connection.execute("SAVEPOINT unit")
                try:
                    unit.result = unit.work(connection)
                except Exception as error:  # noqa: BLE001 - handed to whoever asked for the write
                    connection.execute("ROLLBACK TO unit")
                    unit.error = error
                connection.execute("RELEASE unit")
            connection.execute("COMMIT")
        except OvertakenError as error:
            self._broken = error
            self._undo(units, error)
        except sqlite3.Error as error:
            failure = StoreError(
                f"the journal could not be written: {error}",
                hint="is the disk full?",
                reason="disk",
            )
            if getattr(error, "sqlite_errorcode", 0) in LOST_BY_THE_DISK:
                self._broken = failure
            self._undo(units, failure)

    def _undo(self, units: Sequence[_Unit], error: CoordinatorError) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        for unit in units:
            unit.error = error

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query; it sees everything that was written before."""
        return await anyio.to_thread.run_sync(query, self._connection, limiter=self._thread)


@dataclass(frozen=True)
class _Fence:
    """What says whether this life is still the last: the journal, and the file beside it."""

    file: Path
    epoch: int

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise OvertakenError when a later life has begun.

        The file counts too: a later life may write another journal than the one we hold open.
        """
        row = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        known = max(int(row[0]) if row else 0, _read_number(self.file) or 0)
        if known > self.epoch:
            raise OvertakenError(
                f"life {known} of this coordinator has begun, this is life {self.epoch}",
                hint="the later process looks after the runs",
                epoch=self.epoch,
                later=known,
            )


def _read_number(file: Path) -> int | None:
    try:
        return int(file.read_bytes()[:32])
    except (OSError, ValueError):
        return None


def _write_number(file: Path, number: int) -> None:
    draft = file.with_suffix(".tmp")
    try:
        with draft.open("wb") as stream:
            stream.write(b"%d\n" % number)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror}", reason="disk") from error


@asynccontextmanager
async def open_journal(
    path: Path, quarantine: Path | None = None, clock: Clock | None = None
) -> AsyncGenerator[Journal]:
    """Open or make the journal and own its writer for as long as the block runs.

    Args:
        path: The file.
        quarantine: Where a damaged one goes; a folder beside it by default.
        clock: The time in the name of what is set aside.

    Raises:
        StoreError: the file cannot be opened, or is of another version; it is left as it is.
    """
    quarantine = quarantine or path.with_name("quarantine")
    connection = await anyio.to_thread.run_sync(
        open_or_set_aside, path, quarantine, clock or SystemClock()
    )
    journal = Journal(connection)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.run_writer)
            try:
                yield journal
            finally:
                _end(tasks)
    finally:
        connection.close()


def _end(tasks: TaskGroup) -> None:
    tasks.cancel_scope.cancel()
