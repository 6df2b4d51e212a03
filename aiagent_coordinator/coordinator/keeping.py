"""Keeps run records: in the journal first, then beside the runs' files."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import anyio

from aiagent_coordinator.coordinator import entries
from aiagent_coordinator.coordinator.journal import Journal
from aiagent_coordinator.pipeline.copies import write_copy
from aiagent_coordinator.pipeline.run import RunRecord


async def keep(journal: Journal, runs: Path, records: Sequence[RunRecord], now: str) -> None:
    """Journal the records in one commit, then put copies beside their runs' files.

    Raises:
        StoreError: the journal cannot be written; nothing is kept.
    """

    def unit(connection: sqlite3.Connection) -> None:
        for record in records:
            entries.save_record(connection, record, now)

    def copies() -> None:
        for record in records:
            write_copy(runs / record.run_id, record)

    await journal.write(unit)
    await anyio.to_thread.run_sync(copies)
