"""Writes to a journal until it is killed or fails: prints each name once its commit was acknowledged.

journal_writer.py FILE LIFE [COUNT]
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from aiagent_coordinator.coordinator import entries
from aiagent_coordinator.coordinator.journal import Journal, open_journal
from aiagent_coordinator.errors import CoordinatorError

WRITERS = 4
NOW = "2026-01-01T00:00:00.000000Z"


async def write(journal: Journal, life: str, writer: int, count: int) -> None:
    for number in range(count):
        name = f"run_{life}_{writer}_{number}"
        try:
            await journal.write(
                lambda connection, name=name: entries.enqueue_report(connection, name, 1, "t", "{}")
            )
        except CoordinatorError as error:
            # As a driver does: it tries again, whatever it was told.
            sys.stdout.write(f"refused {error.message}\n")
            sys.stdout.flush()
            await anyio.sleep(0.05)
            continue
        # One write call of one line: a kill cannot leave half a name that looks whole.
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


async def main() -> None:
    file, life, *count = sys.argv[1:]
    async with open_journal(Path(file)) as journal:
        await journal.begin_life(Path(file).with_name("epoch"))
        async with anyio.create_task_group() as group:
            for writer in range(WRITERS):
                group.start_soon(write, journal, life, writer, int(count[0]) if count else 10**9)


if __name__ == "__main__":
    ended = None
    try:
        anyio.run(main)
    except* CoordinatorError as errors:
        # not left from in here: before Python 3.11.4 that becomes a group of its own
        ended = f"ended: {errors.exceptions[0]!r}"
    sys.exit(ended)
