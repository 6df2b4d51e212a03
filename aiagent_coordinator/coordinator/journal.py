"""The coordinator's own memory: every observation is here before it is acted on or sent.

A small SQLite file of its own, fully synchronous: what `write` has returned survives kill -9 and a
power cut. It is not the board: the server keeps that, and the two meet only over the wire.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup

from aiagent_coordinator.errors import StoreError
from aiagent_coordinator.pipeline.run import RunRecord, Stage

T = TypeVar("T")

#: Raised with every change of the tables below; another one is refused, not guessed at.
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE run (
  run_id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  purpose TEXT NOT NULL,
  slot INTEGER NOT NULL,
  stage TEXT NOT NULL,
  record TEXT NOT NULL
) STRICT;
-- One live run per line of work: the second guard beside the server's own.
CREATE UNIQUE INDEX run_live ON run (agent_id, project_id, purpose, slot) WHERE stage <> 'done';
CREATE TABLE stage (
  run_id TEXT NOT NULL,
  stage TEXT NOT NULL,
  began_at TEXT NOT NULL,
  ended_at TEXT,
  PRIMARY KEY (run_id, stage)
) STRICT;
CREATE TABLE outbox (
  run_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  tool TEXT NOT NULL,
  arguments TEXT NOT NULL,
  answer TEXT,
  acked_at TEXT,
  PRIMARY KEY (run_id, seq)
) STRICT;
"""

#: How long the outbox keeps a row after the server took it, for questions asked later.
OUTBOX_KEEP_HOURS = 24


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

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once it is on the disk.

        Units that wait at the same time are committed together; one that raises is undone alone.

        Raises:
            StoreError: the disk refused it; nothing of the unit is kept.
        """
        unit = _Unit(work)
        self._waiting.append(unit)
        self._wake.set()
        await unit.done.wait()
        if unit.error is not None:
            raise unit.error
        return unit.result

    async def run_writer(self) -> None:
        """Commit what waits, for as long as the journal is open."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            units, self._waiting = self._waiting, []
            # A commit that began is waited for: cancelling us must not lose its answer.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._commit, units, limiter=self._thread)
            for unit in units:
                unit.done.set()

    def _commit(self, units: Sequence[_Unit]) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for unit in units:
                connection.execute("SAVEPOINT unit")
                try:
                    unit.result = unit.work(connection)
                except Exception as error:  # noqa: BLE001 - handed to whoever asked for the write
                    connection.execute("ROLLBACK TO unit")
                    unit.error = error
                connection.execute("RELEASE unit")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for unit in units:
                unit.error = StoreError(
                    f"the journal could not be written: {error}",
                    hint="is the disk full?",
                    reason="disk",
                )

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query; it sees everything that was written before."""
        return await anyio.to_thread.run_sync(query, self._connection, limiter=self._thread)


@asynccontextmanager
async def open_journal(path: Path) -> AsyncGenerator[Journal]:
    """Open or make the journal and own its writer for as long as the block runs.

    Raises:
        StoreError: the file is damaged or of another version; it is left as it is.
    """
    connection = await anyio.to_thread.run_sync(_open, path)
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


def _open(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA busy_timeout=5000")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
        elif version != SCHEMA_VERSION:
            connection.close()
            raise StoreError(
                f"the journal {path} has version {version}, this program knows {SCHEMA_VERSION}",
                hint="use the program that wrote it",
            )
    except sqlite3.Error as error:
        raise StoreError(
            f"the journal {path} cannot be used: {error}",
            hint="move it away: runs are found again by their folders",
        ) from error
    return connection


# What the coordinator writes and asks. Each is a unit of work for `Journal.write` or `.read`.


def next_epoch(connection: sqlite3.Connection) -> int:
    """Begin a new life: count up and return the number that fences the lives before."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    epoch = int(row[0]) + 1 if row else 1
    connection.execute(
        "INSERT INTO meta VALUES ('epoch', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (str(epoch),),
    )
    return epoch


def save_record(connection: sqlite3.Connection, record: RunRecord, now: str) -> None:
    """Write a run as it is now: the stage before it ended, the one it is at begins."""
    connection.execute(
        "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run_id) DO UPDATE SET stage = excluded.stage, record = excluded.record",
        (
            record.run_id,
            record.agent_id,
            record.project_id,
            record.purpose,
            record.slot,
            record.stage,
            record.to_json(),
        ),
    )
    connection.execute(
        "UPDATE stage SET ended_at = ? WHERE run_id = ? AND stage <> ? AND ended_at IS NULL",
        (now, record.run_id, record.stage),
    )
    if record.stage is not Stage.DONE:
        connection.execute(
            "INSERT OR IGNORE INTO stage VALUES (?, ?, ?, NULL)", (record.run_id, record.stage, now)
        )


def forget_run(connection: sqlite3.Connection, run_id: str) -> None:
    """Drop an intent that came to nothing: the server said there was no work for it."""
    connection.execute("DELETE FROM run WHERE run_id = ?", (run_id,))
    connection.execute("DELETE FROM stage WHERE run_id = ?", (run_id,))
    connection.execute("DELETE FROM outbox WHERE run_id = ?", (run_id,))


def live_records(connection: sqlite3.Connection) -> list[RunRecord]:
    """Every run that is not done, oldest first."""
    rows = connection.execute("SELECT record FROM run WHERE stage <> 'done' ORDER BY run_id")
    return [RunRecord.from_json(row[0]) for row in rows.fetchall()]


def enqueue_report(
    connection: sqlite3.Connection, run_id: str, seq: int, tool: str, arguments: str
) -> tuple[str, str | None]:
    """Put a report into the outbox once; return what stands there: its arguments and its answer.

    A report that was written in an earlier life stays as it was written then.
    """
    connection.execute(
        "INSERT OR IGNORE INTO outbox (run_id, seq, tool, arguments) VALUES (?, ?, ?, ?)",
        (run_id, seq, tool, arguments),
    )
    row = connection.execute(
        "SELECT arguments, answer FROM outbox WHERE run_id = ? AND seq = ?", (run_id, seq)
    ).fetchone()
    return row[0], row[1]


def ack_report(
    connection: sqlite3.Connection, run_id: str, seq: int, answer: str, now: str
) -> None:
    """Keep the server's answer to a report."""
    connection.execute(
        "UPDATE outbox SET answer = ?, acked_at = ? WHERE run_id = ? AND seq = ?",
        (answer, now, run_id, seq),
    )


def prune(connection: sqlite3.Connection, before: str) -> int:
    """Drop what is done and was acknowledged before the given instant; return how many runs went."""
    connection.execute("DELETE FROM outbox WHERE acked_at < ?", (before,))
    old = connection.execute(
        "SELECT run_id FROM run WHERE stage = 'done' AND run_id NOT IN (SELECT run_id FROM outbox)"
    ).fetchall()
    for (run_id,) in old:
        forget_run(connection, run_id)
    return len(old)
